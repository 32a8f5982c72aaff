"""What the executor submits, follows, finds again and cancels: Slurm's commands are scripts over a folder."""

from __future__ import annotations

import json

import pytest

from ablate.executor import CannotLaunch, Outcome
from ablate.executors import check
from ablate.outcome import Next, settle
from ablate.plan import make_plan
from ablate.planfile import write_plan
from ablate.records import StudyFolder, TrialFolder
from ablate.slurm import PATIENCE, RETRY_SECONDS, Shape, SlurmExecutor
from ablate.status import study_status
from ablate.status_words import describe
from ablate.study import load
from tests.ablate import studies
from tests.ablate.scripted_slurm import begin
from trainers.batch import answer, claimant, requeued


def test_what_slurm_never_takes_is_said_and_what_it_takes_no_more_of_is_tried_again(cluster, trial):
    executor = cluster.executor()
    cluster.say("refuses")
    with pytest.raises(CannotLaunch, match="QOSMaxSubmitJob"):
        begin(executor, trial("one"))
    (cluster.root / "refuses").unlink()
    taken = begin(executor, trial("two"))
    cluster.say("refuses")
    waiting = begin(executor, trial("three"))
    assert (taken.poll(), waiting.poll(), executor.free()) == (None, None, 0)
    cluster.now += RETRY_SECONDS
    assert executor.free() == 0, "what was refused goes first"
    assert waiting.poll() is None and executor.free() == 0, "and is refused again"
    (cluster.root / "refuses").unlink()
    assert waiting.poll() is None and len(cluster.lines("submitted")) == 1, "not at once"
    cluster.now += RETRY_SECONDS
    assert waiting.poll() is None and len(cluster.lines("submitted")) == 2 and executor.free() > 0


@pytest.mark.parametrize(("each", "jobs"), [(1, ["two", "three", "four"]), (2, ["two", "four"])])
def test_what_was_refused_comes_into_as_many_jobs_as_it_would_have(cluster, trial, tmp_path, caplog, each, jobs):
    executor = cluster.executor(trials_per_job=each)
    begin(executor, trial("one")).poll()
    cluster.say("refuses")
    waiting = [begin(executor, trial(name)) for name in ("two", "three", "four")]
    for _ in range(3):
        assert [handle.poll() for handle in waiting] == [None] * 3
        cluster.now += RETRY_SECONDS
    (cluster.root / "refuses").unlink()
    assert [handle.poll() for handle in waiting] == [None] * 3
    named = [line.split()[0].split("-")[1] for line in cluster.lines("submitted")]
    assert named == ["one", *jobs] and executor.free() == 0
    assert len({claimant(tmp_path / "slurm", name) for name in ("two", "three", "four")}) == len(jobs)
    assert len([1 for record in caplog.records if "sbatch refused" in record.getMessage()]) == 1


def test_what_was_refused_and_is_wanted_no_more_keeps_no_place(cluster, trial):
    executor = cluster.executor()
    begin(executor, trial("one")).poll()
    cluster.say("refuses")
    waiting = begin(executor, trial("two"))
    waiting.stop()
    (cluster.root / "refuses").unlink()
    cluster.now += RETRY_SECONDS
    assert executor.free() == 3 and begin(executor, trial("three")).poll() is None
    assert [line.split("-")[1] for line in cluster.lines("submitted")] == ["one", "three"]


@pytest.mark.parametrize("words", ["Requested node configuration is not available", "Invalid account specified"])
def test_what_no_node_will_ever_do_is_said_at_once(cluster, trial, words):
    executor = cluster.executor()
    begin(executor, trial("references"), "references", ranks=1)
    cluster.say("refuses", words)
    with pytest.raises(CannotLaunch, match=f"sbatch refused the job: sbatch: error: {words}"):
        begin(executor, trial("one")).poll()


def test_a_trial_that_is_asked_to_stop_before_it_is_taken_never_comes_into_a_job(cluster, trial):
    executor, folder = cluster.executor(), trial("two")
    begin(executor, trial("one"))
    cluster.say("refuses")
    waiting = begin(executor, folder)
    folder.stop.touch()
    assert waiting.poll() == Outcome() and settle("two", folder, Outcome(), attempts=1).next is Next.interrupted


def test_references_take_one_node_whatever_trials_take(cluster, trial):
    executor = cluster.executor(nodes=2)
    begin(executor, trial("references"), "references", ranks=1)
    begin(executor, trial("one")).poll()
    assert [line.split()[1] for line in cluster.lines("submitted")] == ["1", "2"]


def test_a_claim_comes_before_its_job_and_names_it(cluster, trial, tmp_path):
    executor = cluster.executor(trials_per_job=2)
    handles = [begin(executor, trial(name)) for name in ("one", "two", "three")]
    assert handles[2].poll() is None, "what is left over goes when no more comes"
    names = [line.split()[0] for line in cluster.lines("submitted")]
    assert [claimant(tmp_path / "slurm", name) for name in ("one", "two", "three")] == [names[0], names[0], names[1]]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_waiting_job_that_asks_for_what_was_asked_before_is_replaced_and_a_running_one_followed(
    cluster, trial, caplog, state
):
    """A user who has mended an impossible request would else wait for ever."""
    folder = trial("one")
    begin(cluster.executor(nodes=5), folder)
    [line] = cluster.lines("queue")
    id, _, name, reason = line.split("|")
    cluster.say("queue", f"{id}|{state}|{name}|PartitionNodeLimit\n")
    mended = cluster.executor(nodes=1)
    found = mended.adopt(folder.root)
    assert (found is None) == (cluster.lines("scancelled") == [id]) == (state == "PENDING")
    assert ("(nodes 5 -> 1): a new one takes its place" in caplog.text) == (state == "PENDING")
    assert mended.free() == (4 if state == "PENDING" else 3)
    assert cluster.executor(nodes=1).adopt(folder.root) is None or state == "RUNNING"


