"""Trials as jobs of Slurm, submitted by submitit: `resources: {executor: slurm}`.

Jobs outlive the driver. What was submitted for which trial is kept beside the study before it is submitted, under a
name that the job carries in Slurm too; a driver that comes back finds its jobs by it, and none is submitted twice.
How a trial ended is a file that its job writes (`trainers.batch`); Slurm is asked about jobs that have written none.
No accounting database is needed.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.disk import make_folder, write_atomically
from ablate.executor import CannotLaunch, Handle, Outcome
from ablate.records import TrialFolder, digest
from ablate.resources import Resources, minutes
from trainers.batch import Batch, answer, claim, claimant, requeued
from trainers.pool import Job

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # between two questions to Slurm's controller, which all users share
PATIENCE = 10.0  # seconds for an answer to show on a shared disk after its job has gone
LONGEST = 365 * 24 * 60  # minutes, where neither study nor partition says less
TIMEOUT = 60  # seconds for a command of Slurm's
REQUEUES = 100  # of one job at its time limit, by submitit; a trial that gets nowhere is the driver's to end
TOOLS = ("sbatch", "sinfo", "squeue", "scontrol", "scancel", "srun")
# States of jobs that are over. What a state of Slurm means for a trial whose job left no answer:
PREEMPTED = {"TIMEOUT": "its job's time was up", "PREEMPTED": "its job was pre-empted", "DEADLINE": "a deadline passed"}
MEMORY = {"OUT_OF_MEMORY": "its job used more memory than Slurm allows it"}
LOST = {
    "NODE_FAIL": "its node failed", "BOOT_FAIL": "its node did not start", "CANCELLED": "its job was cancelled",
    "FAILED": "its job failed", "COMPLETED": "its job ended without an answer", "": "Slurm knows its job no more",
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What one job asks for; None leaves it to the cluster."""

    nodes: int = 1
    partition: str | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    time: int | None = None  # minutes
    account: str | None = None
    setup: tuple[str, ...] = ()  # shell lines before the job, such as `module load cuda`
    trials_per_job: int = 1

    @classmethod
    def of(cls, asked: Resources) -> Shape:
        """The shape that a study asks for."""
        same = {one.name: getattr(asked, one.name) for one in fields(cls)}
        return cls(**{**same, "time": asked.minutes})


@dataclass
class SlurmHandle:
    """A trial that is in a job, or in one that is about to be submitted."""

    executor: SlurmExecutor
    folder: TrialFolder
    batch: str = ""  # the job's name; none until it is submitted
    outcome: Outcome | None = None
    gone: float | None = None  # since when its job is not in the queue

    @property
    def trial(self) -> str:
        return self.folder.root.name

    def poll(self) -> Outcome | None:
        self.outcome = self.outcome or self.executor.outcome(self)
        return self.outcome

    def stop(self) -> None:
        """Cancel its job, also where others wait in it."""
        if self.outcome is None:
            self.executor.cancel(self)
            self.outcome = Outcome(lost=True, said="its job was ended from here")


