"""A real driver with both real projections and jobs without training, whose calls on the stores are timed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ablate import events
from ablate.driver import Driver, Interrupt
from ablate.executor import Outcome
from ablate.plan import Plan, make_plan
from ablate.planfile import write_plan
from ablate.projections import open_projections, unreachable
from ablate.records import StudyFolder, TrialFolder, TrialSpec, write_atomically
from ablate.run import Exit, _code
from ablate.study import load
from reports.race import leaving
from tests.ablate import studies
from tests.ablate.fakes import STEPS, InstantExecutor, Silent, gmsd

ANSWER = "**half is better**"
STALL = 1.0  # seconds that a call on a store may take
BUSY = 4.0  # seconds that a turn of the loop may take, which waits for its share of busy cores; faults last longer


@dataclass
class Job:
    """Writes the next event of its trial when it is looked at, every `every`-th time, until it is asked to stop."""

    facts: Iterator[None]
    trial: TrialFolder
    every: int
    waits: Callable[[], bool]
    over: bool = False
    looks: int = 0

    def poll(self) -> Outcome | None:
        self.looks += not self.waits()
        if not self.waits() and self.looks % self.every == 0:
            self.over = self.trial.stop.exists() or next(self.facts, "end") == "end"
        if self.over:
            self.facts.close()
        return Outcome() if self.over else None

    def stop(self) -> None:
        self.facts.close()


@dataclass
class PacedExecutor(InstantExecutor):
    """Jobs that write one event at a time, with pictures, and none while they wait.

    `at` is called with the number of events written so far.
    """

    every: int = 1
    waits: Callable[[], bool] = lambda: False
    pictures: bool = True
    at: Callable[[int], None] = lambda written: None
    written: int = 0

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> object:
        if kind == "references":
            return super().start(kind, folder, ranks=ranks, threads=threads)
        spec = TrialSpec.from_json(studies.spec_of(folder))
        self.started.append(folder.name)
        self.handles.append(Job(self._events(spec, TrialFolder(folder)), TrialFolder(folder), self.every, self.waits))
        return self.handles[-1]

    def _events(self, spec: TrialSpec, trial: TrialFolder) -> Iterator[None]:
        before = len(events.read(trial.events))
        writer = events.EventWriter(trial.events, attempt=2 if before else 1, clock=lambda: 1000.0 + self.written)
        try:
            for kind, facts in list(self._facts(spec, trial))[before:]:
                writer.append(kind, **facts)
                self.written += 1
                self.at(self.written)
                yield
        finally:
            writer.close()

    def _facts(self, spec: TrialSpec, trial: TrialFolder) -> Iterator[tuple[type[events.Event], dict]]:
        yield events.Started, {"world_size": spec.ranks, "threads": 1, "device": "cpu"}
        for step in STEPS:
            at = {"step": step, "images": 4 * step}
            yield events.Measured, {**at, "split": "train", "values": {"loss_d": 0.7 / step, "loss_g": 1.0 * step}}
            scores = {"gmsd": gmsd(spec, step), "mae": 1.0 - gmsd(spec, step), "psnr": 20.0 + step}
            yield events.Measured, {**at, "split": "validation", "values": scores}
            if self.pictures and step == STEPS[-1]:
                trial.samples.mkdir(exist_ok=True)
                tiles = np.full((1, 8, 8, 3), step, np.uint8)
                np.savez(trial.samples / f"{step}.npz", sar=tiles[..., 0], fake=tiles, real=tiles)
                yield events.Saved, {"step": step, "what": "sample", "path": f"samples/{step}.npz", "sha256": ""}
        yield events.Ended, {"step": STEPS[-1], "images": 4 * STEPS[-1], "status": "done"}


class Timed:
    """Stands before a projection and keeps its longest call."""

    def __init__(self, projection: object):
        self._projection, self.longest = projection, (0.0, "")

    def __getattr__(self, name: str) -> object:
        found = getattr(self._projection, name)

        def timed(*arguments, **options):
            began = time.monotonic()
            try:
                return found(*arguments, **options)
            finally:
                self.longest = max(self.longest, (time.monotonic() - began, name))

        return timed


@dataclass
class Ran:
    """What a driven study amounts to."""

    folder: StudyFolder
    code: Exit
    unreachable: dict[str, str]
    calls: dict[str, tuple[float, str]]  # projection -> seconds and name of its longest call
    turn: float  # seconds of the longest turn of the driver's loop

    def assert_never_held_up(self) -> None:
        """No call on a store and no turn of the loop took as long as a fault does."""
        print(f"\nlongest calls {self.calls}, longest turn of the loop {self.turn:.3f} s")
        assert max(seconds for seconds, _ in self.calls.values()) < STALL and self.turn < BUSY


@dataclass
class Pulse:
    """The driver's `sleep`: the time between two of them is a turn of its loop."""

    longest: float = 0.0
    last: float = field(default_factory=time.monotonic)
    seconds: float = 0.01

    def __call__(self, _: float) -> None:
        self.longest = max(self.longest, time.monotonic() - self.last)
        time.sleep(self.seconds)
        self.last = time.monotonic()


