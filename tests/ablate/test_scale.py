"""What the driver does a trial, and a turn of its loop, counted in calls: it does not grow with the study."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate import events, executor, processes
from ablate.driver import Driver
from ablate.executor import LocalExecutor, Outcome, Stuck
from ablate.ledger import Ledger
from ablate.plan import make_plan
from ablate.planfile import write_plan
from ablate.records import Arm, StudyFolder, TrialFolder
from ablate.study import load
from benchmarks.scaling.driver import text
from reports.race import leaving
from tests.ablate import studies
from tests.ablate.fakes import InstantExecutor, Silent
from tests.ablate.test_ledger import result_of

AUDITED: list[str] = []  # files opened and folders listed, while `watching` is on
watching = SimpleNamespace(on=False)


def _watch(event: str, arguments: tuple) -> None:
    if watching.on and event in ("open", "os.listdir", "os.scandir"):
        AUDITED.append(f"{event} {arguments[0]}")


sys.addaudithook(_watch)  # for good: there is no way to take one back


def driver_of(root: Path, trials: int, jobs: object, sleep=lambda seconds: None) -> Driver:
    plan = make_plan(load(studies.write(root / "study", text("scaled", trials))))
    folder = StudyFolder(root / "runs", plan.study.name)
    write_plan(plan, folder)
    return Driver(plan, folder, jobs, Silent(), Silent(), Silent(), leaving, sleep=sleep)


@dataclass
class Lasting:
    """A job that trains for so many looks, and says nothing meanwhile."""

    folder: TrialFolder
    looks: int

    def poll(self) -> Outcome | None:
        self.looks -= 1
        if self.looks > 0:
            return None
        writer = events.EventWriter(self.folder.events)
        writer.append(events.Ended, step=1, images=1, status="done")
        writer.close()
        return Outcome()

    def stop(self) -> None:
        pass


@dataclass
class LastingExecutor(InstantExecutor):
    slots: int = 2
    running: list[Lasting] = field(default_factory=list)

    def free(self) -> int:
        return self.slots - sum(job.looks > 0 for job in self.running)

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> object:
        if kind == "references":
            return super().start(kind, folder, ranks=ranks, threads=threads)
        events.EventWriter(folder / "events.jsonl").close()
        self.running.append(Lasting(TrialFolder(folder), 50))
        return self.running[-1]


def test_a_turn_in_which_nothing_happens_opens_each_running_stream_and_nothing_else(tmp_path):
    turns = []

    def sleep(seconds: float) -> None:
        turns.append(len(AUDITED))
        watching.on = 10 < len(turns) < 40  # two trials run

    AUDITED.clear()
    driver = driver_of(tmp_path, 10, LastingExecutor(), sleep)
    try:
        driver.run()
    finally:
        watching.on = False
    assert {call.split("/")[-1] for call in AUDITED} == {"events.jsonl"}
    assert len(AUDITED) == 2 * 29


def test_where_a_job_has_ended_the_next_one_starts_without_a_rest(tmp_path):
    rests = []
    jobs = InstantExecutor()
    driver_of(tmp_path, 10, jobs, rests.append).run()
    assert len(jobs.started) == 10 and len(rests) == 0


@pytest.mark.parametrize("trials", [20, 60])
def test_a_trial_takes_two_syncs_of_the_driver_and_their_common_folder_few(tmp_path, monkeypatch, trials):
    synced = Counter()

    def fsync(descriptor: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced[place.name if place.is_dir() or place.suffix == ".jsonl" else f"{place.parent.name}/spec"] += 1

    driver = driver_of(tmp_path, trials, InstantExecutor())
    monkeypatch.setattr(os, "fsync", fsync)
    driver.run()
    assert {synced[place] for id in driver.plan.specs for place in (id, f"{id}/spec")} == {1}
    assert synced["trials"] == 1 and synced["events.jsonl"] == trials + 1  # the jobs' own, and the references'


def records_loaded(root: Path, cells: int) -> int:
    """Trial records that Optuna reads while one cell begins and ends, in a study of so many."""
    from optuna.storages._rdb import models
    from sqlalchemy import event

    driver = driver_of(root, cells, InstantExecutor())
    arms = [Arm(arm.name, arm.arm.changes) for arm in driver.plan.arms]
    ledger = Ledger(root / "optuna.db", study_name="scaled", goal="min", metric="gmsd", arms=arms,
                    factors=driver.plan.to_json()["factors"])  # fmt: skip
    ledger.reconcile(driver.plan.cells)
    loaded = Counter()

    def count(*_: object) -> None:
        loaded["records"] += 1

    event.listen(models.TrialModel, "load", count)
    try:
        ledger.begin(driver.plan.cells[0])
        ledger.finish(driver.plan.cells[0], result_of(driver.plan.cells[0]))
    finally:
        event.remove(models.TrialModel, "load", count)
    return loaded["records"]


def test_a_cell_reads_as_many_of_optunas_records_in_a_large_study_as_in_a_small_one(tmp_path):
    few, many = (records_loaded(tmp_path / str(cells), cells) for cells in (10, 40))
    assert 0 < few and many <= few + 3  # SQLAlchemy may forget one and load it again


def test_a_search_for_a_jobs_ranks_is_made_once_while_they_live(tmp_path, monkeypatch):
    with open(tmp_path / "log.txt", "ab") as log:
        rank = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stdout=log)
    searches, search = [], processes.speaking_into
    monkeypatch.setattr(executor.processes, "speaking_into", lambda place: searches.append(place) or search(place))
    times = iter(range(0, 1000, 3))
    stuck = Stuck(os.getpid(), tmp_path / "log.txt", clock=lambda: next(times))
    try:
        assert not any(stuck.look() for _ in range(100)) and len(searches) == 1
    finally:
        rank.kill()
        rank.wait()
    assert not any(stuck.look() for _ in range(10)) and len(searches) == 11


def test_the_executor_sleeps_until_a_launcher_speaks_and_never_for_one_without_a_job(tmp_path):
    jobs = LocalExecutor(1, tmp_path / "driver.log")
    ours, theirs = os.pipe()
    with open(ours, "rb") as said:
        launcher = SimpleNamespace(busy=True, process=SimpleNamespace(stdout=said))
        jobs._launchers = [launcher]
        os.write(theirs, b"{}\n")
        jobs.wait(600)
        launcher.busy = False  # it has died: its pipe would be ready for ever
        jobs.wait(0.001)
    os.close(theirs)
    jobs._launchers = []
    jobs.close()
