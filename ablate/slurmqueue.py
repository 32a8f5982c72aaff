"""What Slurm's own commands say: which jobs wait or run, how one ended, what is missing."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ablate.executor import Outcome
from ablate.resources import minutes
from trainers.batch import claimant

log = logging.getLogger(__name__)

TIMEOUT = 60  # seconds for a command
TOOLS = ("sbatch", "sinfo", "squeue", "scontrol", "scancel", "srun")
UP = ("idle", "mix", "alloc", "comp", "plnd", "resv")  # states of nodes, as sinfo shortens them
# Reasons for which Slurm itself holds a job that waits, until somebody releases it; a hold by a person is none of them.
HELD = ("launch failed requeued held", "jobholdmaxrequeue")
# What the last state of a job means for a trial that it left without an answer.
PREEMPTED = {"TIMEOUT": "its job's time was up", "PREEMPTED": "its job was pre-empted", "DEADLINE": "a deadline passed"}
MEMORY = {"OUT_OF_MEMORY": "its job used more memory than Slurm allows it"}
LOST = {
    "NODE_FAIL": "its node failed", "BOOT_FAIL": "its node did not start", "CANCELLED": "its job was cancelled",
    "FAILED": "its job failed", "COMPLETED": "its job ended without an answer", "": "Slurm knows its job no more",
}  # fmt: skip


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


def in_queue() -> dict[str, Queued] | None:
    """This user's jobs by name; None where Slurm does not say."""
    listing = _ask("squeue", "--me", "--noheader", "--format", "%i|%T|%j|%r")
    if listing is None:
        return None
    rows = [line.strip().split("|", 3) for line in listing.splitlines() if line.count("|") >= 3]
    return {name: Queued(id, state, reason) for id, state, name, reason in rows}


def alive(place: Path) -> list[str]:
    """Names of the jobs for a study's trials that still wait or run; none where Slurm is not here."""
    if not place.is_dir() or shutil.which("squeue") is None:
        return []
    claimed = {claimant(place, path.stem) for path in place.glob("*.json")}
    return sorted(claimed & {*(in_queue() or {})})


def last_state(batch: str) -> str:
    """Of a job that has left the queue, as long as Slurm remembers it (MinJobAge, some minutes)."""
    shown = _ask("scontrol", "--oneliner", "show", "job") or ""
    for facts in map(_facts, shown.splitlines()):
        if facts.get("JobName") == batch:
            return facts.get("JobState", "")
    return ""


def ending(state: str) -> Outcome:
    """What a job's last state says of a trial that has no answer."""
    if state in PREEMPTED:
        return Outcome(lost=True, preempted=True, said=PREEMPTED[state])
    if state in MEMORY:
        return Outcome(lost=True, arms=True, said=MEMORY[state])
    return Outcome(lost=True, said=LOST.get(state, f"its job ended as {state}"))


def cancelled(ids: Iterable[str]) -> None:
    """Ask Slurm to end jobs."""
    _ask("scancel", *ids)


def time_limit(partition: str | None) -> int | None:
    """Minutes that a partition (or the default one) gives a job that asks for none, or at most allows."""
    shown = _ask("scontrol", "--oneliner", "show", "partition", *filter(None, [partition])) or ""
    found = next((one for one in map(_facts, shown.splitlines()) if partition or one.get("Default") == "YES"), {})
    limits = [minutes(found.get(key, "")) for key in ("DefaultTime", "MaxTime")]
    return next((limit for limit in limits if limit), None)


def room(nodes: int, cpus: int, gpus: int, partition: str | None) -> int | None:
    """Jobs of `nodes` nodes with so many CPUs and GPUs each that partitions (or the default one) hold at once.

    As if nobody else used it, on the nodes that are up; None where Slurm does not say.
    """
    listing = _ask("sinfo", "--noheader", "--Node", "--format", "%c|%G|%t|%P|%N")
    if listing is None:
        return None
    rows = [line.strip().split("|") for line in listing.splitlines() if line.count("|") == 4]
    wanted = partition.split(",") if partition else ()
    own = {row[4]: row for row in rows if (row[3].rstrip("*") in wanted if wanted else row[3].endswith("*"))}
    each = [_parts(row, cpus, gpus) for row in own.values() if row[2].startswith(UP)]
    most = sum(each) // nodes
    return next((jobs for jobs in range(most, 0, -1) if sum(min(here, jobs) for here in each) >= jobs * nodes), 0)


def _parts(row: list[str], cpus: int, gpus: int) -> int:
    """Parts of jobs that a node holds; of one job it holds one."""
    there = sum(int(number) for number in re.findall(r"gpu(?::[^:,()]+)?:(\d+)", row[1]))
    return min(int(row[0]) // cpus, there // gpus if gpus else sys.maxsize)


def problems() -> list[str]:
    """What keeps this machine from submitting jobs, a sentence each."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [] if importlib.util.find_spec("submitit") else ["submitit (pip install 'ablate-gan[slurm]')"]
    if missing:
        return [f"executor slurm: not found here: {', '.join(missing)}"]
    shown = _ask("sinfo", "--noheader", "--format", "%R|%a")
    if shown is None:
        return ["executor slurm: its controller does not answer (sinfo fails)"]
    if not any(line.strip().endswith("|up") for line in shown.splitlines()):
        return ["executor slurm: no partition is up"]
    return []


def last_line(error: BaseException) -> str:
    """Of what a command or an exception says."""
    said = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    return (str(said).strip().splitlines() or [type(error).__name__])[-1]


def _ask(*words: str) -> str | None:
    """What a command prints; None where it fails, which a busy controller lets happen."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s: %s", words[0], last_line(error))
        return None


def _facts(line: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in line.split())
