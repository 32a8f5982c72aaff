"""From what a job left behind to what happens next."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ablate import events, outcome
from ablate.executor import Outcome
from ablate.outcome import RESUMES, Next
from ablate.processes import UNSAID
from ablate.records import Status, TrialFolder

KILLED = Outcome({1: -9})
RAISED = Outcome({0: 1})


@pytest.fixture
def folder(tmp_path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "abc")
    folder.root.mkdir()
    return folder


def end(folder: TrialFolder, status: str = "done") -> None:
    writer = events.EventWriter(folder.events)
    writer.append(events.Ended, step=5, images=20, status=status)
    writer.close()


def last_words(folder: TrialFolder, rank: int, time: float, kind: str, message: str, **more: object) -> None:
    words = {"time": time, "rank": rank, "kind": kind, "type": "RuntimeError", "message": message, **more}
    folder.error(rank).write_text(json.dumps(words))


def settle(folder: TrialFolder, ended: Outcome, attempts: int = 1) -> tuple[Next, str]:
    found = outcome.settle("abc", folder, ended, attempts=attempts)
    return found.next, found.why


@pytest.mark.parametrize("ended", [Outcome(), KILLED, RAISED, Outcome(lost=True)])
def test_an_end_on_disk_settles_the_trial_however_its_job_ended(folder, ended):
    end(folder)
    assert settle(folder, ended)[0] is Next.settled


def test_a_clean_exit_with_the_stop_flag_is_an_interruption(folder):
    folder.stop.touch()
    assert settle(folder, Outcome())[0] is Next.interrupted


def test_a_clean_exit_without_an_end_is_the_machines_failure(folder):
    assert settle(folder, Outcome()) == (Next.resume, "the ranks ended without recording an end")


def test_a_killed_rank_is_the_machines_failure_also_when_its_peer_leaves_last_words(folder):
    last_words(folder, 0, 1.0, "machine", "Connection closed by peer")
    assert settle(folder, KILLED) == (Next.resume, "rank 1 was ended by SIGKILL")


@pytest.mark.parametrize("code", [-15, -6])
def test_what_an_arms_own_failure_does_to_its_peers_does_not_hide_it(folder, code):
    last_words(folder, 0, 1.0, "arm", "no power iteration today")
    why = "arm: rank 0: RuntimeError: no power iteration today"
    assert settle(folder, Outcome({0: 1, 1: code})) == (Next.fail, why)


def test_what_a_rank_says_after_its_peer_was_killed_is_not_held_against_the_arm(folder):
    last_words(folder, 0, 1.0, "arm", "an error that nobody knows")
    assert settle(folder, Outcome({0: 1, 1: -9})) == (Next.resume, "rank 1 was ended by SIGKILL")


@pytest.mark.parametrize("type", ["Stalled", "DiskFull"])
def test_a_hang_or_a_full_disk_is_named_though_the_launcher_then_killed_a_rank(folder, type):
    words = {"time": 1.0, "rank": 0, "kind": "machine", "type": type, "message": "so it was"}
    folder.error(0).write_text(json.dumps(words))
    assert settle(folder, KILLED) == (Next.resume, f"rank 0: {type}: so it was")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"time": "late"}', "\xff", '{"time": 1, "rank": 0}'])
def test_last_words_that_are_not_whole_are_passed_over(folder, text):
    last_words(folder, 1, 2.0, "machine", "Connection closed by peer")
    folder.error(0).write_bytes(text.encode("latin-1"))
    assert settle(folder, RAISED) == (Next.resume, "rank 1: RuntimeError: Connection closed by peer")


def test_a_rank_that_could_not_write_its_last_words_is_said_to_have_met_a_full_disk(folder):
    following, why = settle(folder, Outcome({1: UNSAID}))
    assert following is Next.resume and why == "rank 1 could not write its last words: its disk is full or failing"


def test_a_disk_that_stays_full_ends_the_study_and_is_no_trials_failure(folder):
    full = {"time": 1.0, "rank": 0, "kind": "machine", "type": "DiskFull", "message": "disk full: x: 0.1 MB are left"}
    folder.error(0).write_text(json.dumps(full))
    assert settle(folder, RAISED, attempts=RESUMES)[0] is Next.resume
    assert settle(folder, RAISED, attempts=RESUMES + 1)[0] is Next.halt
    folder.error(0).unlink()
    assert settle(folder, Outcome({0: UNSAID}), attempts=RESUMES + 1)[0] is Next.halt


def test_a_recorded_end_keeps_no_checkpoint(folder):
    folder.checkpoints.mkdir()
    for name in ("manifest.json", "step-00000003.pt", "generator.pt"):
        (folder.checkpoints / name).write_text("x")
    outcome.record_failure("abc", folder, "arm: it broke")
    assert [path.name for path in folder.checkpoints.iterdir()] == ["generator.pt"]


def test_a_lost_launcher_is_the_machines_failure(folder):
    assert settle(folder, Outcome(lost=True)) == (Next.resume, "the launcher died")


def test_an_exception_of_a_part_is_the_arms_own_and_the_earliest_rank_is_the_cause(folder):
    last_words(folder, 0, 2.0, "machine", "Connection closed by peer")
    last_words(folder, 1, 1.0, "arm", "no power iteration today\nsecond line")
    assert settle(folder, RAISED) == (Next.fail, "arm: rank 1: RuntimeError: no power iteration today")


@pytest.mark.parametrize(("boots", "first"), [(("a", "a"), 1), (("a", "b"), 0), (("", ""), 0)])
def test_the_clock_of_one_machine_says_who_died_first_and_the_walls_clock_where_there_are_two(folder, boots, first):
    last_words(folder, 0, 1.0, "arm", "no", monotonic=12.0, boot=boots[0])
    last_words(folder, 1, 3600.0, "arm", "no", monotonic=11.0, boot=boots[1])
    assert settle(folder, RAISED) == (Next.fail, f"arm: rank {first}: RuntimeError: no")


def test_a_lost_peer_alone_is_the_machines_failure(folder):
    last_words(folder, 0, 2.0, "machine", "Timed out waiting 300000ms")
    assert settle(folder, RAISED)[0] is Next.resume


def test_the_machine_may_fail_a_trial_a_few_times_only(folder):
    assert settle(folder, KILLED, attempts=RESUMES)[0] is Next.resume
    following, why = settle(folder, KILLED, attempts=RESUMES + 1)
    assert following is Next.fail and why.startswith("machine: rank 1 was ended by SIGKILL")


def test_a_recorded_failure_reads_back_as_one(folder):
    written = outcome.record_failure("abc", folder, "arm: it broke")
    read = outcome.finished("abc", folder)
    assert (written.status, read.status, read.why) == (Status.failed, Status.failed, "arm: it broke")


def test_an_outcome_holds_all_but_the_curves_of_training(folder):
    writer = events.EventWriter(folder.events)
    for step in (1, 2):
        writer.append(events.Measured, step=step, images=4 * step, split="train", values={"loss_d": 0.5})
    for split in ("validation", "test"):
        writer.append(events.Measured, step=2, images=8, split=split, values={"gmsd": 0.25})
    writer.close()
    end(folder)
    whole, held = events.fold("abc", events.read(folder.events)), outcome.finished("abc", folder)
    assert held.curves.keys() == {("validation", "gmsd"), ("test", "gmsd")} < whole.curves.keys()
    assert replace(held, curves={}) == replace(whole, curves={})


def test_clearing_removes_the_flags_of_an_attempt_and_nothing_else(folder):
    end(folder)
    folder.stop.touch()
    last_words(folder, 0, 1.0, "arm", "x")
    outcome.clear(folder)
    assert [path.name for path in folder.root.iterdir()] == ["events.jsonl"]


def test_a_folder_put_aside_keeps_everything_under_a_free_name(folder):
    end(folder)
    outcome.put_aside(folder)
    folder.root.mkdir()
    outcome.put_aside(folder)
    (folder.root.parent / "abc.failed-1").rename(folder.root.parent / "kept")  # or removed by hand
    folder.root.mkdir()
    outcome.put_aside(folder)
    assert sorted(path.name for path in folder.root.parent.iterdir()) == ["abc.failed-2", "abc.failed-3", "kept"]
