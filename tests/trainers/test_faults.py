"""Kills, full disks and refused memory in real training: whatever ends a worker, the next one ends with its numbers."""

from __future__ import annotations

import gc
import os
import random
import time
from pathlib import Path

import pytest

from ablate import disk, events
from ablate.artifacts import problems
from ablate.executor import LocalExecutor, Outcome
from ablate.failpoints import POINTS
from ablate.outcome import Next, clear, settle
from tests import faults
from tests.trainers import jobs, tiny
from tests.trainers.two_ranks import on_two_ranks
from trainers import lastwords, train
from trainers.ranks import Ranks
from trainers.training import Training
from trainers.watchdog import SLOWER

# Points that a worker passes; the others are the driver's, and are killed in its tests.
WORKERS = ["disk-write", "file-written", "file-replaced", "stream-opened", "event-appended", "step", "sample-saved",
           "scores-saved", "generator-saved", "checkpoint-written", "manifest-written", "checkpoint-told",
           "stream-durable"]  # fmt: skip
SHARING = ["branch-saved", "branch-taken"]  # passed where trials share a part: killed in test_branches.py
# How often a worker passes at least; all others it passes once.
OFTEN = {"disk-write": 12, "file-written": 9, "file-replaced": 9, "event-appended": 12, "step": 9, "sample-saved": 3,
         "checkpoint-written": 2, "manifest-written": 2, "checkpoint-told": 2}  # fmt: skip
SIZE = {"steps": 9, "every": 3}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[int, tuple]:
    """Facts of the trial by number of ranks, trained without a fault."""
    found = {}

    def of(ranks: int) -> tuple:
        if ranks not in found:
            folder = jobs.alone(tmp_path_factory.mktemp(f"undisturbed{ranks}"), ranks=ranks, **SIZE)
            assert jobs.run(folder, ranks=ranks) == [0] * ranks, jobs.words(folder)
            found[ranks] = jobs.facts(folder)
        return found[ranks]

    return of


def test_every_point_of_a_worker_is_one():
    assert {*WORKERS, *SHARING} <= POINTS.keys()


def nth(point: str) -> int:
    return random.Random(point).randint(2, OFTEN[point]) if point in OFTEN else 1


@pytest.mark.parametrize("rule", [
    pytest.param(f"{point}=kill@{n}", marks=[pytest.mark.slow] if n > 1 else [])
    for point in WORKERS for n in sorted({1, nth(point)})
])  # fmt: skip
def test_killed_at_a_point_a_trial_goes_on_to_the_same_numbers(undisturbed, tmp_path, rule):
    folder = jobs.alone(tmp_path, **SIZE)
    assert jobs.run(folder, failpoints=rule) == [jobs.KILLED]
    assert jobs.run(folder) == [0]
    assert jobs.facts(folder) == undisturbed(1)
    assert problems(folder) == []


def test_killed_again_and_again_it_still_ends_with_the_same_numbers(undisturbed, tmp_path):
    folder, draw = jobs.alone(tmp_path, **SIZE), random.Random(6)
    for _ in range(6):
        assert jobs.run(folder, failpoints=f"disk-write=kill@{draw.randint(1, 20)}") in ([jobs.KILLED], [0])
    assert jobs.run(folder) == [0]
    assert jobs.facts(folder) == undisturbed(1)
    assert problems(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "rule", ["step=kill@5#0", "step=kill@5#1", "event-appended=kill@7", "checkpoint-written=kill@2",
             "manifest-written=kill", "scores-saved=kill"]
)  # fmt: skip
def test_two_ranks_go_on_after_a_kill_of_either(undisturbed, tmp_path, rule):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    assert jobs.KILLED in jobs.run(folder, ranks=2, failpoints=rule)
    assert jobs.run(folder, ranks=2) == [0, 0]
    assert jobs.facts(folder) == undisturbed(2)
    assert problems(folder) == []


def whole_or_absent(folder) -> None:
    """What a full disk may leave: a stream of whole lines, listed artifacts whole, and whole checkpoints."""
    from trainers.checkpoint import Checkpoints

    assert problems(folder) == []
    assert Checkpoints(folder.checkpoints).find().damaged == ()


def meets_a_full_disk(folder, k: int, *, for_good: bool) -> None:
    with faults.full_disk(k, for_good=for_good) as full:
        try:
            train.run(folder.root)
        except disk.DiskFull as error:
            assert str(error).startswith(f"disk full: {folder.root}") and lastwords.kind_of(error) == "machine"
            try:
                lastwords.write(folder, error)
            except disk.DiskFull:
                assert for_good
            else:
                assert jobs.words(folder)["message"] == str(error)
    assert full.failed
    gc.collect()  # the lock on the stream goes with its writer, as in a process that ends


