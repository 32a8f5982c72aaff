"""What a job of Slurm asks for, and its way there through submitit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ablate.resources import Resources
from ablate.slurmcommands import last_line, partitions, reason, submitting
from ablate.slurmqueue import Queued, least_nodes
from trainers.batch import Batch
from trainers.pool import Job

LOG = "log"  # submitit's folder, in that of the claims
LAST = 4096  # bytes at the end of a job's log that are looked at, and
WIDTH = 200  # characters of its last line that are passed on
REQUEUES = 3  # of one job at its time limit, with nobody there; then it takes a driver to make another
# Of sbatch's refusals those that stay: no node, partition or account will ever do.
NEVER = ("configuration is not available", "invalid partition", "invalid account", "invalid qos",
         "invalid generic resource", "more processors requested", "node count specification invalid")  # fmt: skip

# Reasons for which a job waits that asks for more time than anybody gives it.
TOO_LONG = ("PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit")


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

    def stated(self) -> dict[str, Any]:
        """What a job that waits may have been submitted with, as its claim keeps it."""
        return {key: value for key, value in json.loads(json.dumps(asdict(self))).items() if key != "trials_per_job"}

    def of_job(self, job: Job) -> tuple[int, int]:
        """Nodes that a job lies on, and trials like it that may share one."""
        return (self.nodes, self.trials_per_job) if job.kind == "run" else (1, 1)  # references are scored by one rank

    def parameters(self, name: str, job: Job, minutes: int) -> dict[str, Any]:
        """As submitit calls them."""
        nodes, _ = self.of_job(job)
        each = -(-job.ranks // nodes)
        asked = {"job_name": name, "nodes": nodes, "ntasks_per_node": 1,
                 "cpus_per_task": self.cpus_per_task or each * job.threads, "partition": self.partition,
                 "gpus_per_node": self.gpus_per_node, "time": minutes, "account": self.account,
                 "setup": list(self.setup) or None}  # fmt: skip
        return {key: value for key, value in asked.items() if value is not None}


class Refused(RuntimeError):
    """Slurm takes a job not now, or never."""

    @property
    def never(self) -> bool:
        return any(words in str(self).lower() for words in NEVER)


def submit(place: Path, name: str, jobs: Sequence[Job], shape: Shape, minutes: int) -> str:
    """Slurm's number of a job for trials that are alike. Raises Refused."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    made = submitit.SlurmExecutor(folder=place / LOG, max_num_timeout=REQUEUES)
    made.update_parameters(**shape.parameters(name, jobs[0], minutes))
    batch = Batch(name, str(place.resolve()), tuple(jobs), shape.of_job(jobs[0])[0])
    try:
        with submitting(partition=shape.partition, account=shape.account):
            return made.submit(batch).job_id
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise Refused(f"sbatch refused the job: {reason(error)}") from error


def alike(one: Job, other: Job) -> bool:
    """Whether two trials may share a job."""
    return (one.kind, one.ranks, one.threads) == (other.kind, other.ranks, other.threads)


def last_words(place: Path, id: str) -> str:
    """The last line that a job's shell, srun or Python has said, and where; empty where they said nothing."""
    path = place / LOG / f"{id}_0_log.err"
    try:
        with open(path, "rb") as log:
            log.seek(max(0, path.stat().st_size - LAST))
            line = last_line(log.read().decode(errors="replace"))
    except OSError:
        return ""
    return f"{path} ends with: {line[:WIDTH]}" if line else ""


def never_begins(queued: Queued, shape: Shape, nodes: int, minutes: int | None) -> str:
    """Why a job can only wait, by limits that the study leaves to us; empty where it may begin one day."""
    names = ",".join(partitions(shape.partition))
    where = f"partition {names}" if names else "the default partition"
    if queued.reason in TOO_LONG and shape.time is None:
        asked = f"{minutes} minutes" if minutes else "a time"
        return (
            f"job {queued.id} would wait for ever ({queued.reason}): it asks for {asked}, as the study says none, and"
            f" {where} or your account allows less; set resources.time. It was cancelled"
        )
    if queued.reason == "PartitionNodeLimit" and nodes == 1 and (least := least_nodes(shape.partition) or 0) > 1:
        return (
            f"job {queued.id} would wait for ever ({queued.reason}): it asks for 1 node, and {where} gives no job less"
            f" than {least}; set resources.nodes, or another resources.partition. It was cancelled"
        )
    return ""
