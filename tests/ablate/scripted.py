"""A cluster on a clock of its own: nodes that trials wait for, run on, and are lost with, by a script.

Its jobs write the streams that real ones write, as far as their time has come, and go on without a driver. What it
spends on that is told apart, so that the driver's own time can be measured beside it.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ablate import events
from ablate.executor import Outcome
from ablate.records import TrialFolder

READINGS = 5  # of training in a trial, at equal times
Fate = Callable[[str, int], str]  # trial, attempt -> "", "lost" or "preempted", half-way through


def well(trial: str, attempt: int) -> str:
    """Every job ends by itself."""
    return ""


@dataclass
class Job:
    """One attempt of a trial, which waits until it has a node."""

    folder: TrialFolder
    kind: str
    attempt: int
    seconds: float
    fate: str
    node: int | None = None
    began: float = 0.0
    told: int = 0  # readings
    outcome: Outcome | None = None
    writer: events.EventWriter | None = None


@dataclass
class Cluster:
    """`nodes` nodes of one trial each, that take `seconds` for a trial, a quarter more or less."""

    nodes: int
    seconds: float = 60.0
    fate: Fate = well
    now: float = 0.0
    spent: float = 0.0  # seconds of the processor that writing the streams has taken
    jobs: dict[str, Job] = field(default_factory=dict)  # that wait or run, by trial
    attempts: dict[str, int] = field(default_factory=dict)
    most: int = 0  # jobs that have run at a time

    def submit(self, kind: str, folder: TrialFolder) -> Job:
        name = folder.root.name
        assert name not in self.jobs, f"{name} was submitted twice"
        attempt = self.attempts[name] = self.attempts.get(name, 0) + 1
        seconds = self.seconds * (0.75 + zlib.crc32(name.encode()) % 100 / 200)
        job = Job(folder, kind, attempt, seconds, self.fate(name, attempt))
        self.jobs[name] = job
        self._place()
        return job

    def pass_time(self, seconds: float) -> None:
        began = time.process_time()
        self.now += seconds
        for job in [job for job in self.jobs.values() if job.node is not None]:
            self._work(job)
        self._place()
        self.spent += time.process_time() - began

    def cancel(self, job: Job) -> None:
        if job.outcome is None:
            self._over(job, Outcome(lost=True, said="cancelled"))
            self._place()

    def _place(self) -> None:
        """Give free nodes to jobs that wait, in their order."""
        free = sorted({*range(self.nodes)} - {job.node for job in self.jobs.values()})
        for job, node in zip([job for job in self.jobs.values() if job.node is None], free, strict=False):
            job.node, job.began = node, self.now
            job.writer = events.EventWriter(job.folder.events, attempt=job.attempt, clock=lambda: self.now)
            job.writer.append(events.Started, world_size=1, threads=1, device="cpu")
        self.most = max(self.most, sum(job.node is not None for job in self.jobs.values()))

    def _work(self, job: Job) -> None:
        done = (self.now - job.began) / job.seconds
        if job.fate and done >= 0.5:
            lost = job.fate == "lost"
            return self._over(job, Outcome(lost=lost, preempted=not lost, said=f"its node was {job.fate}"))
        while job.told < min(READINGS, int(done * READINGS)):
            job.told += 1
            job.writer.append(events.Measured, step=job.told, images=job.told, split="train", values={"g": 1.0})
        if job.folder.stop.exists():
            return self._over(job, Outcome())
        if done >= 1:
            scores = {"gmsd": 0.1, "psnr": 20.0, "mae": 0.1}
            if job.kind == "references":
                scores = {f"mean_colour/{key}": value for key, value in scores.items()}
            job.writer.append(events.Measured, step=READINGS, images=READINGS, split="validation", values=scores)
            job.writer.append(events.Ended, step=READINGS, images=READINGS, status="done")
            self._over(job, Outcome())

    def _over(self, job: Job, outcome: Outcome) -> None:
        if job.writer:
            job.writer.close()
        job.outcome = outcome
        del self.jobs[job.folder.root.name]


@dataclass
class ScriptedHandle:
    cluster: Cluster
    job: Job

    def poll(self) -> Outcome | None:
        return self.job.outcome

    def stop(self) -> None:
        self.cluster.cancel(self.job)


@dataclass
class ScriptedExecutor:
    """What one driver sees of a cluster: at most `slots` of its trials wait or run there."""

    cluster: Cluster
    slots: int
    outlives: bool = True
    handles: list[ScriptedHandle] = field(default_factory=list)

    def warm_up(self) -> None:
        pass

    def free(self) -> int:
        self.handles = [handle for handle in self.handles if handle.poll() is None]
        return self.slots - len(self.handles)

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> ScriptedHandle:
        assert (folder / "spec.json").exists() and json.loads((folder / "spec.json").read_text())
        return self._handle(self.cluster.submit(kind, TrialFolder(folder)))

    def adopt(self, folder: Path) -> ScriptedHandle | None:
        job = self.cluster.jobs.get(folder.name)
        return self._handle(job) if job else None

    def wait(self, seconds: float) -> None:
        self.cluster.pass_time(seconds)

    def leave(self) -> None:
        pass

    def close(self) -> None:
        for handle in self.handles:
            handle.stop()

    def _handle(self, job: Job) -> ScriptedHandle:
        self.handles.append(ScriptedHandle(self.cluster, job))
        return self.handles[-1]
