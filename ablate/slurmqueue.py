"""What Slurm's own commands say: which jobs wait or run, how one ended, what is missing."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate.executor import Outcome
from ablate.resources import minutes
from ablate.slurmcommands import ask, facts, partitions, reason, run
from trainers.batch import answer, claimant

log = logging.getLogger(__name__)

TOOLS = ("sbatch", "sinfo", "squeue", "scontrol", "scancel", "srun")
UP = ("idle", "mix", "alloc", "comp", "plnd", "resv")  # states of nodes, as sinfo shortens them
LONGEST = 365 * 24 * 60  # minutes, where neither study nor partition says less
# Reasons for which Slurm itself holds a job that waits, until somebody releases it; a hold by a person is none of them.
HELD = ("launch failed requeued held", "jobholdmaxrequeue")
# What the last state of a job means for a trial that it left without an answer.
PREEMPTED = {"TIMEOUT": "its job's time was up", "PREEMPTED": "its job was pre-empted", "DEADLINE": "a deadline passed"}
MEMORY = {"OUT_OF_MEMORY": "its job used more memory than Slurm allows it"}
LOST = {
    "NODE_FAIL": "its node failed", "BOOT_FAIL": "its node did not start", "CANCELLED": "its job was cancelled",
    "FAILED": "its job failed", "COMPLETED": "its job ended without an answer", "": "Slurm knows its job no more",
}  # fmt: skip
# States of a job that goes on or comes back, though squeue may leave it out for a while.
LIVING = {
    "RUNNING", "PENDING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING",
    "POWER_UP_NODE", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip
# States of a job that will write no answer. Its memory's end is none of them: whose fault that is hangs on the trial
# that it had begun, which is as late to show as an answer.
BROKEN = {"FAILED", "CANCELLED", "NODE_FAIL", "BOOT_FAIL"}


@dataclass(frozen=True)
class Queued:
    """A job that waits or runs."""

    id: str
    state: str
    reason: str = ""

    @property
    def held(self) -> bool:
        """Whether Slurm has given it up: a node could not start it, or it was requeued too often."""
        return self.state == "PENDING" and self.reason.replace("_", " ").lower() in HELD

    @property
    def lives(self) -> bool:
        """Whether it waits, runs, or will again."""
        return bool(LIVING & {*self.state.split(",")})


def in_queue() -> dict[str, Queued] | None:
    """This user's jobs by name; None where Slurm does not say."""
    listing = ask("squeue", "--me", "--noheader", "--format", "%i|%T|%j|%r")
    if listing is None:
        return None
    rows = [line.strip().split("|", 3) for line in listing.splitlines() if line.count("|") >= 3]
    return {name: Queued(id, state, reason) for id, state, name, reason in rows}


def alive(place: Path) -> list[str] | None:
    """Names of the jobs for a study's trials that still wait or run.

    None where Slurm is silent, or not here, and one may: no answer of it is there.
    """
    claimed = {path.stem: claimant(place, path.stem) for path in place.glob("*.json")}
    if not claimed:
        return []
    jobs = in_queue() if shutil.which("squeue") else None
    if jobs is None:
        return [] if all(answer(place, batch, trial).exists() for trial, batch in claimed.items()) else None
    return sorted({*claimed.values()} & {*jobs})


def remembered() -> dict[str, Queued] | None:
    """Jobs that Slurm still knows by name, ended ones for some minutes (MinJobAge); None where it does not say."""
    shown = ask("scontrol", "--oneliner", "show", "job")
    if shown is None:
        return None
    jobs = [job for job in map(facts, shown.splitlines()) if "JobName" in job]
    return {job["JobName"]: Queued(job.get("JobId", ""), job.get("JobState", "")) for job in jobs}


def ending(state: str) -> Outcome:
    """What a job's last state says of a trial that has no answer."""
    if state in PREEMPTED:
        return Outcome(lost=True, preempted=True, said=PREEMPTED[state])
    if state in MEMORY:
        return Outcome(lost=True, arms=True, said=MEMORY[state])
    return Outcome(lost=True, said=LOST.get(state, f"its job ended as {state}"))


def cancelled(ids: Collection[str]) -> None:
    """Ask Slurm to end jobs."""
    try:
        run("scancel", *ids)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("scancel of the jobs %s: %s", " ".join(ids), reason(error))


def time_limit(partition: str | None) -> int | None:
    """Minutes that any of the partitions (or the default one) gives a job that asks for none, or at most allows.

    LONGEST where nothing limits it, None where Slurm does not say.
    """
    found = _allowed(partition)
    limits = [[minutes(one.get(key, "")) for key in ("DefaultTime", "MaxTime")] for one in found or ()]
    own = [next(filter(None, one), LONGEST) for one in limits]
    return None if found is None else min(own, default=LONGEST)


def least_nodes(partition: str | None) -> int | None:
    """Nodes that one of the partitions (or the default one) gives a job at least; None where Slurm does not say."""
    found = _allowed(partition)
    return min((int(one.get("MinNodes", "0")) for one in found), default=0) if found is not None else None


def _allowed(partition: str | None) -> list[Mapping[str, str]] | None:
    """What each of the partitions (or the default one) allows: all are asked for, as a wrong name is no silence."""
    shown = ask("scontrol", "--oneliner", "--all", "show", "partition")
    if shown is None:
        return None
    wanted, found = partitions(partition), [facts(line) for line in shown.splitlines()]
    return [one for one in found if (one.get("PartitionName") in wanted if wanted else one.get("Default") == "YES")]


def room(nodes: int, cpus: int, gpus: int, partition: str | None) -> int | None:
    """Jobs of `nodes` nodes with so many CPUs and GPUs each that partitions (or the default one) hold at once.

    As if nobody else used it, on the nodes that are up; None where Slurm does not say.
    """
    listing = ask("sinfo", "--noheader", "--Node", "--format", "%c|%G|%t|%P|%N")
    if listing is None:
        return None
    rows = [line.strip().split("|") for line in listing.splitlines() if line.count("|") == 4]
    wanted = partitions(partition)
    own = {row[4]: row for row in rows if (row[3].rstrip("*") in wanted if wanted else row[3].endswith("*"))}
    each = [_parts(row, cpus, gpus) for row in own.values() if row[2].startswith(UP)]
    most = sum(each) // nodes
    return next((jobs for jobs in range(most, 0, -1) if sum(min(here, jobs) for here in each) >= jobs * nodes), 0)


def _parts(row: list[str], cpus: int, gpus: int) -> int:
    """Parts of jobs that a node holds; of one job it holds one."""
    there = sum(int(number) for number in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", row[1]))
    return min(int(row[0]) // cpus, there // gpus if gpus else sys.maxsize)


def problems(wanted: Collection[str] = ()) -> list[str]:
    """What keeps this machine from submitting jobs to the partitions `wanted`, or to any, a sentence each."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [] if importlib.util.find_spec("submitit") else ["submitit (pip install 'ablate-gan[slurm]')"]
    if missing:
        return [f"executor slurm: not found here: {', '.join(missing)}"]
    shown = ask("sinfo", "--all", "--noheader", "--format", "%R|%a")
    if shown is None:
        return ["executor slurm: its controller does not answer (sinfo fails)"]
    if not any(line.strip().endswith("|up") for line in shown.splitlines()):
        return ["executor slurm: no partition is up"]
    there = dict.fromkeys(line.strip().partition("|")[0] for line in shown.splitlines())
    return [f"executor slurm: there is no partition {name}; there are {', '.join(there)}"
            for name in wanted if name not in there]  # fmt: skip
