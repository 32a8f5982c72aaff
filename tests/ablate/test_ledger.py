"""Optuna's storage as a projection: a second Ledger over the same one stands for a restart after a kill.

Each law holds in a SQLite file and on a real PostgreSQL (slow: one server for this file).
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from ablate.ledger import Ledger, LedgerError
from ablate.records import Arm, Cell, Status, TrialResult

FACTORS = {"lr_ratio": ["base", "half", "tenth"], "objective": ["base", "hinge"]}
ARMS = [Arm("base"), Arm("lr_ratio=half", {"lr_ratio": "half"}), Arm("objective=hinge", {"objective": "hinge"})]
CELLS = [Cell(arm.name, seed, f"{index}{seed:011d}") for seed in (1, 2) for index, arm in enumerate(ARMS)]
STATES = {
    Status.done: optuna.trial.TrialState.COMPLETE,
    Status.diverged: optuna.trial.TrialState.FAIL,
    Status.collapsed: optuna.trial.TrialState.FAIL,
    Status.stopped: optuna.trial.TrialState.PRUNED,
    Status.failed: optuna.trial.TrialState.FAIL,
}


def open_ledger(path, **changes) -> Ledger:
    plan = {"study_name": "quick", "goal": "min", "metric": "gmsd", "factors": FACTORS, "arms": ARMS}
    return Ledger(path, **{**plan, **changes})


def result_of(cell: Cell, status: Status = Status.done, *, gmsd: float = 0.25) -> TrialResult:
    curve = ((10, 40, 0.5), (20, 80, gmsd))
    return TrialResult(
        cell.trial, status, {"gmsd": gmsd, "psnr": 12.5}, {("validation", "gmsd"): curve}, steps=20, seconds=3.5
    )


def records(path) -> list[optuna.trial.FrozenTrial]:
    """What anyone else reads in the file, through Optuna itself."""
    where = f"sqlite:///{path}" if isinstance(path, Path) else path.replace("{", "{{")
    return optuna.load_study(study_name="quick", storage=where).trials


def cells_of(path) -> list[str]:
    return [record.user_attrs["cell"] for record in records(path)]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "optuna.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def anew(request, file) -> Callable[[], Path | str]:
    """A call empties the storage and says where it is."""

    def emptied() -> Path:
        file.unlink(missing_ok=True)
        return file

    return emptied if request.param == "sqlite" else request.getfixturevalue("postgres").emptied


@pytest.fixture
def path(anew):
    return anew()


def test_every_cell_waits_once_in_plan_order_with_its_levels_and_names(path):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS[:2])
    ledger.reconcile(CELLS)
    open_ledger(path).reconcile(CELLS)
    assert cells_of(path) == [f"{cell.arm}/{cell.seed}" for cell in CELLS]
    assert {record.state for record in records(path)} == {optuna.trial.TrialState.WAITING}
    assert records(path)[1].user_attrs == {
        "cell": "lr_ratio=half/1", "arm": "lr_ratio=half", "seed": 1, "trial": CELLS[1].trial
    }  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cell_takes_its_own_record_whatever_the_order_and_keeps_it_after_a_kill(path, restarted):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    numbers = [ledger.begin(cell) for cell in reversed(CELLS)]
    if restarted:
        ledger = open_ledger(path)
        ledger.reconcile(CELLS)
    assert [ledger.begin(cell) for cell in reversed(CELLS)] == numbers == list(reversed(range(len(CELLS))))
    assert {record.state for record in records(path)} == {optuna.trial.TrialState.RUNNING}
    assert [record.params for record in records(path)][:3] == [
        {"lr_ratio": "base", "objective": "base"},
        {"lr_ratio": "half", "objective": "base"},
        {"lr_ratio": "base", "objective": "hinge"},
    ]


@pytest.mark.parametrize("status", list(Status))
def test_each_outcome_has_its_state_once_and_an_acknowledged_one_never_changes(path, status):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.begin(CELLS[0])
    ledger.finish(CELLS[0], result_of(CELLS[0], status))
    ledger.finish(CELLS[0], result_of(CELLS[0], Status.done, gmsd=9.0))
    open_ledger(path).finish(CELLS[0], result_of(CELLS[0], Status.failed))
    record, *_, last = records(path)
    retried = status is Status.failed  # only that may be overcome, by a further record
    assert len(records(path)) == len(CELLS) + retried
    assert (last.user_attrs.get("retry_of"), last.value) == ((0, 9.0) if retried else (None, None))
    assert record.state is STATES[status]
    assert record.value == (0.25 if status in (Status.done, Status.stopped) else None)
    assert record.intermediate_values == {10: 0.5, 20: 0.25}
    assert record.user_attrs["status"] == status and record.user_attrs["psnr"] == 12.5


def test_a_kill_at_any_call_leaves_one_record_per_cell_and_none_running(anew):
    """The script of one driver, cut after its n-th call, then run whole by a second driver."""

    cells = CELLS[:2]

    def script(ledger):
        yield ledger.reconcile(cells)
        for cell in cells:
            yield ledger.begin(cell)
            yield ledger.report(cell, 10, 0.5)
            yield ledger.finish(cell, result_of(cell))

    for cut in range(2 + 3 * len(cells)):
        fresh = anew()
        steps = script(open_ledger(fresh))
        for _ in range(cut):
            next(steps)
        for _ in script(open_ledger(fresh)):
            pass
        assert cells_of(fresh) == [f"{cell.arm}/{cell.seed}" for cell in cells], cut
        assert all(record.value == 0.25 and record.intermediate_values[10] == 0.5 for record in records(fresh)), cut


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_never_told(path, value):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.begin(CELLS[0])
    ledger.report(CELLS[0], 5, value)
    ledger.finish(CELLS[0], result_of(CELLS[0], gmsd=value))
    record = records(path)[0]
    assert record.state is optuna.trial.TrialState.FAIL and record.values is None
    assert record.intermediate_values == {10: 0.5}
    assert record.user_attrs["gmsd"] == str(value)


def test_a_done_trial_without_the_primary_metric_fails_instead_of_raising(path):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.finish(CELLS[0], TrialResult(CELLS[0].trial, Status.done))
    assert records(path)[0].state is optuna.trial.TrialState.FAIL


def test_a_deleted_database_is_rebuilt_from_the_results(path, anew):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.finish(CELLS[0], result_of(CELLS[0]))
    before = [(record.state, record.params, record.user_attrs, record.values) for record in records(path)]
    anew()
    rebuilt = open_ledger(path)
    rebuilt.reconcile(CELLS)
    rebuilt.finish(CELLS[0], result_of(CELLS[0]))
    assert [(record.state, record.params, record.user_attrs, record.values) for record in records(path)] == before


@pytest.mark.parametrize(
    "change",
    [
        {"factors": {**FACTORS, "lr_ratio": ["base", "half", "tenth", "quarter"]}},
        {"metric": "psnr", "goal": "max"},
    ],
)
def test_an_extended_or_changed_plan_starts_the_ledger_anew(path, change):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.finish(CELLS[0], result_of(CELLS[0]))
    extended = open_ledger(path, **change)
    extended.reconcile(CELLS)
    extended.finish(CELLS[0], result_of(CELLS[0]))
    assert len(records(path)) == len(CELLS)
    assert records(path)[0].value == (12.5 if "metric" in change else 0.25)


def test_records_of_other_trial_ids_or_cells_do_not_survive(path):
    open_ledger(path).reconcile(CELLS)
    moved = [Cell(cell.arm, cell.seed, f"f{cell.trial[1:]}") for cell in CELLS]
    open_ledger(path).reconcile(moved)
    assert [record.user_attrs["trial"] for record in records(path)] == [cell.trial for cell in moved]
    open_ledger(path).reconcile(moved[:3])
    assert len(records(path)) == 3


def test_a_retry_adds_one_marked_record_for_a_failed_cell_and_only_for_it(path):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.finish(CELLS[0], result_of(CELLS[0], Status.failed))
    ledger.finish(CELLS[1], result_of(CELLS[1], Status.diverged))
    for _ in range(2):
        for cell in CELLS:
            ledger.retry(cell)
    assert len(records(path)) == len(CELLS) + 1
    assert records(path)[-1].user_attrs["retry_of"] == 0
    again = open_ledger(path)
    again.reconcile(CELLS)
    again.finish(CELLS[0], result_of(CELLS[0]))
    assert [record.state for record in records(path)][0] is optuna.trial.TrialState.FAIL
    assert records(path)[-1].value == 0.25


def test_a_driver_killed_before_it_told_of_a_retry_begins_it_all_the_same(path):
    open_ledger(path).reconcile(CELLS)
    open_ledger(path).finish(CELLS[0], result_of(CELLS[0], Status.failed))
    ledger = open_ledger(path)
    assert [ledger.begin(CELLS[0]) for _ in range(2)] == [len(CELLS)] * 2
    ledger.report(CELLS[0], 10, 0.5)
    ledger.finish(CELLS[0], result_of(CELLS[0]))
    assert [record.user_attrs.get("retry_of") for record in records(path)] == [None] * len(CELLS) + [0]
    assert records(path)[0].state is STATES[Status.failed] and records(path)[-1].value == 0.25


def test_what_has_an_outcome_takes_no_further_values(path):
    ledger = open_ledger(path)
    ledger.reconcile(CELLS)
    ledger.finish(CELLS[0], result_of(CELLS[0]))
    again = open_ledger(path)  # its folder was taken away by hand, and it runs anew
    again.begin(CELLS[0])
    again.report(CELLS[0], 15, 0.4)
    again.finish(CELLS[0], result_of(CELLS[0], gmsd=0.1))
    assert records(path)[0].intermediate_values == {10: 0.5, 20: 0.25} and records(path)[0].value == 0.25


@pytest.mark.parametrize("method", ["_create_new_trial", "set_trial_intermediate_value", "set_trial_user_attr",
                                    "set_trial_state_values", "_get_trials"])  # fmt: skip
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_storage_call_that_breaks_is_repeated_without_a_trace(path, monkeypatch, method, moment, nth):
    """Every call of the driver's script is repeated until it goes through, as the queue does."""
    ledger = open_ledger(path)
    original, calls = getattr(optuna.storages.RDBStorage, method), []

    def breaking(*args, **options):
        calls.append(method)
        if len(calls) != nth:
            return original(*args, **options)
        if moment == "after":
            original(*args, **options)
        raise optuna.exceptions.StorageInternalError("reply lost")

    monkeypatch.setattr(optuna.storages.RDBStorage, method, breaking)

    def insist(call, *arguments):
        for _ in range(3):
            try:
                return call(*arguments)
            except LedgerError:
                pass
        raise AssertionError("three times")

    insist(ledger.reconcile, CELLS[:3])
    insist(ledger.begin, CELLS[0])
    insist(ledger.report, CELLS[0], 10, 0.5)
    insist(ledger.finish, CELLS[0], result_of(CELLS[0]))
    insist(ledger.finish, CELLS[1], result_of(CELLS[1], Status.failed))
    insist(ledger.retry, CELLS[1])
    insist(ledger.finish, CELLS[1], result_of(CELLS[1]))
    names = [f"{cell.arm}/{cell.seed}" for cell in CELLS[:3]]
    assert len(calls) >= nth and cells_of(path) == [*names, names[1]]
    done, failed, waiting, retried = records(path)
    assert [done.value, failed.value, retried.value] == [0.25, None, 0.25]
    assert waiting.state is optuna.trial.TrialState.WAITING
    assert all(record.intermediate_values == {10: 0.5, 20: 0.25} for record in (done, failed, retried))


def test_the_database_is_the_owners_alone(file):
    open_ledger(file).reconcile(CELLS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_corrupt_database_is_said_in_one_sentence(file):
    file.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(LedgerError, match=r"optuna\.db: Optuna's database cannot be used \(file is not a database\)"):
        open_ledger(file)


def test_an_arm_with_an_unknown_level_is_refused_with_what_there_is(path):
    with pytest.raises(ValueError, match="lr_ratio has no level 'third'; there are: base, half, tenth"):
        open_ledger(path, arms=[Arm("x", {"lr_ratio": "third"})])