@pytest.mark.parametrize("k", [1, 2, 5, 11, 18, 27, 36, 50])
def test_a_disk_that_fills_up_while_a_trial_trains_costs_no_number(undisturbed, tmp_path, monkeypatch, k):
    monkeypatch.setattr(disk, "PIECE", 1 << 14)
    folder = jobs.alone(tmp_path, **SIZE)
    meets_a_full_disk(folder, k, for_good=k % 2 == 0)
    whole_or_absent(folder)
    train.run(folder.root)
    assert jobs.facts(folder) == undisturbed(1)
    assert problems(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_fills_up_at_any_of_the_first_fifty_calls_costs_no_number(
    undisturbed, tmp_path, monkeypatch, for_good
):
    monkeypatch.setattr(disk, "PIECE", 1 << 14)
    for k in range(1, 51):
        folder = jobs.alone(tmp_path, name=f"at{k}", **SIZE)
        meets_a_full_disk(folder, k, for_good=for_good)
        whole_or_absent(folder)
        train.run(folder.root)
        assert jobs.facts(folder) == undisturbed(1), k
        assert problems(folder) == [], k


@pytest.fixture
def small_disk(tmp_path):
    with faults.small_disk(tmp_path / "small", 16) as place:
        yield place


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_disk_that_is_really_full_costs_no_number(undisturbed, tmp_path, small_disk):
    outside = jobs.alone(tmp_path, **SIZE)
    folder = type(outside)(small_disk / "trials" / "trial")
    disk.write_atomically(folder.spec, outside.spec.read_text())
    os.symlink(tmp_path / "cache", small_disk / "cache")
    ballast = faults.fill(small_disk, leave=400_000)
    assert jobs.run(folder)[0] in (1, 74)
    if list(folder.root.glob("error.*.json")):
        words = jobs.words(folder)
        assert words["kind"] == "machine" and words["message"].startswith(f"disk full: {folder.root}")
    whole_or_absent(folder)
    ballast.unlink()
    for path in folder.root.glob("error.*.json"):
        path.unlink()
    assert jobs.run(folder) == [0]
    assert jobs.facts(folder) == undisturbed(1)
    assert problems(folder) == []


def test_memory_refused_in_one_of_two_ranks_is_the_arms_and_named_with_batch_and_peak(tmp_path):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    assert 1 in jobs.run(folder, ranks=2, failpoints="step=memory@4#1")
    words = jobs.words(folder)
    assert (words["rank"], words["kind"], words["type"]) == (1, "arm", "MemoryError")
    assert words["message"].startswith("out of memory at batch 4 on 2 ranks; this rank held at most 0.")
    assert "GiB of memory; refused by a failpoint" in words["message"]


def test_an_exception_in_one_of_two_ranks_is_the_earliest_cause(tmp_path):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    assert 1 in jobs.run(folder, ranks=2, failpoints="step=raise@4#1")
    words = jobs.words(folder)
    assert (words["rank"], words["kind"], words["message"]) == (1, "arm", "raised by a failpoint")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_leaves_too_early_without_a_word_is_the_machines_failure(undisturbed, tmp_path, rank):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    codes = jobs.run(folder, ranks=2, failpoints=f"step=exit@5#{rank}")
    assert codes[rank] == 0 and codes[1 - rank] == 1
    words = jobs.words(folder)
    assert (words["rank"], words["kind"]) == (1 - rank, "machine")
    assert jobs.run(folder, ranks=2) == [0, 0]
    assert jobs.facts(folder) == undisturbed(2)


def test_a_stopped_rank_is_ended_within_its_limit_named_and_the_trial_goes_on(undisturbed, tmp_path):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    assert jobs.run(folder, ranks=2, failpoints="step=stop@5#1", limits="step=3", wait=120) == [1, jobs.KILLED]
    words = jobs.words(folder)
    assert (words["rank"], words["kind"], words["type"]) == (0, "machine", "Stalled")
    assert "in phase step, 5 updates being done" in words["message"] and "rank 1 (pid " in words["message"]
    assert words["message"].endswith("is stopped")
    assert jobs.run(folder, ranks=2) == [0, 0]
    assert jobs.facts(folder) == undisturbed(2)
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("rule", "limits", "phase"),
    [
        ("checkpoint-written=sleep:600", "checkpoint=3", "checkpoint, 3 updates"),
        ("sample-saved=sleep:600", "evaluation=3", "evaluation, 3 updates"),
        ("stream-opened=sleep:600", "start=3", "start, 0 updates"),
    ],
)
def test_a_hang_in_any_phase_is_named_by_it(tmp_path, rule, limits, phase):
    folder = jobs.alone(tmp_path, **SIZE)
    assert jobs.run(folder, failpoints=rule, limits=limits, wait=120) == [1]
    words = jobs.words(folder)
    assert words["kind"] == "machine" and f"in phase {phase} being done (limit " in words["message"]


