"""What the executor asks of Slurm: its limits, its room, its partitions, in whatever environment."""

from __future__ import annotations

import logging
import os

import pytest

from ablate import slurmcommands, slurmplan
from ablate.executor import CannotLaunch
from ablate.plan import make_plan
from ablate.plan_words import filled
from ablate.slurmqueue import LONGEST, room, time_limit
from ablate.study import load
from tests.ablate import studies
from tests.ablate.scripted_slurm import begin

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
