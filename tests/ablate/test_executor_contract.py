"""What every executor promises, asked of each: a place where trials run is one more line in EXECUTORS."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate.artifacts import problems
from ablate.executor import Executor, Handle, LocalExecutor, Outcome
from ablate.outcome import Next, clear, finished, settle
from ablate.rayexecutor import RayExecutor
from ablate.records import TrialFolder
from ablate.slurm import SlurmExecutor
from tests import processes, raycluster, slurm
from tests.trainers import jobs
from trainers.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def on_slurm(root: Path) -> Executor:
    slurm.needed()
    return SlurmExecutor(root / "slurm", 2)


def on_ray(root: Path) -> Executor:
    return RayExecutor(root / "study" / "ray", 2, address=raycluster.needed().address)


# Name -> an executor with two slots that may write below a folder.
EXECUTORS: dict[str, Callable[[Path], Executor]] = {
    "local": lambda root: LocalExecutor(2, root / "driver.log"),
    "slurm": on_slurm,
    "ray": on_ray,
}
SIZE = {"steps": 40, "every": 10, "ranks": 2}  # long enough to be interrupted
PATIENCE = 240  # seconds for anything to happen


@pytest.fixture(params=EXECUTORS, scope="module")
def make(request) -> Callable[[Path], Executor]:
    return EXECUTORS[request.param]


@pytest.fixture(scope="module")
def shared(make, tmp_path_factory) -> Iterator[Executor]:
    """For tests whose jobs end by themselves: starting one costs seconds."""
    executor = make(tmp_path_factory.mktemp("executor"))
    yield executor
    executor.close()


@pytest.fixture
def own(make, tmp_path) -> Iterator[Executor]:
    executor = make(tmp_path / "executor")
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def undisturbed(shared, tmp_path_factory) -> tuple[object, ...]:
    folder = trial(tmp_path_factory.mktemp("undisturbed"))
    assert ended(begin(shared, folder)).clean, folder.log.read_text()
    return jobs.facts(folder)


def trial(root: Path, name: str = "trial", **options) -> TrialFolder:
    """A trial that has not begun, where a study keeps it."""
    return jobs.alone(root / "study", name, **SIZE | options)


def begin(executor: Executor, folder: TrialFolder, ranks: int = 2) -> Handle:
    return executor.start("run", folder.root, ranks=ranks, threads=1)


def ended(handle: Handle) -> Outcome:
    wait_until(lambda: handle.poll() is not None, "the job ends")
    return handle.poll()


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def newest(folder: TrialFolder) -> int:
    """Updates in the newest checkpoint; 0 while none is whole."""
    state = Checkpoints(folder.checkpoints).newest()
    return state["step"] if state else 0


def ranks(folder: TrialFolder) -> list[int]:
    """Pids of the trial's living ranks, rank 0 first; a rank speaks into the trial's log on every executor."""
    return [rank.pid for rank in processes.ranks(folder.root.parents[1]) if rank.trial == folder.root.name]


def running(executor: Executor, folder: TrialFolder) -> Handle:
    """A job that has written a checkpoint."""
    handle = begin(executor, folder)
    wait_until(lambda: newest(folder) or handle.poll(), "a checkpoint is written")
    assert handle.poll() is None
    return handle


def goes_on_to_the_same_numbers(executor: Executor, folder: TrialFolder, undisturbed: tuple[object, ...]) -> None:
    clear(folder)
    assert ended(begin(executor, folder)).clean, folder.log.read_text()
    assert jobs.facts(folder) == undisturbed
    assert problems(folder) == []


def test_a_job_runs_where_its_spec_lies_and_ends_well(shared, tmp_path):
    folder = trial(tmp_path)
    handle = begin(shared, folder)
    assert handle.poll() is None, "starting waits for nothing"
    assert ended(handle) == Outcome()
    assert finished("trial", folder).status == "done" and folder.log.exists()
    assert not ranks(folder)


def test_an_outcome_is_told_again_to_whoever_asks_again_whatever_runs_meanwhile(shared, tmp_path):
    first = begin(shared, trial(tmp_path, "first"))
    told = ended(first)
    later = begin(shared, trial(tmp_path, "later", steps=2, every=1, ranks=1))  # not as many ranks as are started
    failed = ended(later)
    assert not failed.clean
    assert (first.poll(), first.poll(), later.poll()) == (told, told, failed)


def test_whoever_waits_is_woken_when_a_job_ends(shared, tmp_path):
    handle, began = begin(shared, trial(tmp_path)), time.monotonic()
    while handle.poll() is None:
        shared.wait(PATIENCE)
    assert handle.poll().clean and time.monotonic() - began < PATIENCE
    shared.wait(0.001)  # with nothing to wait for it is a sleep


def test_slots_are_free_taken_and_free_again(shared, tmp_path):
    assert shared.free() == 2
    handles = [begin(shared, trial(tmp_path, f"t{n}", ranks=1), ranks=1) for n in range(2)]
    assert shared.free() == 0
    for handle in handles:
        assert ended(handle).clean
    assert shared.free() == 2


def test_ranks_that_fail_are_named_with_their_codes_and_leave_last_words(shared, tmp_path):
    folder = trial(tmp_path, ranks=1)  # two are started
    outcome = ended(begin(shared, folder))
    assert not outcome.clean and not outcome.lost and outcome.failures and {*outcome.failures} <= {0, 1}
    assert all(code > 0 for code in outcome.failures.values() if code != -signal.SIGTERM)
    assert "1 ranks, but 2 were started" in jobs.words(folder)["message"]
    assert settle("trial", folder, outcome, attempts=1).next is Next.fail


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_the_machines_failure_and_the_trial_goes_on(own, undisturbed, tmp_path, victim):
    folder = trial(tmp_path)
    handle = running(own, folder)
    os.kill(ranks(folder)[victim], signal.SIGKILL)
    outcome = ended(handle)
    assert outcome.failures.get(victim) == -signal.SIGKILL or outcome.lost
    assert settle("trial", folder, outcome, attempts=1).next is Next.resume
    wait_until(lambda: not ranks(folder), "its peer goes", seconds=30)
    goes_on_to_the_same_numbers(own, folder, undisturbed)


def test_the_flag_stops_a_job_cleanly_with_a_checkpoint(own, undisturbed, tmp_path):
    folder = trial(tmp_path)
    handle = running(own, folder)
    folder.stop.touch()
    assert ended(handle).clean and finished("trial", folder) is None
    assert settle("trial", folder, Outcome(), attempts=1).next is Next.interrupted
    assert Checkpoints(folder.checkpoints).find().damaged == () and own.free() == 2
    goes_on_to_the_same_numbers(own, folder, undisturbed)


def test_a_job_that_is_stopped_at_once_leaves_its_newest_checkpoint_and_a_free_slot(own, undisturbed, tmp_path):
    folder = trial(tmp_path)
    handle, before = running(own, folder), newest(folder)
    handle.stop()
    assert not ranks(folder) and not ended(handle).clean and own.free() == 2
    assert Checkpoints(folder.checkpoints).find().damaged == () and newest(folder) >= before > 0
    handle.stop()
    goes_on_to_the_same_numbers(own, folder, undisturbed)


def test_nothing_is_left_after_closing_and_closing_again_is_fine(make, undisturbed, tmp_path):
    executor, folder = make(tmp_path / "executor"), trial(tmp_path)
    running(executor, folder)
    executor.close()
    executor.close()
    wait_until(lambda: not processes.holders(tmp_path), "all that was started goes", seconds=10)
    again = make(tmp_path / "executor")
    try:
        goes_on_to_the_same_numbers(again, folder, undisturbed)
    finally:
        again.close()
