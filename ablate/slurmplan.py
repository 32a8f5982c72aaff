"""How Slurm would be filled by a plan's trials: asked at `ablate plan`, as far as it answers here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablate import slurmqueue
from ablate.plan import Plan
from ablate.slurmcommands import partitions


def filled(plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """The plan with no more slots than the partition has room for, and what is asked of it.

    `room` is how many jobs it holds at once if nobody else uses it; None where Slurm is not here, or does not say.
    """
    asked = plan.study.resources
    widest = max(plan.specs.values(), key=lambda spec: spec.ranks)
    cpus = asked.cpus_per_task or -(-widest.ranks // asked.nodes) * widest.threads
    room = None
    if shutil.which("sinfo"):
        room = slurmqueue.room(asked.nodes, cpus, asked.gpus_per_node or 0, asked.partition)
    facts = {"jobs": -(-plan.slots // asked.trials_per_job), "trials_per_job": asked.trials_per_job,
             "nodes": asked.nodes, "cpus": cpus, "gpus": asked.gpus_per_node or 0,
             "partition": ",".join(partitions(asked.partition)) or None, "room": room}  # fmt: skip
    return (replace(plan, slots=min(plan.slots, room * asked.trials_per_job)) if room else plan), facts


def describe(facts: Mapping[str, Any]) -> str:
    """Of the line about resources, what follows the number of trials."""
    share = f" of {facts['trials_per_job']} trials" if facts["trials_per_job"] > 1 else ""
    each = f", each of {facts['cpus']} CPUs" + (f" and {facts['gpus']} GPUs" if facts["gpus"] else "")
    each += f" on {facts['nodes']} nodes" if facts["nodes"] > 1 else ""
    jobs = f"{facts['jobs']} job{'s' * (facts['jobs'] != 1)}{share} of slurm{each}"
    place = f"partition {facts['partition']}" if facts["partition"] else "its default partition"
    if facts["room"] is None:
        return f", as {jobs}; Slurm does not answer here: the time below has room for all"
    if not facts["room"]:
        return f", as {jobs}; {place} has no node of that size up: it would be refused, or wait"
    return f", as {jobs}; {place} holds {facts['room']} at once if nobody else uses it"
