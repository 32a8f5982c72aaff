"""The driver's line to Optuna's storage: training never waits for it, and the end says what it lacks."""

from __future__ import annotations

import shutil
import time

import pytest

from ablate.ledger import LedgerError
from ablate.ledger_queue import LedgerQueue
from ablate.records import Status
from ablate.run import Exit
from tests.ablate import studies
from tests.ablate.live import Locker, PacedExecutor, drive_live, plan_at
from tests.ablate.stores import IMPATIENT
from tests.ablate.test_ledger import CELLS, open_ledger, records, result_of

UNTRACKED = studies.STUDY + "tracking: {mlflow: null}\n"


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "optuna.db"
    open_ledger(path).reconcile(CELLS)
    return path


@pytest.fixture
def path(tmp_path, empty_ledger):
    return shutil.copy(empty_ledger, tmp_path / "optuna.db")


def opened(path, **options) -> LedgerQueue:
    queue = LedgerQueue(open_ledger(path), patience=IMPATIENT, **options)
    queue.reconcile(CELLS)
    return queue


def test_what_is_queued_arrives_in_order(path):
    queue = opened(path)
    for cell in CELLS:
        queue.begin(cell)
        queue.report(cell, 10, 0.5)
        queue.finish(cell, result_of(cell))
    queue.reconcile(CELLS)
    queue.close(30)
    assert queue.unreachable is None
    assert [(one.value, one.intermediate_values) for one in records(path)] == [(0.25, {10: 0.5, 20: 0.25})] * len(CELLS)


def test_opening_and_the_first_reconcile_are_done_at_once_and_a_corrupt_file_is_an_error(path):
    queue = opened(path)
    assert len(records(path)) == len(CELLS) and queue.waiting == 0
    queue.close(1)
    queue = LedgerQueue(open_ledger(path), patience=IMPATIENT)
    with open(path, "r+b") as file:
        file.write(b"not a database" * 5000)
    with pytest.raises(LedgerError, match="rebuilt from them once it is moved away"):
        queue.reconcile(CELLS)


def test_a_failed_attempt_its_retry_and_the_new_outcome_follow_one_another_whatever_waits(path):
    queue = opened(path)
    held = Locker(path, 1.5).hold()
    queue.finish(CELLS[0], result_of(CELLS[0], Status.failed))
    queue.retry(CELLS[0])
    queue.begin(CELLS[0])
    queue.report(CELLS[0], 10, 0.5)
    queue.finish(CELLS[0], result_of(CELLS[0]))
    queue.close(30)
    held.wait()
    told = records(path)
    assert (told[0].state.name, told[-1].state.name, told[-1].user_attrs["retry_of"]) == ("FAIL", "COMPLETE", 0)
    assert len(told) == len(CELLS) + 1


def test_a_day_of_a_locked_file_waits_in_little_memory(path):
    queue = opened(path)
    held = Locker(path, 60).hold()
    try:
        for cell in CELLS:
            began = time.monotonic()
            queue.begin(cell)
            for step in range(1, 10_001):
                queue.report(cell, step, 1.0 / step)
            queue.finish(cell, result_of(cell))
            assert time.monotonic() - began < 5 and queue.waiting <= 3 * len(CELLS)
        assert not queue._curves, "an outcome holds its curve"
    finally:
        held.release()
    queue.close(60)
    assert queue.unreachable is None
    assert {one.value for one in records(path)} == {0.25}


def test_a_file_locked_for_a_while_holds_up_nobody_and_lacks_nothing(tmp_path):
    holder = Locker(tmp_path / "runs" / "tiny" / "optuna.db", 2)

    def at(written: int) -> None:
        if written == 5:
            holder.begin()

    ran = drive_live(plan_at(tmp_path, UNTRACKED), tmp_path / "runs", PacedExecutor(at=at, pictures=False), None)
    holder.wait()
    ran.assert_never_held_up()
    assert ran.code is Exit.done
    assert studies.optuna_states(ran.folder) == {
        cell: ["COMPLETE"] for cell in ("base/1", "lr_ratio=half/1", "base/2", "lr_ratio=half/2")
    }


def test_a_file_that_stays_locked_is_said_at_the_end_and_the_results_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("ablate.optuna_storage.LOCKED_SECONDS", 0.5)
    monkeypatch.setattr(LedgerQueue.close, "__defaults__", (4.0, 6.0))
    holder = Locker(tmp_path / "runs" / "tiny" / "optuna.db", 60)

    def at(written: int) -> None:
        if written == 5:
            holder.hold()  # the loop waits for that, and is not timed here

    ran = drive_live(plan_at(tmp_path, UNTRACKED), tmp_path / "runs", PacedExecutor(at=at, pictures=False), None)
    holder.release()
    assert ran.code is Exit.storage and list(ran.unreachable) == ["Optuna's storage"]
    assert "database is locked" in ran.unreachable["Optuna's storage"]
    assert "another process has kept it locked for 0.5 s" in ran.unreachable["Optuna's storage"]
    assert len(studies.scores(ran.folder)) == 4
    again = drive_live(plan_at(tmp_path, UNTRACKED), tmp_path / "runs", PacedExecutor(pictures=False), None)
    assert again.code is Exit.done and not again.unreachable
    assert set(map(tuple, studies.optuna_states(ran.folder).values())) == {("COMPLETE",)}
