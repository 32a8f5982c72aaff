"""What a study asks of the machines: how many ranks, where, and how many trials at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Literal

from trainers.options import Bounds, Count, options

EXECUTORS = LOCAL, SLURM, RAY = ("local", "slurm", "ray")
MOST_JOBS = 100  # trials that `slots: auto` hands to a scheduler at a time: queues are shared
# Options that are not every executor's, and whose they are.
ON_NODES = dict.fromkeys(("nodes", "gpus_per_node", "cpus_per_task"), (SLURM, RAY))
OF = {**ON_NODES, **dict.fromkeys(("partition", "time", "account", "setup", "trials_per_job"), (SLURM,)),
      "address": (RAY,)}  # fmt: skip


@options
class Resources:
    """Where trials run. `slots` trials run at a time, each on `ranks` DDP ranks with `threads` CPU threads.

    With executor `slurm` a trial is a job, or `trials_per_job` short ones of them share one; its ranks lie on `nodes`
    in equal parts. `time` (minutes, or [days-]hours:minutes:seconds) is a job's limit, `setup` are shell lines before
    it. What is not said is left to the cluster.

    With executor `ray` a trial is a placement group of `nodes` bundles on the cluster at `address`, each with
    `cpus_per_task` CPUs and `gpus_per_node` GPUs; Ray lays them onto one node where they fit, else onto several.

    With `share`, a first part of training that trials have in common is trained once; their numbers are the same.
    """

    executor: Literal["local", "slurm", "ray"] = "local"
    ranks: Annotated[int, Bounds(low=1, high=1024)] = 1
    slots: Literal["auto"] | Count = "auto"
    threads: Annotated[int, Bounds(low=1, high=1024)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    share: bool = True
    partition: str | None = None
    nodes: Annotated[int, Bounds(low=1, high=1024)] = 1
    gpus_per_node: Count | None = None
    cpus_per_task: Count | None = None
    time: Count | str | None = None
    account: str | None = None
    setup: tuple[str, ...] = ()
    trials_per_job: Count = 1
    address: str | None = None

    @property
    def minutes(self) -> int | None:
        """A job's time limit; None where the study says none. Raises ValueError for text that is no time."""
        if not isinstance(self.time, str):
            return self.time
        found = minutes(self.time)
        if not found:
            allowed = "expected minutes, or [days-]hours:minutes:seconds of a minute at least"
            raise ValueError(f"{allowed}, found {self.time!r}")
        return found

    def refusals(self) -> Iterator[tuple[str, str]]:
        """Option and sentence for what can't be, as far as one option alone does not say it."""
        for one in fields(self):
            owners = OF.get(one.name, EXECUTORS)
            if self.executor not in owners and getattr(self, one.name) != one.default:
                said = " or ".join(owners)
                yield one.name, f"is for executor {said}; take it away, or say executor: {said}"
        try:
            self.minutes  # noqa: B018
        except ValueError as error:
            yield "time", str(error)
        if self.nodes > 1 and self.trials_per_job > 1:
            yield "trials_per_job", "trials that share a job stay on one node; take it or nodes away"


def minutes(limit: str) -> int | None:
    """Of a time as Slurm writes it ([days-]hours:minutes:seconds), rounded down; None for NONE and UNLIMITED."""
    days, dash, clock = limit.rpartition("-")
    parts = clock.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in [*parts, *([days] if dash else [])]):
        return None
    return int(days or 0) * 1440 + int(parts[0]) * 60 + int(parts[1])
