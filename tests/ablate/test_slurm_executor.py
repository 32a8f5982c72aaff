"""What the executor makes of a Slurm that refuses, is silent or ends jobs: its commands are scripts over a folder."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from ablate import slurmcommands, slurmplan
from ablate.executor import CannotLaunch, Outcome
from ablate.executors import check
from ablate.outcome import RESUMES, Next, settle
from ablate.plan import make_plan
from ablate.plan_words import filled
from ablate.planfile import write_plan
from ablate.records import StudyFolder, TrialFolder
from ablate.referencing import ReferencesFailed, score_references
from ablate.slurm import PATIENCE, RETRY_SECONDS, Shape, SlurmExecutor
from ablate.slurmqueue import LONGEST, room, time_limit
from ablate.slurmview import RECALL_SECONDS
from ablate.status import study_status
from ablate.status_words import describe
from ablate.study import load
from tests.ablate import studies
from trainers.batch import answer, claimant, current, requeued

SCRIPTS = {
    "sbatch": """
        [ -e refuses ] && { echo "sbatch: error: $(grep . refuses || echo QOSMaxSubmitJobPerUserLimit)" >&2; exit 1; }
        id=$(($(cat ids 2>/dev/null || echo 0) + 1)); echo $id > ids
        name=$(sed -n 's/^#SBATCH --job-name=//p' "$1"); nodes=$(sed -n 's/^#SBATCH --nodes=//p' "$1")
        echo "$id|PENDING|$name|None" >> queue; echo "$name $nodes" >> submitted
        sed -n 's/^#SBATCH //p' "$1" > script
        echo "Submitted batch job $id" """,
    "squeue": """
        [ -e silent ] && { echo "slurm_load_jobs error: Zero Bytes were transmitted" >&2; exit 1; }
        cat queue 2>/dev/null || true""",
    "scancel": """echo "$@" >> scancelled; for id in "$@"; do sed -i "/^$id|/d" queue; done""",
    "scontrol": """
        [ -e mute ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
        case "$*" in *partition*) cat partition;; *) echo >> recalled; cat jobs 2>/dev/null || true;; esac""",
    "sinfo": """case "$*" in *%G*) [ -e silent ] && exit 1; cat nodes;; *) echo "test|up";; esac""",
    "srun": "true",
}


class Cluster:
    """A folder that the scripts read and write."""

    def __init__(self, root: Path):
        self.root, self.now = root, 0.0
        root.mkdir()
        for name, lines in SCRIPTS.items():
            (root / name).write_text(f"#!/bin/bash\ncd {root}\nenv > env.{name}\n{lines}\n")
            (root / name).chmod(0o755)
        (root / "partition").write_text("PartitionName=test Default=YES DefaultTime=NONE MaxTime=1-00:00:00\n")

    def executor(self, slots: int = 4, **shape) -> SlurmExecutor:
        return SlurmExecutor(self.root.parent / "slurm", slots, Shape(**shape), clock=lambda: self.now)

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, name: str) -> set[str]:
        """Names of the variables that a command was last run with."""
        return {line.partition("=")[0] for line in self.lines(f"env.{name}")}

    def say(self, name: str, text: str = "") -> None:
        (self.root / name).write_text(text)

    def all_end(self, state: str) -> None:
        """All jobs leave the queue in a state, and Slurm remembers it."""
        left = [line.split("|") for line in self.lines("queue")]
        said = "".join(f"JobId={id} JobName={name} JobState={state}\n" for id, _, name, _ in left)
        self.say("jobs", said + "".join(f"{line}\n" for line in self.lines("jobs")))
        self.say("queue")
        self.now += 10

    def waits_for(self, reason: str) -> None:
        """All jobs wait for a reason."""
        rows = [line.split("|")[:3] for line in self.lines("queue")]
        self.say("queue", "".join("|".join([*row, reason]) + "\n" for row in rows))
        self.now += 10


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Cluster:
    monkeypatch.setattr(slurmcommands, "_silent", {})
    made = Cluster(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.root}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.fixture
def trial(tmp_path):
    def make(name: str) -> TrialFolder:
        folder = TrialFolder(tmp_path / "trials" / name)
        folder.root.mkdir(parents=True)
        return folder

    return make


def begin(executor: SlurmExecutor, folder: TrialFolder, kind: str = "run", ranks: int = 2):
    return executor.start(kind, folder.root, ranks=ranks, threads=1)


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


def began(place: Path, name: str) -> None:
    """The job of a trial says that it runs it."""
    path = current(place, claimant(place, name))
    path.parent.mkdir()
    path.write_text(name)


SETTINGS = {  # of users, and of an allocation in which the driver runs
    "SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "RUNNING", "SCANCEL_STATE": "PENDING", "SINFO_FORMAT": "%P",
    "SBATCH_JOB_NAME": "mine", "SBATCH_ARRAY_INX": "0-3", "SBATCH_TIMELIMIT": "1", "SBATCH_OUTPUT": "out",
    "SBATCH_WAIT": "1", "SBATCH_EXPORT": "NONE", "SLURM_GPUS": "8", "SLURM_GPUS_PER_TASK": "1", "SLURM_JOB_ID": "7",
    "SLURM_CPUS_PER_GPU": "2", "SLURM_THREADS_PER_CORE": "1", "SRUN_CPUS_PER_TASK": "4",
}  # fmt: skip
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_CONSTRAINT", "SBATCH_MEM_PER_CPU")


@pytest.mark.parametrize("shape", [{}, {"partition": "test"}, {"account": "ours"}])
def test_a_users_settings_for_slurm_change_neither_its_answers_nor_our_jobs(cluster, trial, monkeypatch, shape):
    for name, value in {**SETTINGS, **dict.fromkeys((*KEPT, "SBATCH_PARTITION", "SBATCH_ACCOUNT"), "x")}.items():
        monkeypatch.setenv(name, "test" if name == "SBATCH_PARTITION" else value)
    before, executor = dict(os.environ), cluster.executor(**shape)
    executor.warm_up()
    begin(executor, trial("one"))
    cluster.now += 10
    executor.close()
    for tool in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"):
        assert not {*SETTINGS} & cluster.environment(tool) and {*KEPT} <= cluster.environment(tool), tool
    given = cluster.environment("sbatch")
    assert [f"SBATCH_{key.upper()}" in given for key in ("partition", "account")] == [
        key not in shape for key in ("partition", "account")]  # fmt: skip
    assert dict(os.environ) == before and {"PATH", "HOME"} & {*before} <= given


def test_an_outage_of_the_controller_is_said_once_and_so_is_its_end(cluster, trial, caplog):
    executor, one = cluster.executor(), trial("one")
    handle = begin(executor, one)
    for silent in (True, False):
        cluster.say("silent")
        for _ in range(3):
            cluster.now += 10
            assert handle.poll() is None
        (cluster.root / "silent").unlink()
        for _ in range(3):
            cluster.now += 10
            assert handle.poll() is None
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert [line.split(":")[0].split(",")[0] for line in said] == [
            "Slurm does not answer squeue", "Slurm answers squeue again"] * (1 if silent else 2)  # fmt: skip
        assert "Zero Bytes were transmitted; jobs go on" in said[0]


def test_a_command_that_hangs_or_is_not_there_is_said_in_words(cluster, monkeypatch, caplog):
    monkeypatch.setattr(slurmcommands, "TIMEOUT", 0.05)
    (cluster.root / "squeue").write_text("#!/bin/bash\nexec sleep 10\n")
    (cluster.root / "scontrol").write_text("#!/bin/bash\nexit 3\n")
    assert slurmcommands.ask("squeue") is slurmcommands.ask("scontrol") is slurmcommands.ask("sackd-none") is None
    said = [record.getMessage() for record in caplog.records]
    assert "nothing within" in said[0] and "it ended with code 3" in said[1] and "No such file" in said[2]
    assert not any("Command" in line for line in said)


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


def test_a_requeued_job_that_squeue_leaves_out_is_not_one_whose_time_was_up(cluster, trial, tmp_path):
    executor, folder = cluster.executor(), trial("one")
    handle = begin(executor, folder)
    requeued(tmp_path / "slurm", claimant(tmp_path / "slurm", "one")).write_text(str(folder.root))
    cluster.all_end("REQUEUED")
    handle.poll()
    cluster.now += PATIENCE
    assert handle.poll() is None


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


def test_a_job_whose_time_was_up_too_often_is_no_failure(cluster, trial, tmp_path):
    executor, folder = cluster.executor(), trial("one")
    handle = begin(executor, folder)
    requeued(tmp_path / "slurm", claimant(tmp_path / "slurm", "one")).write_text(str(folder.root))
    cluster.all_end("FAILED")
    handle.poll()
    cluster.now += PATIENCE
    assert settle("one", folder, handle.poll(), attempts=1).next is Next.preempted


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


def test_a_limit_that_the_study_leaves_open_is_the_partitions(cluster):
    assert time_limit(None) == time_limit("test") == 1440
    cluster.say("partition", "PartitionName=test Default=YES DefaultTime=02:00:00 MaxTime=UNLIMITED\n")
    assert time_limit(None) == 120
    cluster.say("partition", "PartitionName=test Default=NO DefaultTime=NONE MaxTime=UNLIMITED\n")
    assert time_limit("test") == LONGEST


@pytest.mark.parametrize(("named", "allowed"), [
    ("a,b", 60), ("b,a", 60), ("a", 1440), ("c", LONGEST), ("a,c", 1440), ("a,none", 1440), ("none", LONGEST),
    (None, 30),
])  # fmt: skip
def test_of_several_partitions_the_shortest_limit_counts(cluster, monkeypatch, named, allowed):
    cluster.say("partition", """PartitionName=a Default=NO DefaultTime=NONE MaxTime=1-00:00:00
