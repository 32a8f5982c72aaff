"""The study as a script: an Optuna study in SQLite whose grid is enqueued, and a torchrun for every trial.

    python -m benchmarks.baseline.study STUDY.json OUT

What a competent person writes without ablate, and what `ablate run` is timed against (benchmarks/rate.py). STUDY.json
holds `arms` (name -> recipe), `seeds`, `metric`, `goal` (min or max), `metrics`, `ranks`, `threads`, `data` (a folder
of PNG pairs: split/sar, split/optical), `tracking` (an MLflow URI). Trials, the database and a table land in OUT.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna

ROOT = Path(__file__).resolve().parents[2]


def run(study: dict[str, Any], out: Path) -> float:
    """Run all trials; seconds from the first trial's start to the last one's end."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    direction = "maximize" if study["goal"] == "max" else "minimize"
    made = optuna.create_study(
        storage=f"sqlite:///{out / 'optuna.db'}", study_name=out.name, direction=direction, load_if_exists=True
    )
    for seed in study["seeds"]:
        for arm in study["arms"]:
            made.enqueue_trial({"arm": arm, "seed": seed})

    def objective(trial: optuna.Trial) -> float:
        arm = trial.suggest_categorical("arm", list(study["arms"]))
        seed = trial.suggest_categorical("seed", study["seeds"])
        scores = train(study, arm, seed, out / f"{trial.number:04d}")
        for step, found in scores.items():
            trial.report(found[study["metric"]], int(step))
        trial.set_user_attr("scores", scores[max(scores, key=int)])
        return scores[max(scores, key=int)][study["metric"]]

    began = time.monotonic()
    made.optimize(objective, n_trials=len(study["seeds"]) * len(study["arms"]))
    seconds = time.monotonic() - began
    means = made.trials_dataframe().groupby("params_arm")["value"].agg(["mean", "std", "count"])
    (out / "table.txt").write_text(f"{means}\n")
    return seconds


def train(study: dict[str, Any], arm: str, seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Scores by step of one trial, trained by torchrun in a folder of its own. Raises CalledProcessError."""
    folder.mkdir()
    shared = {key: study[key] for key in ("metrics", "threads", "data", "tracking")}
    trial = {"recipe": study["arms"][arm], "arm": arm, "seed": seed, "experiment": folder.parent.name, **shared}
    (folder / "trial.json").write_text(json.dumps(trial))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(study["ranks"]),
               "-m", "benchmarks.baseline.train", str(folder / "trial.json")]  # fmt: skip
    with open(folder / "log.txt", "wb") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=ROOT)
    return json.loads((folder / "result.json").read_text())["scores"]


def main() -> None:
    asked, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    seconds = run(asked, out)
    (out / "seconds.json").write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