def test_a_collective_that_a_peer_does_not_come_to_is_the_machines_failure(tmp_path):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    codes = jobs.run(folder, ranks=2, failpoints="step=sleep:600@5#1", limits="collective=3", wait=120)
    assert codes == [1, jobs.KILLED]
    words = jobs.words(folder)
    assert (words["rank"], words["kind"]) == (0, "machine") and "Timed out" in words["message"]


def test_a_rank_that_is_told_of_the_end_of_its_time_has_a_checkpoint_written_and_nothing_is_lost(undisturbed, tmp_path):
    """SIGUSR1 to one rank, as schedulers send it before they end a job: all ranks end well, with work left."""
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    assert jobs.run(folder, ranks=2, failpoints="step=warn@4#1") == [0, 0]
    assert settle("trial", folder, Outcome(), attempts=1).next is Next.interrupted
    saved = [event for event in events.read(folder.events) if isinstance(event, events.Saved)]
    assert saved[-1].what == "checkpoint" and 4 <= saved[-1].step <= 6
    clear(folder)
    assert jobs.run(folder, ranks=2) == [0, 0]
    assert jobs.facts(folder) == undisturbed(2)


def poison(rank: int, root: str) -> None:
    """One rank's generator goes bad before its fifth update; both ranks must see it alike and end."""
    advance = Training.advance

    def poisoned(training: Training) -> None:
        if rank == 1 and training.done == 4:
            next(training.generator.parameters()).data.fill_(float("nan"))
        advance(training)

    folder = tiny.TrialFolder(Path(root) / "trials" / "trial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "advance", poisoned)
        of = tiny.recipe(**SIZE)
        train.Trial(folder, tiny.spec(of, ranks=2), tiny.METRICS, Path(root) / "cache" / "tiny", Ranks(rank, 2)).run()


def test_one_rank_that_computes_nonsense_ends_the_trial_as_diverged_on_both(tmp_path):
    folder = jobs.alone(tmp_path, ranks=2, **SIZE)
    on_two_ranks(poison, tmp_path, str(tmp_path))
    end = events.read(folder.events)[-1]
    assert (end.status, end.step) == ("diverged", 5) and "not finite" in end.why


def start(executor: LocalExecutor, folder, ranks: int) -> tuple[Outcome, float]:
    """The outcome of a job under the real launcher, and the seconds since its last sign of life."""
    handle, end = executor.start("run", folder.root, ranks=ranks, threads=1), time.monotonic() + 300
    while (outcome := handle.poll()) is None:
        assert time.monotonic() < end, "the job has not ended within 300 s"
        time.sleep(0.05)
    return outcome, time.time() - folder.events.stat().st_mtime


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("ranks", "victim"), [(1, 0), (2, 0), (2, 1)])
def test_under_the_launcher_a_stopped_rank_is_ended_within_its_limit_and_a_second_dozen(
    undisturbed, tmp_path, monkeypatch, ranks, victim
):
    """By a peer's watchdog, or, where it is alone, by the launcher, which gives others 10 s to go."""
    folder, limit = jobs.alone(tmp_path, ranks=ranks, **SIZE), 5
    for name, value in (("", f"step=stop@5#{victim}"), ("_ONCE", str(tmp_path))):
        monkeypatch.setenv(f"ABLATE_FAILPOINTS{name}", value)
    monkeypatch.setenv("ABLATE_LIMITS", f"step={limit}")
    executor = LocalExecutor(1, tmp_path / "driver.log")
    try:
        outcome, seconds = start(executor, folder, ranks)
        assert not outcome.clean and seconds < max(limit, SLOWER * 1.0) + 15
        settlement = settle("trial", folder, outcome, attempts=1)
        assert settlement.next is Next.resume, settlement
        clear(folder)
        assert start(executor, folder, ranks)[0].clean
    finally:
        executor.close()
    assert jobs.facts(folder) == undisturbed(ranks)
    assert problems(folder) == []