PartitionName=b Default=NO DefaultTime=NONE MaxTime=01:00:00
PartitionName=c Default=NO DefaultTime=NONE MaxTime=UNLIMITED
PartitionName=d Default=YES DefaultTime=00:30:00 MaxTime=UNLIMITED
""")
    assert time_limit(named) == allowed
    monkeypatch.setenv("SBATCH_PARTITION", "a,b")
    assert time_limit(named) == (allowed if named else 60), "one that the environment names is where jobs go"


def test_a_silent_scontrol_is_no_partition_without_a_limit(cluster, trial):
    executor = cluster.executor()
    cluster.say("mute")
    with pytest.raises(CannotLaunch, match="scontrol does not say how long a job may be"):
        begin(executor, trial("one"))
    (cluster.root / "mute").unlink()
    begin(executor, trial("two"))
    assert "--time=1440" in cluster.lines("script")


@pytest.mark.parametrize(("reason", "shape", "said"), [
    ("PartitionTimeLimit", {"partition": "test"}, "1440 minutes, as the study .* partition test .* set resources.time"),
    ("QOSMaxWallDurationPerJobLimit", {}, "the default partition or your account allows less; set resources.time"),
    ("PartitionNodeLimit", {}, "asks for 1 node, and .* less than 2; set resources.nodes"),
    ("PartitionTimeLimit", {"time": 5000}, ""), ("PartitionNodeLimit", {"nodes": 3}, ""), ("JobHeldUser", {}, ""),
])  # fmt: skip
def test_a_job_that_our_own_limits_keep_waiting_ends_the_study_with_a_sentence(
    cluster, trial, caplog, reason, shape, said
):
    cluster.say("partition", "PartitionName=test Default=YES MinNodes=2 MaxTime=1-00:00:00\n")
    executor = cluster.executor(**shape)
    handles = [begin(executor, trial(name)) for name in ("one", "two")]
    cluster.waits_for(reason)
    if not said:
        assert [handle.poll() for handle in handles] == [None, None] and not cluster.lines("scancelled")
        assert reason in caplog.text
        return
    with pytest.raises(CannotLaunch, match=said):
        handles[0].poll()
    assert sorted(cluster.lines("scancelled")[0].split()) == ["1", "2"], "or the next driver finds them"


def test_nodes_that_are_down_are_waited_for(cluster, trial):
    handle = begin(cluster.executor(), trial("one"))
    cluster.waits_for("PartitionNodeLimit")
    assert handle.poll() is None


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


@pytest.mark.parametrize(("nodes", "cpus", "gpus", "partition", "fitting"), [
    (1, 2, 0, None, 8 + 4), (1, 8, 0, None, 2 + 1), (1, 2, 1, None, 4), (1, 1, 3, None, 1), (2, 8, 0, None, 1),
    (2, 2, 0, None, 4), (3, 1, 0, None, 0), (1, 4, 0, "big", 16 + 2), (1, 4, 0, "test,big", 4 + 2 + 16),
    (1, 4, 0, "none", 0), (1, 32, 0, None, 0),
])  # fmt: skip
def test_the_room_of_a_partition_is_counted_node_by_node(cluster, nodes, cpus, gpus, partition, fitting):
    """Nodes that are down count nothing; of one job a node holds one part."""
    rows = ("16|gpu:h100:4(S:0-1)|idle|test*|a", "8|(null)|mix|test*|b", "64|(null)|down*|test*|c",
            "64|(null)|alloc|big|d", "8|(null)|mix|big|b")  # fmt: skip
    cluster.say("nodes", "\n".join(rows))
    assert room(nodes, cpus, gpus, partition) == fitting


def test_a_controller_that_is_silent_says_nothing_of_room(cluster):
    cluster.say("silent")
    assert room(1, 1, 0, None) is None


@pytest.mark.parametrize(("rows", "slots", "said"), [
    ("2|(null)|idle|test*|a\n4|(null)|mix|test*|b", 3,
     ", as 4 jobs of slurm, each of 2 CPUs; its default partition holds 3 at once if nobody else uses it"),
    ("1|(null)|idle|test*|a", 4,
     ", as 4 jobs of slurm, each of 2 CPUs; its default partition has no node of that size up: it would be refused,"
     " or wait"),
    ("", 4, ", as 4 jobs of slurm, each of 2 CPUs; Slurm does not answer here: the time below has room for all"),
])  # fmt: skip
def test_a_plan_says_how_a_partition_is_filled(cluster, tmp_path, rows, slots, said):
    cluster.say("nodes" if rows else "silent", rows)
    on_slurm = studies.STUDY.replace("resources: {ranks: 2}", "resources: {ranks: 2, executor: slurm}")
    plan, facts = filled(make_plan(load(studies.write(tmp_path, on_slurm))))
    assert (plan.slots, slurmplan.describe(facts)) == (slots, said)


def test_a_plan_is_for_the_partition_that_the_environment_names(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "big")
    cluster.say("nodes", "2|(null)|idle|test*|a\n4|(null)|mix|big|b")
    on_slurm = studies.STUDY.replace("resources: {ranks: 2}", "resources: {ranks: 2, executor: slurm}")
    plan, facts = filled(make_plan(load(studies.write(tmp_path, on_slurm))))
    assert plan.slots == 2 and "partition big holds 2 at once" in slurmplan.describe(facts)


def test_a_partition_that_there_is_not_is_refused_before_anything_is_done(cluster):
    for partition, missing in (("test", ""), ("short", "short"), ("test,short", "short")):
        executor = cluster.executor(partition=partition)
        if missing:
            with pytest.raises(CannotLaunch, match="there is no partition short; there are test"):
                executor.warm_up()
        else:
            executor.warm_up()


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
