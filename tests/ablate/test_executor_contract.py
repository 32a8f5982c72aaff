"""What every executor promises, asked of each: a place where trials run is one more line in EXECUTORS."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate import events
from ablate.artifacts import problems
from ablate.executor import Executor, Handle, LocalExecutor, Outcome
from ablate.outcome import Next, clear, finished, settle
from ablate.rayexecutor import RayExecutor
from ablate.records import TrialFolder
from ablate.slurm import SlurmExecutor
from tests import processes, raycluster, slurm
from tests.ablate.scripted import Cluster, ScriptedExecutor
from tests.trainers import jobs
from trainers.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def on_slurm(root: Path) -> Executor:
    slurm.needed()
    return SlurmExecutor(root / "slurm", 2)


def on_ray(root: Path) -> Executor:
    return RayExecutor(root / "study" / "ray", 2, address=raycluster.needed().address)


@functools.cache
def scripted(root: Path) -> Cluster:
    return Cluster(nodes=2, seconds=2.0)


# Name -> an executor with two slots that may write below a folder; another for the same folder sees the same jobs.
EXECUTORS: dict[str, Callable[[Path], Executor]] = {
    "local": lambda root: LocalExecutor(2, root / "driver.log"),
    "slurm": on_slurm,
    "ray": on_ray,
    "scripted": lambda root: ScriptedExecutor(scripted(root), 2),
}
SIZE = {"steps": 40, "every": 10, "ranks": 2}  # long enough to be interrupted
PATIENCE = 240  # seconds for anything to happen


@pytest.fixture(params=EXECUTORS, scope="module")
def make(request) -> Callable[[Path], Executor]:
    return EXECUTORS[request.param]


@pytest.fixture(scope="module")
def real(make) -> None:
    """For tests that look at ranks and at what they compute."""
    if make is EXECUTORS["scripted"]:
        pytest.skip("the scripted executor starts no ranks")


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
def undisturbed(shared, tmp_path_factory) -> tuple[object, ...] | None:
    """What a trial comes to; None of a script, which computes nothing."""
    if isinstance(shared, ScriptedExecutor):
        return None
    folder = trial(tmp_path_factory.mktemp("undisturbed"))
    assert ended(shared, begin(shared, folder)).clean, folder.log.read_text()
    return jobs.facts(folder)


def trial(root: Path, name: str = "trial", **options) -> TrialFolder:
    """A trial that has not begun, where a study keeps it."""
    return jobs.alone(root / "study", name, **SIZE | options)


def begin(executor: Executor, folder: TrialFolder, ranks: int = 2) -> Handle:
    return executor.start("run", folder.root, ranks=ranks, threads=1)


def ended(executor: Executor, handle: Handle) -> Outcome:
    wait_until(executor, lambda: handle.poll() is not None, "the job ends")
    return handle.poll()


def wait_until(executor: Executor, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        executor.wait(0.01)  # a scripted cluster's time passes here alone


def newest(folder: TrialFolder) -> int:
    """Updates in the newest checkpoint; 0 while none is whole."""
    state = Checkpoints(folder.checkpoints).newest()
    return state["step"] if state else 0


def ranks(folder: TrialFolder) -> list[int]:
    """Pids of the trial's living ranks, rank 0 first; a rank speaks into the trial's log on every executor."""
    return [rank.pid for rank in processes.ranks(folder.root.parents[1]) if rank.trial == folder.root.name]


def running(executor: Executor, folder: TrialFolder) -> Handle:
    """A job that has done some work which will last."""
    handle = begin(executor, folder)
    wait_until(executor, lambda: kept(executor, folder) or handle.poll(), "it has done some work")
    assert handle.poll() is None
    return handle


def kept(executor: Executor, folder: TrialFolder) -> int:
    """Updates in the newest checkpoint; of a script, readings."""
    if not isinstance(executor, ScriptedExecutor):
        return newest(folder)
    return sum(isinstance(event, events.Measured) for event in events.read(folder.events))


def goes_on_to_the_same_numbers(
    executor: Executor, folder: TrialFolder, undisturbed: tuple[object, ...] | None
) -> None:
    clear(folder)
    assert ended(executor, begin(executor, folder)).clean, folder.log.read_text()
    assert finished("trial", folder).status == "done" and problems(folder) == []
    assert undisturbed is None or jobs.facts(folder) == undisturbed


def test_a_job_runs_where_its_spec_lies_and_ends_well(shared, tmp_path):
    folder = trial(tmp_path)
    handle = begin(shared, folder)
    assert handle.poll() is None, "starting waits for nothing"
    assert ended(shared, handle) == Outcome()
    assert finished("trial", folder).status == "done"
    assert not ranks(folder)


def test_what_its_ranks_say_is_kept(real, shared, tmp_path):
    folder = trial(tmp_path, steps=2, every=1)
    assert ended(shared, begin(shared, folder)).clean and folder.log.exists()


def test_an_outcome_is_told_again_to_whoever_asks_again_whatever_runs_meanwhile(shared, tmp_path):
    first = begin(shared, trial(tmp_path, "first"))
    told = ended(shared, first)
    later = running(shared, trial(tmp_path, "later"))
    later.stop()
    failed = ended(shared, later)
    assert told.clean and not failed.clean
    assert (first.poll(), first.poll(), later.poll()) == (told, told, failed)


def test_whoever_waits_is_woken_when_a_job_ends(shared, tmp_path):
    handle, began = begin(shared, trial(tmp_path)), time.monotonic()
    while handle.poll() is None:
        shared.wait(PATIENCE)
    assert handle.poll().clean and time.monotonic() - began < PATIENCE
    shared.wait(0.001)  # with nothing to wait for it is a sleep


def test_a_job_that_runs_is_found_by_another_driver_and_one_that_does_not_is_not(make, own, tmp_path):
    if not own.outlives:
        pytest.skip("its jobs end with their driver")
    folder = trial(tmp_path)
    running(own, folder)
    other = make(tmp_path / "executor")
    try:
        assert other.adopt(trial(tmp_path, "never").root) is None
        found = other.adopt(folder.root)
        assert found.poll() is None and other.free() == 1
        assert ended(other, found).clean and finished("trial", folder).status == "done"
        assert sum(isinstance(event, events.Started) for event in events.read(folder.events)) == 1
        late = other.adopt(folder.root)  # a scheduler may have it for a moment more
        assert (late is None or ended(other, late).clean) and other.free() == 2
    finally:
        other.close()


def test_the_flag_stops_a_job_cleanly_with_a_checkpoint(own, undisturbed, tmp_path):
    folder = trial(tmp_path)
    handle = running(own, folder)
    folder.stop.touch()
    assert ended(own, handle).clean and finished("trial", folder) is None
    assert settle("trial", folder, Outcome(), attempts=1).next is Next.interrupted
    assert Checkpoints(folder.checkpoints).find().damaged == () and own.free() == 2
    goes_on_to_the_same_numbers(own, folder, undisturbed)


def test_a_job_that_is_stopped_at_once_leaves_its_newest_checkpoint_and_a_free_slot(own, undisturbed, tmp_path):
    folder = trial(tmp_path)
    handle, before = running(own, folder), kept(own, folder)
    handle.stop()
    assert not ranks(folder) and not ended(own, handle).clean and own.free() == 2
    assert Checkpoints(folder.checkpoints).find().damaged == () and kept(own, folder) >= before > 0
    handle.stop()
    goes_on_to_the_same_numbers(own, folder, undisturbed)


def test_nothing_is_left_after_closing_and_closing_again_is_fine(make, undisturbed, tmp_path):
    executor, folder = make(tmp_path / "executor"), trial(tmp_path)
    running(executor, folder)
    executor.close()
    executor.close()
    wait_until(executor, lambda: not processes.holders(tmp_path), "all that was started goes", seconds=10)
    again = make(tmp_path / "executor")
    try:
        goes_on_to_the_same_numbers(again, folder, undisturbed)
    finally:
        again.close()


def test_ranks_that_fail_are_named_with_their_codes_and_leave_last_words(real, shared, tmp_path):
    folder = trial(tmp_path, ranks=1)  # two are started
    outcome = ended(shared, begin(shared, folder))
    assert not outcome.clean and not outcome.lost and outcome.failures and {*outcome.failures} <= {0, 1}
    assert all(code > 0 for code in outcome.failures.values() if code != -signal.SIGTERM)
    assert "1 ranks, but 2 were started" in jobs.words(folder)["message"]
    assert settle("trial", folder, outcome, attempts=1).next is Next.fail


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_the_machines_failure_and_the_trial_goes_on(real, own, undisturbed, tmp_path, victim):
    folder = trial(tmp_path)
    handle = running(own, folder)
    os.kill(ranks(folder)[victim], signal.SIGKILL)
    outcome = ended(own, handle)
    assert outcome.failures.get(victim) == -signal.SIGKILL or outcome.lost
    assert settle("trial", folder, outcome, attempts=1).next is Next.resume
    wait_until(own, lambda: not ranks(folder), "its peer goes", seconds=30)
    goes_on_to_the_same_numbers(own, folder, undisturbed)


def test_slots_are_free_taken_and_free_again(shared, tmp_path):
    # The last, since its jobs may lie on two nodes, and Ray keeps their places for a while.
    assert shared.free() == 2
    handles = [begin(shared, trial(tmp_path, f"t{n}", ranks=1), ranks=1) for n in range(2)]
    assert shared.free() == 0
    for handle in handles:
        assert ended(shared, handle).clean
    assert shared.free() == 2