def test_who_comes_back_finds_what_slurm_has_and_nothing_else(cluster, trial, tmp_path):
    one, two = trial("one"), trial("two")
    begin(cluster.executor(), one)
    again = cluster.executor()
    assert again.adopt(two.root) is None and again.adopt(one.root).poll() is None and again.free() == 3
    cluster.say("queue")
    assert cluster.executor().adopt(one.root) is None


def test_a_silent_slurm_lets_nobody_believe_that_there_are_no_jobs(cluster, trial):
    one = trial("one")
    handle = begin(cluster.executor(), one)
    cluster.say("silent")
    with pytest.raises(CannotLaunch, match="squeue does not say"):
        cluster.executor().adopt(one.root)
    cluster.now += 10 * PATIENCE
    assert handle.poll() is None, "what was known stays"


def test_fewer_slots_than_jobs_are_no_slots(cluster, trial):
    first, folders = cluster.executor(), [trial(f"t{n}") for n in range(3)]
    for folder in folders:
        begin(first, folder)
    again = cluster.executor(slots=1)
    for folder in folders:
        again.adopt(folder.root)
    assert again.free() == 0


def test_a_waiting_job_is_cancelled_when_nobody_in_it_is_wanted(cluster, trial, tmp_path):
    executor, folders = cluster.executor(trials_per_job=2), [trial("one"), trial("two")]
    handles = [begin(executor, folder) for folder in folders]
    folders[0].stop.touch()
    cluster.now += 10
    assert [handle.poll() for handle in handles] == [None, None] and not cluster.lines("scancelled")
    folders[1].stop.touch()
    cluster.now += 10
    assert [handle.poll() for handle in handles] == [Outcome()] * 2 and len(cluster.lines("scancelled")) == 1


def test_a_job_that_waits_to_be_started_again_is_not_one_that_is_unwanted(cluster, trial, tmp_path):
    executor, folder = cluster.executor(), trial("one")
    handle = begin(executor, folder)
    folder.stop.touch()
    requeued(tmp_path / "slurm", claimant(tmp_path / "slurm", "one")).write_text(str(folder.root))
    cluster.now += 10
    assert handle.poll() is None and not cluster.lines("scancelled")


def test_closing_ends_all_jobs_by_one_word(cluster, trial):
    executor = cluster.executor()
    handles = [begin(executor, trial(f"t{n}")) for n in range(3)]
    executor.close()
    assert cluster.lines("scancelled") == ["1 2 3"] and cluster.lines("queue") == []
    assert all(handle.poll().lost for handle in handles)
    executor.close()


def test_this_machine_trains_nothing_while_jobs_of_the_study_live(cluster, trial, tmp_path):
    plan = make_plan(load(studies.write(tmp_path)))
    folder = StudyFolder(tmp_path / "runs", "tiny")
    executor = SlurmExecutor(folder.slurm, 1)
    begin(executor, trial("one"))
    with pytest.raises(CannotLaunch, match="follow them with --set resources.executor=slurm"):
        check(plan, folder)
    executor.close()
    check(plan, folder)


@pytest.mark.parametrize("here", [True, False])
def test_no_answer_of_slurm_is_no_word_that_its_jobs_have_gone(cluster, trial, tmp_path, monkeypatch, here):
    plan, folder = make_plan(load(studies.write(tmp_path))), StudyFolder(tmp_path / "runs", "tiny")
    check(plan, folder)
    begin(SlurmExecutor(folder.slurm, 1), trial("one"))
    if here:
        cluster.say("silent")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotLaunch, match=f"{folder.slurm} says, and squeue does not answer"):
        check(plan, folder)
    path = answer(folder.slurm, claimant(folder.slurm, "one"), "one")
    path.parent.mkdir()
    path.write_text(json.dumps({"failures": {}}))
    check(plan, folder)


def test_status_tells_of_jobs_that_go_on_without_a_driver(cluster, trial, tmp_path):
    plan = make_plan(load(studies.write(tmp_path, studies.STUDY)))
    folder = StudyFolder(tmp_path / "runs", "tiny")
    write_plan(plan, folder)
    executor = SlurmExecutor(folder.slurm, 4, Shape(), clock=lambda: cluster.now)
    first = TrialFolder(folder.trial(next(iter(plan.specs))).root)
    first.root.mkdir(parents=True)
    begin(executor, first)
    [line] = cluster.lines("queue")
    said = describe(study_status(folder.runs, "tiny"))
    assert f"1 job of Slurm: {line.split('|')[2]}; the next driver finds them" in said
    cluster.say("silent")
    assert "Slurm does not say whether jobs of the study wait or run" in describe(study_status(folder.runs, "tiny"))
    (cluster.root / "silent").unlink()
    cluster.all_end("COMPLETED")
    assert "Slurm" not in describe(study_status(folder.runs, "tiny"))
