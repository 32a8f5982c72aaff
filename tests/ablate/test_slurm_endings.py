"""How a job of Slurm ended, by its answer, squeue and scontrol, and what that says of its trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.executor import CannotLaunch, Outcome
from ablate.outcome import RESUMES, Next, settle
from ablate.plan import make_plan
from ablate.records import StudyFolder
from ablate.referencing import ReferencesFailed, score_references
from ablate.slurm import PATIENCE
from ablate.slurmview import RECALL_SECONDS
from ablate.study import load
from tests.ablate import studies
from tests.ablate.scripted_slurm import begin
from trainers.batch import answer, claimant, current, requeued


def began(place: Path, name: str) -> None:
    """The job of a trial says that it runs it."""
    path = current(place, claimant(place, name))
    path.parent.mkdir()
    path.write_text(name)


def test_an_answer_may_be_late_but_not_for_ever(cluster, trial, tmp_path):
    executor, one, two = cluster.executor(), trial("one"), trial("two")
    handles = [begin(executor, folder) for folder in (one, two)]
    for name in ("one", "two"):
        began(tmp_path / "slurm", name)
    cluster.all_end("NODE_FAIL")
    assert [handle.poll() for handle in handles] == [None, None]
    path = answer(tmp_path / "slurm", claimant(tmp_path / "slurm", "one"), "one")
    path.write_text(json.dumps({"failures": {"1": -9}}))
    assert handles[0].poll() == Outcome({1: -9})
    cluster.now += PATIENCE
    assert handles[1].poll() == Outcome(lost=True, said="its node failed")


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD"])
def test_a_job_that_squeue_leaves_out_lives_as_long_as_scontrol_says_so(cluster, trial, tmp_path, state):
    executor, one = cluster.executor(), trial("one")
    handle = begin(executor, one)
    cluster.all_end(state)
    again = cluster.executor().adopt(one.root)
    for _ in range(3):
        assert (handle.poll(), again.poll()) == (None, None)
        cluster.now += PATIENCE
    cluster.all_end("NODE_FAIL")
    cluster.say("jobs", f"JobId=1 JobName={claimant(tmp_path / 'slurm', 'one')} JobState=NODE_FAIL\n")
    handle.poll()
    cluster.now += PATIENCE
    assert handle.poll() == Outcome(lost=True, said="its node failed")
    again.stop()
    assert cluster.lines("scancelled") == ["1"], "also one that squeue does not list"


def test_everybodys_jobs_are_not_asked_for_at_every_turn(cluster, trial):
    handle = begin(cluster.executor(), trial("one"))
    cluster.all_end("PENDING")
    for _ in range(30):
        assert handle.poll() is None
        cluster.now += 2
    assert len(cluster.lines("recalled")) <= 60 / RECALL_SECONDS + 1


def test_a_silent_scontrol_has_not_forgotten_a_job(cluster, trial):
    executor, one = cluster.executor(), trial("one")
    handle = begin(executor, one)
    cluster.all_end("FAILED")
    cluster.say("mute")
    handle.poll()
    cluster.now += PATIENCE
    assert handle.poll() is None
    with pytest.raises(CannotLaunch, match="scontrol does not say"):
        cluster.executor().adopt(one.root)
    (cluster.root / "mute").unlink()
    assert handle.poll() is None, "not at once"
    cluster.now += RECALL_SECONDS
    assert handle.poll() == Outcome(lost=True, said="its job failed")


@pytest.mark.parametrize(("state", "ended"), [
    ("FAILED", True), ("CANCELLED", True), ("NODE_FAIL", True), ("COMPLETED", False), ("TIMEOUT", False),
    ("OUT_OF_MEMORY", False), ("RUNNING", False),
])  # fmt: skip
def test_a_job_that_broke_before_its_first_trial_is_over_at_once_and_says_why(cluster, trial, tmp_path, state, ended):
    executor = cluster.executor()
    handle = begin(executor, trial("one"))
    log = tmp_path / "slurm" / "log" / "1_0_log.err"
    log.write_text("loading\nbash: module: command not found\n\n")
    cluster.all_end(state)
    outcome = handle.poll()
    assert (outcome is not None) == ended
    if ended:
        assert outcome.lost and outcome.said.endswith(f"; {log} ends with: bash: module: command not found")
        settled = settle("one", trial("two"), outcome, attempts=1)
        assert settled.next is Next.resume and "command not found" in settled.why


def test_of_a_job_whose_time_was_up_no_last_words_are_told(cluster, trial, tmp_path):
    handle = begin(cluster.executor(), trial("one"))
    (tmp_path / "slurm" / "log" / "1_0_log.err").write_text("slurmstepd: error: *** CANCELLED DUE TO TIME LIMIT ***\n")
    cluster.all_end("TIMEOUT")
    handle.poll()
    cluster.now += PATIENCE
    assert handle.poll() == Outcome(lost=True, preempted=True, said="its job's time was up")


@pytest.mark.parametrize(("state", "said"), [("FAILED", "its job failed"), ("TIMEOUT", "its job's time was up")])
def test_each_further_try_of_the_references_is_told(cluster, tmp_path, state, said):
    plan, folder, notes = make_plan(load(studies.write(tmp_path))), StudyFolder(tmp_path / "runs", "tiny"), []

    def fail(seconds: float) -> None:
        cluster.all_end(state)
        cluster.now += PATIENCE

    with pytest.raises(ReferencesFailed, match=f"could not be scored: .*{said}"):
        score_references(plan, folder, cluster.executor(), sleep=fail, note=notes.append)
    assert len(cluster.lines("submitted")) == RESUMES + 1
    assert notes == [f"reference predictors: {said}; scored again"] * RESUMES


@pytest.mark.parametrize(("runs", "kinds"), [
    ("two", [Next.preempted, Next.fail]), ("one", [Next.fail, Next.preempted]), ("", [Next.preempted] * 2),
])  # fmt: skip
def test_only_the_trial_that_ran_can_have_used_up_the_memory(cluster, trial, tmp_path, runs, kinds):
    executor, folders = cluster.executor(trials_per_job=2), [trial("one"), trial("two")]
    handles = [begin(executor, folder) for folder in folders]
    if runs:
        began(tmp_path / "slurm", runs)
    cluster.all_end("OUT_OF_MEMORY")
    [handle.poll() for handle in handles]
    cluster.now += PATIENCE
    found = [settle("id", folder, handle.poll(), attempts=1) for folder, handle in zip(folders, handles, strict=True)]
    assert [one.next for one in found] == kinds


@pytest.mark.parametrize(("state", "follows"), [("FAILED", Next.preempted), ("REQUEUED", None)])
def test_a_job_whose_time_was_up_is_no_failure_and_one_that_is_requeued_is_not_over(
    cluster, trial, tmp_path, state, follows
):
    executor, folder = cluster.executor(), trial("one")
    handle = begin(executor, folder)
    requeued(tmp_path / "slurm", claimant(tmp_path / "slurm", "one")).write_text(str(folder.root))
    cluster.all_end(state)
    handle.poll()
    cluster.now += PATIENCE
    outcome = handle.poll()
    assert (outcome and settle("one", folder, outcome, attempts=1).next) == follows


@pytest.mark.parametrize(
    ("reason", "held"),
    [("launch failed requeued held", True), ("launch_failed_requeued_held", True), ("JobHoldMaxRequeue", True),
     ("JobHeldUser", False), ("JobHeldAdmin", False), ("Resources", False)],
)  # fmt: skip
def test_a_job_that_slurm_holds_is_made_anew_and_one_that_a_person_holds_is_waited_for(cluster, trial, reason, held):
    executor, folder = cluster.executor(), trial("one")
    handle = begin(executor, folder)
    id, _, name, _ = cluster.lines("queue")[0].split("|")
    cluster.say("queue", f"{id}|PENDING|{name}|{reason}\n")
    cluster.now += 10
    outcome = handle.poll()
    assert (outcome is not None, cluster.lines("scancelled") == [id]) == (held, held)
    if held:
        assert settle("one", folder, outcome, attempts=1).next is Next.resume and reason in outcome.said
        assert handle.poll() == outcome and executor.free() == 4
