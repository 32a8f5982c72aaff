"""Trials, runs and rows for tests of what is written to an MLflow store."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import numpy as np

from ablate.events import Ended, Event, EventWriter, Measured, Saved, Started, fold, read
from ablate.mlflow_runs import MlflowRuns
from ablate.outbox import Patience
from ablate.records import Arm, Cell, Status, StudyFolder, TrialResult, TrialSpec

FACTORS = {"lr_ratio": ["base", "half"], "batch": ["base", "two"]}


ARMS = [Arm("base"), Arm("lr_ratio=half", {"lr_ratio": "half"})]


RECIPE = {"generator": {"name": "unet", "width": 8}, "terms": {"l1": {"weight": 100.0}}, "batch": 4}


IMPATIENT = Patience(attempts=2, first=0.01, longest=0.02)


class Away:
    """A client whose server does not answer."""

    def __getattr__(self, name):
        raise ConnectionError("no route")


class Clock:
    """Every look at it is a second later, so that a time that is taken twice shows."""

    now = 5_000.0

    def __call__(self) -> float:
        Clock.now += 1
        return Clock.now


def spec_of(seed: int, arm: Arm) -> TrialSpec:
    ratio = 0.5 if arm.changes else 1.0
    recipe = {**RECIPE, "optimizer": {"lr_ratio": ratio, "betas": [0.5, 0.999]}}
    return TrialSpec(recipe, seed, ranks=2, threads=1, device="cpu", data="synthetic")


SPECS = {spec.id: spec for spec in (spec_of(seed, arm) for seed in (1, 2) for arm in ARMS)}


CELLS = [Cell(arm.name, seed, spec_of(seed, arm).id) for seed in (1, 2) for arm in ARMS]


PLAN = {"arms": ARMS, "factors": FACTORS, "question": "Which remedy helps?"}


def connected(folder: StudyFolder, store: Path | None = None, **changes) -> MlflowRuns:
    runs = MlflowRuns(f"sqlite:///{store or folder.mlflow}", folder, clock=Clock(), **{**PLAN, **changes})
    runs.open_study()
    return runs


def write_trial(
    folder: StudyFolder, cell: Cell, status: Status = Status.done, *, extra: float = 0.0, begins: int = 1000
) -> list[Event]:
    """A trial's folder as a worker leaves it: two evaluations, two sample pictures, an end."""
    trial = folder.trial(cell.trial)
    times = iter(range(begins, begins + 1000))
    writer = EventWriter(trial.events, clock=lambda: float(next(times)))
    writer.append(Started, world_size=2, threads=1, device="cpu")
    trial.samples.mkdir(parents=True, exist_ok=True)
    for step in (10, 20):
        losses = {"loss_d": 0.7 + extra, "term/l1": 0.2, "health/grad_d": math.inf if step == 20 else 1.0}
        writer.append(Measured, step=step, images=4 * step, split="train", values=losses)
        scores = {"psnr": 10.0 + step, "gmsd": 0.3}
        writer.append(Measured, step=step, images=4 * step, split="validation", values=scores)
        tiles = np.full((2, 8, 8, 3), step, np.uint8)
        np.savez(trial.samples / f"{step:06d}.npz", sar=tiles[..., 0], fake=tiles, real=tiles)
        writer.append(Saved, step=step, what="sample", path=f"samples/{step:06d}.npz", sha256="")
    writer.append(Ended, step=20, images=80, status=status, why="" if status is Status.done else "said so",
                  diagnosis="" if status is Status.failed else "healthy")  # fmt: skip
    writer.close()
    return read(trial.events)


def result_of(folder: StudyFolder, cell: Cell) -> TrialResult:
    return fold(cell.trial, read(folder.trial(cell.trial).events))


def trained(folder: StudyFolder, cell: Cell) -> TrialResult:
    write_trial(folder, cell)
    return result_of(folder, cell)


def runs_of(client, study: str = "quick", *, owner: StudyFolder | None = None) -> dict:
    """Run by cell ("" is the parent), of one folder if given; a second run of a cell fails the test."""
    experiment = client.get_experiment_by_name(study).experiment_id
    uid = owner and owner.uid.read_text().strip()
    runs = [run for run in client.search_runs([experiment]) if uid in (None, run.data.tags.get("ablate.uid"))]
    cells = [run.data.tags.get("ablate.cell", "") for run in runs]
    assert len(set(cells)) == len(cells), cells
    return dict(zip(cells, runs, strict=True))


def rows_of(folder: StudyFolder) -> list[tuple]:
    """Every metric row, read past MLflow."""
    with sqlite3.connect(folder.mlflow) as database:
        return sorted(database.execute("select run_uuid, key, step, timestamp, value, is_nan from metrics"))


def experiment_of(client) -> str:
    return client.get_experiment_by_name("quick").experiment_id


def told_of(folder: StudyFolder, client, owner: StudyFolder) -> dict:
    """All that the store says of a folder's runs: id, state, tags, parameters and every metric row."""
    found = {cell: (run.info.run_id, run.info.status, run.data) for cell, run in runs_of(client, owner=owner).items()}
    rows = rows_of(folder)
    return {
        cell: (id, status, data.tags, data.params, [row for row in rows if row[0] == id])
        for cell, (id, status, data) in found.items()
    }


def pictures_of(client, run) -> list[str]:
    names = [Path(file.path).name for file in client.list_artifacts(run.info.run_id, "images")]
    return sorted(name.split("+timestamp")[0] + Path(name).suffix for name in names)


WHOLE = ["samples+step+10.png", "samples+step+10.webp", "samples+step+20.png", "samples+step+20.webp"]
