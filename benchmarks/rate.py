"""C1: trials an hour of `ablate run` against the same study by Optuna, torchrun per trial and MLflow calls every step.

Both sides train the same arms on the same seeds, networks, tiles, steps, ranks and threads, and score them by the same
metrics as often. Both are whole commands in a folder where one round has run before: the tiles are prepared (PNG pairs
for the other side), and the databases exist. `ablate run` does more in its time: reference predictors, health, durable
checkpoints, a sample of each evaluation, the report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.paired import Row, ratios, take_turns

ROOT = Path(__file__).resolve().parents[1]
GOAL = 10.0


@dataclass(frozen=True)
class Study:
    """What is run, and what is said of it."""

    path: Path
    sets: tuple[str, ...] = ()
    said: str = ""


QUICK = Study(ROOT / "studies/quick.yaml")
# All of the demo takes hours by the other side. A trial of it costs the same in a study of four.
FEW = "{list: {one: {loss: l1_ssim}, two: {lr_ratio: half}, three: {objective: wgan_gp}}}"
DEMO = Study(ROOT / "studies/stabilizer.yaml", ("seeds=1", f"design={FEW}"), ", four of its arms, one seed")


def measure(*, pairs: int, quick: bool, demo: bool = False) -> list[Row]:
    """Rows of studies/quick.yaml, or of the demo too."""
    if quick:
        return _rows(replace(QUICK, sets=("seeds=1",)), 1)
    return [row for study in (QUICK, *[DEMO] * demo) for row in _rows(study, pairs)]


def _rows(study: Study, pairs: int) -> list[Row]:
    """One row of whole commands, one of what lies between a study's first start and its last end."""
    with tempfile.TemporaryDirectory() as temporary:
        sides = Sides(Path(temporary), study)
        sides.warm_up()
        found = take_turns({"baseline": sides.baseline, "ablate": sides.ablate}, pairs)
    trials = sides.trials
    facts = {"study": study.path.stem, "trials": trials, **sides.stated, "seconds": found,
             "trials_an_hour": {name: round(3600 * trials / min(values), 1) for name, values in found.items()},
             "seconds_in_trials": sides.inside}  # fmt: skip
    stated = "{steps} updates, {ranks} ranks of {threads} thread".format(**sides.stated)
    name = f"trials an hour of studies/{study.path.name}{study.said} ({trials} trials, {stated})"
    between = f"{study.path.stem}: the same between the first trial's start and the last one's end"
    return [
        Row("C1", f"{name}: the whole command", ratios(found["baseline"], found["ablate"]), GOAL, facts=facts),
        Row("C1", between, ratios(*(sides.inside[side] for side in ("baseline", "ablate"))), note="of C1"),
    ]


class Sides:
    """Both ways to run a study, each in a runs folder of its own; every call is a study of another name."""

    def __init__(self, root: Path, study: Study):
        self.root, self.study = root, study
        self.stated: dict[str, int] = {}
        self.inside: dict[str, list[float]] = {"baseline": [], "ablate": []}
        self._names = (f"round{number}" for number in count())

    def warm_up(self) -> None:
        self.ablate()
        plan = json.loads((self.root / "runs/round0/plan.json").read_text())
        cache = self.root / "runs/cache" / plan["data"]["fingerprint"]
        write_pictures(cache, self.root / "pictures")
        (self.root / "study.json").write_text(json.dumps(self._as_a_grid(plan)))
        self.trials = len({cell["trial"] for cell in plan["cells"]})
        self.stated = {"steps": plan["arms"][0]["generator_updates"],
                       **{key: plan["resources"][key] for key in ("ranks", "threads")}}  # fmt: skip
        self.baseline()
        for seconds in self.inside.values():
            seconds.clear()

    def _as_a_grid(self, plan: dict[str, Any]) -> dict[str, Any]:
        recipes = {}
        for cell in plan["cells"]:
            spec = self.root / "runs/round0/trials" / cell["trial"] / "spec.json"
            recipes.setdefault(cell["trial"], (cell["arm"], json.loads(spec.read_text())))
        arms = {arm: found["spec"]["recipe"] for arm, found in recipes.values()}
        return {
            "arms": arms, "seeds": plan["seeds"], "metric": plan["metric"]["name"], "goal": plan["metric"]["goal"],
            "metrics": next(iter(recipes.values()))[1]["metrics"], **plan["resources"],
            "data": str(self.root / "pictures"), "tracking": f"sqlite:///{self.root / 'mlflow.db'}",
        }  # fmt: skip

    def baseline(self) -> float:
        out = self.root / "baseline" / next(self._names)
        seconds = _timed("-m", "benchmarks.baseline.study", str(self.root / "study.json"), str(out), cwd=ROOT)
        self.inside["baseline"].append(json.loads((out / "seconds.json").read_text()))
        return seconds

    def ablate(self) -> float:
        name, runs = next(self._names), self.root / "runs"
        sets = [word for one in [f"name={name}", *self.study.sets] for word in ("--set", one)]
        words = ("run", str(self.study.path), "--runs", str(runs), *sets)
        seconds = _timed("-P", "-m", "ablate.cli", *words, cwd=self.root)
        self.inside["ablate"].append(between(runs / name / "trials"))
        return seconds


def between(trials: Path) -> float:
    """Seconds from the first trial's start (its spec is written then) to the last one's end."""
    began = min(path.stat().st_mtime for path in trials.glob("*/spec.json"))
    lines = [path.read_text().splitlines()[-1] for path in trials.glob("*/events.jsonl")]
    return max(json.loads(line)["time"] for line in lines) - began


def write_pictures(cache: Path, folder: Path) -> None:
    """The prepared tiles as PNG pairs of equal names, split/sar and split/optical, as a person keeps them."""
    import numpy as np
    from PIL import Image

    from trainers.tiles import Tiles

    tiles = Tiles.open(cache)
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    for index, split in enumerate(tiles.splits):
        sar, optical, _ = tiles.read([index])
        for side, image in (("sar", sar[0]), ("optical", optical[0])):
            path = folder / split / side / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.rint((image + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
            Image.frombytes(modes[len(image)], values.shape[1::-1], values.tobytes()).save(path)


def _timed(*words: str, cwd: Path) -> float:
    """Seconds of a Python command. Raises RuntimeError with the end of what it said where it fails."""
    import os

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return time.monotonic() - began