@dataclass
class SlurmExecutor:
    """At most `slots` trials in jobs. `place` holds claims, answers and submitit's own files."""

    place: Path
    slots: int
    shape: Shape = Shape()
    clock: Callable[[], float] = time.monotonic
    outlives: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        make_folder(self.place)
        self._handles: list[SlurmHandle] = []
        self._gathered: list[tuple[SlurmHandle, Job]] = []
        self._states: dict[str, str] = {}  # of jobs in the queue, by name
        self._looked: float | None = None

    # -- the contract ---------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Nothing to start ahead of time. Raises CannotLaunch where Slurm is not to be had."""
        if found := problems():
            raise CannotLaunch(found[0])

    def free(self) -> int:
        self._handles = [handle for handle in self._handles if handle.outcome is None]
        return self.slots - len(self._handles)

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        handle, job = SlurmHandle(self, TrialFolder(folder)), Job(kind, str(folder.resolve()), ranks, threads)
        if self._gathered and not _alike(self._gathered[0][1], job):
            self._submit()
        self._handles.append(handle)
        self._gathered.append((handle, job))
        if len(self._gathered) == self.shape.trials_per_job or kind != "run":
            self._submit()
        return handle

    def adopt(self, folder: Path) -> Handle | None:
        """The handle of a job that an earlier driver submitted and that Slurm still has."""
        self._look()
        batch = claimant(self.place, folder.name)
        if batch not in self._states:
            return None
        self._handles.append(SlurmHandle(self, TrialFolder(folder), batch))
        return self._handles[-1]

    def close(self) -> None:
        """Cancel what has not ended."""
        for handle in list(self._handles):
            handle.stop()

    def wait(self, seconds: float) -> None:
        """A job's answer shows on the shared disk when one looks for it."""
        time.sleep(seconds)

    # -- jobs -----------------------------------------------------------------------------------

    def outcome(self, handle: SlurmHandle) -> Outcome | None:
        """How a trial's job ended, None while it may still write its answer."""
        if self._gathered:  # the driver has started all that it can now
            self._submit()
        path = answer(self.place, handle.batch, handle.trial)
        if path.exists():
            return Outcome({int(rank): code for rank, code in json.loads(path.read_text())["failures"].items()})
        state = self._look().get(handle.batch)
        if state == "PENDING" and handle.folder.stop.exists() and not requeued(self.place, handle.batch).exists():
            self.cancel(handle)  # it would only begin to stop
            return Outcome()
        if state is not None:
            handle.gone = None
            return None
        handle.gone = self.clock() if handle.gone is None else handle.gone
        if self.clock() - handle.gone < PATIENCE:
            return None
        return ending(self._last_state(handle.batch))

    def cancel(self, handle: SlurmHandle) -> None:
        self._gathered = [(one, job) for one, job in self._gathered if one is not handle]
        if not handle.batch:
            return
        _ask("scancel", "--name", handle.batch)
        end = self.clock() + TIMEOUT
        while self.clock() < end and handle.batch in self._look(at_once=True):
            time.sleep(0.2)

    def _submit(self) -> None:
        """One job for all that has been gathered. The claims come first: a killed driver finds what it began."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        gathered, self._gathered = self._gathered, []
        jobs = tuple(job for _, job in gathered)
        name = f"ablate-{gathered[0][0].trial}-{digest([self.clock(), time.time(), [job.folder for job in jobs]], 6)}"
        for handle, _ in gathered:
            handle.batch = name
            write_atomically(claim(self.place, handle.trial), json.dumps({"batch": name}))
        made = submitit.SlurmExecutor(folder=self.place / "log", max_num_timeout=REQUEUES)
        made.update_parameters(**self._parameters(name, jobs[0]))
        try:
            made.submit(Batch(name, str(self.place.resolve()), jobs, self.shape.nodes))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise CannotLaunch(f"executor slurm: sbatch refused the job: {_last_line(error)}") from error
        self._states[name] = "PENDING"
        self._looked = self.clock()

    def _parameters(self, name: str, job: Job) -> dict[str, Any]:
        shape = self.shape
        each = -(-job.ranks // shape.nodes)
        asked = {"job_name": name, "nodes": shape.nodes, "ntasks_per_node": 1,
                 "cpus_per_task": shape.cpus_per_task or each * job.threads, "partition": shape.partition,
                 "gpus_per_node": shape.gpus_per_node, "time": self._minutes, "account": shape.account,
                 "setup": list(shape.setup) or None}  # fmt: skip
        return {key: value for key, value in asked.items() if value is not None}

    # -- Slurm ----------------------------------------------------------------------------------

    @cached_property
    def _minutes(self) -> int:
        """A job's time limit: the study's, else what the partition gives or at most allows."""
        if self.shape.time:
            return self.shape.time
        shown = _ask("scontrol", "--oneliner", "show", "partition", *filter(None, [self.shape.partition])) or ""
        facts = [dict(word.partition("=")[::2] for word in line.split()) for line in shown.splitlines()]
        found = next((one for one in facts if self.shape.partition or one.get("Default") == "YES"), {})
        limits = [minutes(found.get(key, "")) for key in ("DefaultTime", "MaxTime")]
        return next((limit for limit in limits if limit), LONGEST)

    def _look(self, *, at_once: bool = False) -> Mapping[str, str]:
        """Our jobs in the queue, name -> state. It is kept for a while, and while Slurm does not answer."""
        now = self.clock()
        if not at_once and self._looked is not None and now - self._looked < LOOK_SECONDS:
            return self._states
        listing = _ask("squeue", "--me", "--noheader", "--format", "%T|%j")
        if listing is not None:
            rows = [line.strip().split("|") for line in listing.splitlines() if "|" in line]
            self._states = {name: state for state, name in rows}
        self._looked = self.clock()
        return self._states

    def _last_state(self, batch: str) -> str:
        """Of a job that has left the queue, as long as Slurm remembers it (MinJobAge, some minutes)."""
        shown = _ask("scontrol", "--oneliner", "show", "job") or ""
        for line in shown.splitlines():
            facts = dict(word.partition("=")[::2] for word in line.split())
            if facts.get("JobName") == batch:
                return facts.get("JobState", "")
        return ""


def _alike(one: Job, other: Job) -> bool:
    return (one.kind, one.ranks, one.threads) == (other.kind, other.ranks, other.threads)


def ending(state: str) -> Outcome:
    """What a job's last state says of a trial that has no answer."""
    if state in PREEMPTED:
        return Outcome(lost=True, preempted=True, said=PREEMPTED[state])
    if state in MEMORY:
        return Outcome(lost=True, arms=True, said=MEMORY[state])
    return Outcome(lost=True, said=LOST.get(state, f"its job ended as {state}"))


def problems() -> list[str]:
    """What keeps this machine from submitting jobs, a sentence each."""
    if missing := missing_tools():
        return [f"executor slurm: not found here: {', '.join(missing)}"]
    shown = _ask("sinfo", "--noheader", "--format", "%R|%a")
    if shown is None:
        return ["executor slurm: its controller does not answer (sinfo fails)"]
    if not any(line.strip().endswith("|up") for line in shown.splitlines()):
        return ["executor slurm: no partition is up"]
    return []


def missing_tools() -> Sequence[str]:
    """Of Slurm's commands and submitit, what is not here."""
    import importlib.util

    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return [*missing, *([] if importlib.util.find_spec("submitit") else ["submitit (pip install ablate-gan[slurm])"])]


def _ask(*words: str) -> str | None:
    """What a command of Slurm's prints; None where it fails, which a busy controller lets happen."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s: %s", words[0], _last_line(error))
        return None


def _last_line(error: BaseException) -> str:
    said = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    return (str(said).strip().splitlines() or [type(error).__name__])[-1]
