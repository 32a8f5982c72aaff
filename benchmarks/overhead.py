"""C3: what an empty trial costs in the driver's own path: planned, written, started, read, folded, each durably.

The jobs are over when they have begun, so what is timed is the machinery: `spec.json`, the stream of events made
durable, the driver's loop, the fold. Optuna's storage and MLflow are projections and off this path; what they add to it
by working beside stands in a row of its own. The floor is the same number of durable writes, by bare system calls on
the same disk.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.paired import Row, ratios, take_turns

if TYPE_CHECKING:
    from ablate.plan import Plan

GOAL = 5.0  # ms
TRIALS = 20
READING = {f"health/number{at}": 0.123456789 + at for at in range(30)}  # about what a reading of pix2pix holds


def measure(*, pairs: int, quick: bool) -> list[Row]:
    """Milliseconds a trial, in the own path and with both projections; the floor of durable writes beside the first."""
    trials, pairs = (4, 1) if quick else (TRIALS, pairs)
    with tempfile.TemporaryDirectory() as temporary:
        studies = Studies(Path(temporary), trials)
        ways = {"own": studies.own, "floor": studies.floor}
        found = take_turns(ways if quick else ways | {"projected": studies.projected}, pairs)
    milliseconds = {way: tuple(1e3 * value for value in values) for way, values in found.items()}
    floor = median(ratios(found["floor"], found["own"]))
    rows = [Row("C3", "durable overhead of an empty trial in its own path", milliseconds["own"], GOAL, at_most=True,
                unit="ms", floor=floor, facts={"trials": trials, "milliseconds": milliseconds})]  # fmt: skip
    if not quick:
        what = "the same while Optuna's SQLite and MLflow's are written beside it"
        rows.append(Row("C3", what, milliseconds["projected"], unit="ms"))
    return rows


@dataclass
class Over:
    """A job's handle; it is over once it has been looked at."""

    seen: bool = False

    def poll(self):
        from ablate.executor import Outcome

        self.seen = True
        return Outcome()

    def stop(self) -> None:
        pass


@dataclass
class Empty:
    """Jobs that write a durable beginning and end, and so many readings of training in between, and are over."""

    readings: int = 0
    outlives: bool = False
    handles: list[Over] = field(default_factory=list)

    def free(self) -> int:
        return int(all(handle.seen for handle in self.handles[-1:]))

    def adopt(self, folder: Path) -> None:
        """Nothing was there before."""

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Over:
        from ablate.events import Ended, EventWriter, Measured, Started

        writer = EventWriter(folder / "events.jsonl")
        writer.append(Started, world_size=ranks, threads=threads, device="cpu")
        for step in range(1, self.readings + 1):
            writer.append(Measured, step=step, images=step, split="train", values=READING)
        writer.append(Measured, step=1, images=1, split="validation", values={"gmsd": 0.1, "psnr": 20.0, "mae": 0.1})
        writer.append(Ended, step=1, images=1, status="done")
        writer.close()  # makes it durable
        self.handles.append(Over())
        return self.handles[-1]


def run_with(plan: Plan, runs: Path, executor: Empty, *, projected: bool) -> tuple[float, float]:
    """Seconds to write a plan and run it to its last outcome; seconds more until both stores had been told."""
    from ablate.driver import Driver
    from ablate.planfile import write_plan
    from ablate.projections import open_projections
    from ablate.records import StudyFolder
    from reports.race import leaving
    from tests.ablate.fakes import Silent

    folder = StudyFolder(runs, plan.study.name)
    began = time.perf_counter()
    write_plan(plan, folder)
    written = time.perf_counter() - began
    with ExitStack() as stack:
        ledger = tracking = Silent()
        if projected:
            stores = open_projections(plan.to_json(), plan.study.tracking.mlflow, folder)
            ledger, tracking = stack.enter_context(stores)
        driver = Driver(plan, folder, executor, ledger, tracking, Silent(), leaving, sleep=lambda seconds: None)
        began = time.perf_counter()
        results = driver.run()
        ran = time.perf_counter() - began
        assert len(results) == len(plan.specs) and all(result.scores for result in results.values())
    return written + ran, time.perf_counter() - began - ran


class Studies:
    """Each call runs a study of another name; seconds a trial."""

    def __init__(self, root: Path, trials: int):
        self.root, self.trials, self._numbers = root, trials, count()

    def own(self) -> float:
        return self._timed(projected=False)

    def projected(self) -> float:
        """With both stores open; opening and closing them, once a study, is not counted."""
        return self._timed(projected=True)

    def _timed(self, *, projected: bool) -> float:
        from ablate.plan import make_plan

        study = self._study()
        began = time.perf_counter()
        plan = make_plan(study)
        planned = time.perf_counter() - began
        ran, _ = run_with(plan, self.root / "runs", Empty(), projected=projected)
        return (planned + ran) / self.trials

    def _study(self):
        from ablate.study import load
        from tests.ablate import studies

        text = studies.STUDY.replace("name: tiny", f"name: round{next(self._numbers)}")
        return load(studies.write(self.root / "study", text.replace("seeds: 2", f"seeds: {self.trials // 2}")))

    def floor(self) -> float:
        """Folders, and for each trial a file that takes its place by a rename and one that is written and synced."""
        root = self.root / f"floor{next(self._numbers)}"
        root.mkdir()
        began = time.perf_counter()
        for trial in range(self.trials):
            (root / str(trial)).mkdir()
        _sync_folder(root)
        for trial in range(self.trials):
            folder = root / str(trial)
            _write(folder / "beside", b"{}" * 1000)
            os.replace(folder / "beside", folder / "spec.json")
            _sync_folder(folder)
            _write(folder / "events.jsonl", json.dumps({"event": "ended"}).encode() * 10)
        return (time.perf_counter() - began) / self.trials


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
