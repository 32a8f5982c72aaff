"""The control of the crash monkey: the same kills of what a competent person would write today, and of `ablate run`.

    python -m benchmarks.crash_control                 about ten minutes on two cores
    python -m benchmarks.crash_control --kills 20 --seed 7 --keep FOLDER

The control is a script with Optuna (SQLite, the grid enqueued, `optimize`), MLflow (`start_run` around each trial) and
the same tiny trainings under torchrun. It is started again after each death and once more in the end, and runs as many
trials as cells lack a finished one. Victims come from the monkey's seed; both are hit while they start and while they
train. An orphan is a process that is alive 2 s after the driver, or what had started it, was killed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablate.events import fold, read
from ablate.records import StudyFolder
from tests import processes, projections
from tests.ablate import monkey, studies

NAME, METRIC = "plain", "gmsd"
SECONDS = 2  # after a kill, for what has lost its parent to end
STARTING = ("start", "store", "references")  # the monkey's moments before a trial trains


# -- what a competent person would write -----------------------------------------------------------


def plain_study(root: Path, cells: dict[str, str]) -> None:
    """Run the cells (name -> folder of a trial that holds its spec.json), or what is left of them."""
    import mlflow
    import optuna

    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    mlflow.set_experiment(NAME)
    study = optuna.create_study(
        study_name=NAME, storage=f"sqlite:///{root / 'optuna.db'}", direction="minimize", load_if_exists=True
    )
    for cell in cells:
        study.enqueue_trial({"cell": cell}, skip_if_exists=True)

    def objective(trial: optuna.Trial) -> float:
        cell = trial.suggest_categorical("cell", list(cells))
        folder = root / "trials" / str(trial.number)
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text((Path(cells[cell]) / "spec.json").read_text())
        with mlflow.start_run(run_name=cell, tags={"ablate.cell": cell}):
            subprocess.run([*TORCHRUN, str(folder)], check=True)
            result = fold(cell, read(folder / "events.jsonl"))
            for (split, name), curve in result.curves.items():
                for step, _, value in curve:
                    mlflow.log_metric(f"{split}/{name}", value, step=step)
        return result.final(METRIC)

    finished = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    study.optimize(objective, n_trials=len(cells) - finished, catch=(subprocess.CalledProcessError,))


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainers",
            "run"]  # fmt: skip


# -- under the monkey -----------------------------------------------------------------------------


@dataclass
class Plain:
    """The control in `root`, whose cells are those of a study that has run."""

    root: Path
    of: StudyFolder
    orphans: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.with_name("cache").symlink_to(self.of.cache.absolute())  # where a spec.json says that it is
        cells = {f"{cell['arm']}/{cell['seed']}": str(self.of.trial(cell["trial"]).root) for cell in
                 studies.plan(self.of)["cells"]}  # fmt: skip
        (self.root / "cells.json").write_text(json.dumps(cells))

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "benchmarks.crash_control", "--study", str(self.root)]
        with open(self.root / "said.txt", "ab") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, env=studies.environment())

    def moment(self, since: float) -> str:
        streams = self.root.glob("trials/*/events.jsonl")
        return "training" if any(path.stat().st_mtime > since for path in streams) else "start"

    def comes(self, moment: str) -> bool:
        return moment in ("start", "training")

    def pids(self, victim: str, driver: int) -> list[int]:
        below = processes.descendants(driver)
        if victim in monkey.OF_A_DRIVER:
            return [driver, *below] if victim == "all" else [driver]
        ranks = {rank: pid for pid in below if (rank := _variable(pid, "RANK"))}
        if len(ranks) < 2:
            return []
        return [processes.between(driver, ranks["0"])[-1] if victim == "launcher" else ranks[victim[-1]]]

    def watch(self) -> list[str]:
        return []

    def look(self, after: str) -> list[str]:
        time.sleep(SECONDS)
        self.orphans |= {pid for pid in processes.living() if str(self.root / "trials") in _command(pid)}
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _variable(pid: int, name: str) -> str:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return dict(pair.partition("=")[::2] for pair in pairs).get(name, "")


# -- what came of it ------------------------------------------------------------------------------


def counts(cells: list[str], records: list[tuple[str, str]], runs: list[projections.Run]) -> dict[str, str]:
    """What to count, from Optuna's records (cell, state) and MLflow's runs, as rows of a table."""
    done = Counter(cell for cell, state in records if state == "COMPLETE")
    children = [run for run in runs if run.cell]
    rows = Counter((run.cell, row.key, row.step) for run in children for row in run.rows)
    return {
        "cells": str(len(cells)),
        "cells that never ran to their end": str(sum(not done[cell] for cell in cells)),
        "cells run twice or more often": str(sum(done[cell] > 1 for cell in cells)),
        "Optuna trials left RUNNING": f"{sum(state == 'RUNNING' for _, state in records)} of {len(records)}",
        "MLflow runs left RUNNING": f"{sum(run.state == 'RUNNING' for run in runs)} of {len(runs)}",
        "metric values of a cell and step that are there twice": f"{sum(n > 1 for n in rows.values())} of {len(rows)}",
    }


def of_control(control: Plain) -> dict[str, str]:
    import optuna

    cells = list(json.loads((control.root / "cells.json").read_text()))
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{control.root / 'optuna.db'}")
    records = [(trial.params.get("cell", "?"), trial.state.name) for trial in study.trials]
    found = counts(cells, records, projections.runs(control.root / "mlflow.db", NAME))
    return found | {"orphan processes": str(len(control.orphans))}


def of_ablate(folder: StudyFolder, wrong: list[str]) -> dict[str, str]:
    cells = [f"{cell['arm']}/{cell['seed']}" for cell in studies.plan(folder)["cells"]]
    records = [(record.facts["cell"], record.state) for record in projections.records(folder.optuna, folder.name)]
    found = counts(cells, records, projections.runs(folder.mlflow, folder.name))
    return found | {"orphan processes": str(sum(": I9: " in words for words in wrong))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=monkey.A_STUDY)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.study:
        return plain_study(given.study, json.loads((given.study / "cells.json").read_text()))
    root = (given.keep or Path(tempfile.mkdtemp(prefix="control-"))).absolute()
    ours = monkey.rounds(given.kills, given.seed, root, keep=True)
    undisturbed, own = monkey.Ablate(root / "undisturbed"), monkey.Ablate(root / f"seed-{given.seed}")
    control = Plain(root / "control" / NAME, undisturbed.folder)
    kills = [replace(kill, moment="start" if kill.moment in STARTING else "training")
             for kill in monkey.draw(given.seed, given.kills)]  # fmt: skip
    theirs = monkey.torment(control, kills)
    columns = of_control(control), of_ablate(own.folder, ours.wrong)
    print(f"\n| after {given.kills} kills (seed {given.seed}) | Optuna + MLflow + torchrun | ablate run |")
    print("|---|---:|---:|")
    for what in columns[0]:
        print(f"| {what} | {' | '.join(column[what] for column in columns)} |")
    print(f"| wall time | {theirs.seconds:.0f} s | {ours.seconds:.0f} s |\n\nkills of the control:\n\n{theirs.table()}")


if __name__ == "__main__":
    main()
