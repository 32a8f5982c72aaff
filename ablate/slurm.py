"""Trials as jobs of Slurm, submitted by submitit: `resources: {executor: slurm}`.

Jobs outlive the driver. What was submitted for which trial is kept beside the study before it is submitted, under a
name that the job carries in Slurm too; a driver that comes back finds its jobs by it, and none is submitted twice.
How a trial ended is a file that its job writes (`trainers.batch`); Slurm is asked about jobs that have written none.
No accounting database is needed.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from ablate.disk import make_folder, write_atomically
from ablate.executor import CannotLaunch, Handle, Outcome
from ablate.records import TrialFolder, digest
from ablate.slurmcommands import partitions
from ablate.slurmjob import Refused, Shape, alike, last_words, never_begins, submit
from ablate.slurmqueue import BROKEN, Queued, cancelled, ending, problems, time_limit
from ablate.slurmview import LOOK_SECONDS, View
from trainers.batch import answer, claim, claimant, requeued, running
from trainers.pool import Job

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds for an answer to show after its job has gone: NFS may keep what it knows of names that long
RETRY_SECONDS = 30.0  # until sbatch is asked again that has refused a job while others run
GONE_SECONDS = 60.0  # for cancelled jobs to leave the queue
# Reasons for which a job waits that pass by themselves.
WAITING = ("", "None", "Priority", "Resources", "BeginTime", "Cleaning", "Dependency", "Reservation")
ENDED_HERE = "its job was ended from here"


@dataclass
class SlurmHandle:
    """A trial that is in a job, or in one that is about to be submitted."""

    executor: SlurmExecutor
    folder: TrialFolder
    batch: str = ""  # the job's name; none until it is submitted
    outcome: Outcome | None = None
    gone: float | None = None  # since when its job is neither in the queue nor said to live

    @property
    def trial(self) -> str:
        return self.folder.root.name

    def poll(self) -> Outcome | None:
        self.outcome = self.outcome or self.executor.outcome(self)
        return self.outcome

    def stop(self) -> None:
        """Cancel its job, also where others wait in it."""
        if self.outcome is None:
            self.executor.forget(self)
            self.executor.cancel([self.batch])
            self.outcome = Outcome(lost=True, said=ENDED_HERE)


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
        self._view = View(self.clock)
        self._accepted = False  # whether Slurm has ever taken a job
        self._again: float | None = None  # when what was refused is submitted again
        self._cancelled: set[str] = set()  # jobs that were ended from here
        self._limit: int | None = None  # minutes that jobs ask for
        self._told: set[tuple[str, str]] = set()  # jobs, and why they wait, that it was said of

    # -- the contract ---------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Nothing to start ahead of time. Raises CannotLaunch where Slurm is not to be had."""
        if found := problems(partitions(self.shape.partition)):
            raise CannotLaunch(found[0])

    def free(self) -> int:
        self._handles = [handle for handle in self._handles if handle.outcome is None]
        return 0 if self._again is not None else max(0, self.slots - len(self._handles))

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        handle, job = SlurmHandle(self, TrialFolder(folder)), Job(kind, str(folder.absolute()), ranks, threads)
        if self._gathered and not alike(self._gathered[0][1], job):
            self._submit_if_due()
        self._handles.append(handle)
        self._gathered.append((handle, job))
        if len(self._gathered) >= self.shape.of_job(job)[1]:
            self._submit_if_due()
        return handle

    def adopt(self, folder: Path) -> Handle | None:
        """The handle of a job that an earlier driver submitted and that Slurm still has.

        Raises CannotLaunch where Slurm does not say: another job might then be a second one.
        """
        batch = claimant(self.place, folder.name)
        if not batch:
            return None
        self._view.look()
        if not self._view.answered:
            raise CannotLaunch("executor slurm: squeue does not say which jobs there are")
        if batch not in self._view.queue and not self._lives_unlisted(batch):
            return None
        if self._is_outdated(batch, folder.name):
            self.cancel([batch])
            return None
        self._accepted = True
        self._handles.append(SlurmHandle(self, TrialFolder(folder), batch))
        return self._handles[-1]

    def _is_outdated(self, batch: str, trial: str) -> bool:
        """Whether a job still waits that asks for what the study asked for before: it might wait for ever."""
        queued = self._view.queue.get(batch)
        before = json.loads(claim(self.place, trial).read_text()).get("shape")
        if queued is None or queued.state != "PENDING" or before in (None, now := self.shape.stated()):
            return False
        changed = ", ".join(f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key])
        log.warning("job %s of trial %s still waits, and the study has changed (%s): a new one takes its place",
                    queued.id, trial, changed)  # fmt: skip
        return True

    def wait(self, seconds: float) -> None:
        """Sleep, but not for long: nothing tells of an answer but a look at the shared disk."""
        time.sleep(min(seconds, LOOK_SECONDS))

    def leave(self) -> None:
        """Nothing: jobs that wait keep their place in the queue."""

    def close(self) -> None:
        """Cancel what has not ended, all at once."""
        self.cancel([handle.batch for handle in self._handles if handle.outcome is None])
        for handle in self._handles:
            handle.stop()

    # -- how a job ended ------------------------------------------------------------------------

    def outcome(self, handle: SlurmHandle) -> Outcome | None:
        """How a trial's job ended, None while it may still write its answer."""
        self._submit_if_due()  # the driver has started all that it can now
        if not handle.batch:
            return self._given_up(handle)
        path = answer(self.place, handle.batch, handle.trial)
        if path.exists():
            return Outcome({int(rank): code for rank, code in json.loads(path.read_text())["failures"].items()})
        if handle.batch in self._cancelled:
            return Outcome() if handle.folder.stop.exists() else Outcome(lost=True, preempted=True, said=ENDED_HERE)
        queued = self._view.look().get(handle.batch)
        if queued and queued.state == "PENDING" and self._unwanted(handle.batch):
            self.cancel([handle.batch])  # it would only begin to stop
            return Outcome()
        if queued and queued.held:
            self.cancel([handle.batch])
            return Outcome(lost=True, said=f"Slurm holds its job ({queued.reason})")
        if queued:
            self._explain(handle, queued)
            handle.gone = None
            return None
        return self._unlisted(handle)

    def _given_up(self, handle: SlurmHandle) -> Outcome | None:
        """Of a trial in no job yet: it need not come into one that is asked to stop."""
        if not handle.folder.stop.exists():
            return None
        self.forget(handle)
        return Outcome()

    def forget(self, handle: SlurmHandle) -> None:
        """Submit a trial no more that is in no job yet."""
        self._gathered = [(one, job) for one, job in self._gathered if one is not handle]
        self._again = self._again if self._gathered else None

    def _unwanted(self, batch: str) -> bool:
        """Whether all of a job's trials are asked to stop, and not by the job itself, to be requeued."""
        trials = [handle.folder for handle in self._handles if handle.batch == batch]
        return all(trial.stop.exists() for trial in trials) and not requeued(self.place, batch).exists()

    def _unlisted(self, handle: SlurmHandle) -> Outcome | None:
        """Of a trial whose job squeue does not list: it may be over, or on its way back."""
        handle.gone = self._view.looked if handle.gone is None else handle.gone
        patient, begun = self.clock() - handle.gone < PATIENCE, running(self.place, handle.batch)
        if patient and begun:
            return None
        job = self._view.recall(handle.batch, handle.gone)
        if job is not None and job.lives:
            handle.gone = self._view.recalled
        if job is None or job.lives or (patient and job.state not in BROKEN):
            return None
        return self._without_answer(handle, job, begun)

    def _without_answer(self, handle: SlurmHandle, job: Queued, begun: str) -> Outcome:
        found = ending("TIMEOUT" if requeued(self.place, handle.batch).exists() else job.state)
        if found.arms and begun != handle.trial:
            return Outcome(lost=True, preempted=True, said="its job was ended at another trial of it")
        words = "" if found.preempted else last_words(self.place, self._view.ids.get(handle.batch, ""))
        return replace(found, said=f"{found.said}; {words}" if words else found.said)

    def _lives_unlisted(self, batch: str) -> bool:
        """Whether a job lives that squeue does not list. Raises CannotLaunch where Slurm does not say."""
        job = self._view.recall(batch)
        if job is None:
            raise CannotLaunch("executor slurm: scontrol does not say which jobs there are")
        return job.lives

    def _explain(self, handle: SlurmHandle, queued: Queued) -> None:
        """Say once why a job waits that may wait for ever. Raises CannotLaunch where it surely does, by our doing."""
        if queued.state != "PENDING" or queued.reason in WAITING or (handle.batch, queued.reason) in self._told:
            return
        self._told.add((handle.batch, queued.reason))
        nodes = 1 if handle.trial == "references" else self.shape.nodes
        if why := never_begins(queued, self.shape, nodes, self._limit):
            self.cancel([name for name in self._ours() if self._view.queue[name].reason == queued.reason])
            raise CannotLaunch(f"executor slurm: {why}")
        log.warning("job %s of trial %s waits: %s", queued.id, handle.trial, queued.reason)

    def _ours(self) -> set[str]:
        """Jobs in the queue that a trial is waited for in."""
        return {handle.batch for handle in self._handles if handle.outcome is None} & {*self._view.queue}

    def cancel(self, batches: Iterable[str]) -> None:
        """End jobs, and wait until they have gone."""
        alive = [batch for batch in dict.fromkeys(batches) if batch in self._view.queue or batch not in self._cancelled]
        ids = {batch: self._view.ids[batch] for batch in alive if batch in self._view.ids}
        if not ids:
            return
        self._cancelled |= {*ids}
        cancelled([*ids.values()])
        end = self.clock() + GONE_SECONDS
        while self.clock() < end and {*ids} & {*self._view.look(at_once=True)}:
            time.sleep(0.5)

    # -- submitting -----------------------------------------------------------------------------

    def _submit_if_due(self) -> None:
        if self._again is None or self.clock() >= self._again:
            self._submit()

    def _submit(self) -> None:
        """Jobs of at most `trials_per_job` trials for all that has been gathered, until Slurm refuses one."""
        while self._gathered:
            piece = self._piece()
            try:
                self._hand_over(piece)
            except Refused as refusal:
                return self._refused(refusal)
            self._gathered = self._gathered[len(piece) :]
        self._again = None

    def _piece(self) -> list[tuple[SlurmHandle, Job]]:
        """What of it goes into one job."""
        first = self._gathered[0][1]
        return list(takewhile(lambda one: alike(one[1], first), self._gathered[: self.shape.of_job(first)[1]]))

    def _hand_over(self, piece: list[tuple[SlurmHandle, Job]]) -> None:
        """One job. The claims come first: a killed driver finds what it began. Raises Refused."""
        jobs, minutes = [job for _, job in piece], self._minutes()
        name = f"ablate-{piece[0][0].trial}-{digest([self.clock(), time.time(), [job.folder for job in jobs]], 6)}"
        for handle, _ in piece:
            write_atomically(claim(self.place, handle.trial), json.dumps({"batch": name, "shape": self.shape.stated()}))
        id = submit(self.place, name, jobs, self.shape, minutes)
        self._accepted = True
        for handle, _ in piece:
            handle.batch = name
        self._view.submitted(name, id)

    def _refused(self, refusal: Refused) -> None:
        """Ask again later if Slurm has taken others: it may be busy, or have enough of ours. Raises CannotLaunch."""
        if refusal.never or not self._accepted:
            self._gathered = []
            raise CannotLaunch(f"executor slurm: {refusal}") from refusal
        if self._again is None:
            log.warning("%s; asked again every %.0f s", refusal, RETRY_SECONDS)
        self._again = self.clock() + RETRY_SECONDS

    def _minutes(self) -> int:
        """A job's time limit: the study's, else what the partition gives or at most allows. Raises Refused."""
        self._limit = self._limit or self.shape.time or time_limit(self.shape.partition)
        if self._limit is None:
            raise Refused("scontrol does not say how long a job may be")
        return self._limit