def plan_at(folder: Path, text: str = studies.STUDY) -> Plan:
    return make_plan(load(studies.write(folder, text)))


def drive_live(plan: Plan, runs: Path, executor: InstantExecutor, uri: str | None = "auto",
               interrupt: Interrupt | None = None) -> Ran:  # fmt: skip
    """Run or resume a plan as `ablate run` does, without training and report; a two-line one stands for it."""
    folder = StudyFolder(runs, plan.study.name)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_plan(plan, folder)
    storage = plan.study.tracking.optuna
    with open_projections(plan.to_json(), uri, folder, storage=storage) as (ledger, tracking):
        timed = Timed(ledger), Timed(tracking)
        driver = Driver(plan, folder, executor, *timed, Silent(), leaving, interrupt=interrupt or Interrupt())
        ledger.reconcile(plan.cells)  # at once, before training, as opening is
        driver.sleep = pulse = Pulse()
        results = driver.run()
        if len(results) == len(driver.plan.specs) and not driver.plan.undrawn:
            folder.report.mkdir(exist_ok=True)
            write_atomically(folder.report / "report.md", "the report\n")
            write_atomically(folder.report / "report.json", "{}\n")
            tracking.finish_study(folder.report, ANSWER)
    behind = unreachable(ledger, tracking)
    calls = {name: one.longest for name, one in zip(("ledger", "tracking"), timed, strict=True)}
    return Ran(folder, _code(driver.plan, results, behind), behind, calls, pulse.longest)


def facts_in(database: Path, folder: StudyFolder) -> dict[str, dict]:
    """All that an MLflow database says of a folder's runs, by cell, but for ids, places and the clock of this machine.

    A second run of a cell fails the test.
    """
    uid = folder.uid.read_text().strip()
    found: dict[str, dict] = {}
    with sqlite3.connect(database) as store:
        own = "select run_uuid from tags where key = 'ablate.uid' and value = ?"
        runs = f"select run_uuid, status, end_time from runs where lifecycle_stage = 'active' and run_uuid in ({own})"
        for id, status, end in store.execute(runs, (uid,)).fetchall():
            tags = dict(store.execute("select key, value from tags where run_uuid = ?", (id,)))
            cell = tags.get("ablate.cell", "")
            assert cell not in found, f"two runs of {cell!r}"
            own_tags = {name: text for name, text in tags.items() if name != "mlflow.parentRunId"}
            rows = "select key, step, timestamp, value, is_nan from {} where run_uuid = ?"
            found[cell] = {
                "status": status, "tags": own_tags, "end": end if cell else None,
                "params": dict(store.execute("select key, value from params where run_uuid = ?", (id,))),
                "metrics": sorted(store.execute(rows.format("metrics"), (id,))),
                "latest": sorted(store.execute(rows.format("latest_metrics"), (id,))),
            }  # fmt: skip
    return found


def differing(one: dict[str, dict], other: dict[str, dict]) -> list[tuple]:
    """Cell, kind of fact, what only one holds, what only the other does."""
    found = [(cell, "", "there", "not there") for cell in one.keys() ^ other.keys()]
    for cell in one.keys() & other.keys():
        for kind, fact in one[cell].items():
            if fact != other[cell][kind]:
                mine, theirs = _parts(fact), _parts(other[cell][kind])
                found.append((cell, kind, mine - theirs, theirs - mine))
    return found


def _parts(fact: object) -> set[str]:
    parts = fact.items() if isinstance(fact, dict) else fact if isinstance(fact, list) else [fact]
    return set(map(repr, parts))


def every_row(database: Path) -> dict[str, list[tuple]]:
    """Every row of every table."""
    with sqlite3.connect(database) as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        return {name: sorted(map(repr, store.execute(f"select * from [{name}]"))) for name in sorted(tables)}


LOCK = """
import sqlite3, sys, time
print("ready", flush=True)
sys.stdin.readline()
store = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
store.execute("begin exclusive")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
store.execute("commit")
"""


class Locker:
    """Another process that will hold a SQLite file for itself, for a while."""

    def __init__(self, path: Path, seconds: float):
        command = [sys.executable, "-c", LOCK, str(path), str(seconds)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        """Takes the lock in a moment; nobody waits for that."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hold(self) -> Locker:
        """Takes the lock before it returns."""
        self.begin()
        assert self._process.stdout.readline() == "held\n"
        return self

    def release(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self) -> None:
        """Until it has held the lock and given it back."""
        assert self._process.stdout.readline() in ("held\n", "")
        assert self._process.wait(120) == 0
