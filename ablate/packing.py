"""How many trials share a GPU where the study leaves that open, from what this study's trials have taken of one.

One that is refused memory beside others has lost time, so nothing is guessed: there are figures of every recipe that
is left to run, or each trial has a GPU to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from ablate import machine
from ablate.events import CorruptStream, Ended, Started, read
from ablate.plan import Plan
from ablate.records import Status, StudyFolder, canonical
from ablate.resources import LOCAL

FILLED = 0.8  # of a GPU's memory: what trials take varies, and a peak that is passed ends one
CONTEXT = 600 * 2**20  # bytes that CUDA itself takes for a process, beside what torch counts


@dataclass(frozen=True)
class Taken:
    """What one trial took of its GPU: bytes at most, and images a second among `beside` trials, itself included."""

    recipe: str
    beside: int
    peak: int
    speed: float


def packed(plan: Plan, runs: Path) -> Plan:
    """The plan with as many trials a GPU as pays, where `resources.slots` is auto, on CUDA, with one rank each."""
    asked = plan.study.resources
    if asked.executor != LOCAL or asked.slots != "auto" or plan.device != "cuda":
        return plan
    if any(spec.ranks > 1 for spec in plan.specs.values()):
        return plan
    folder, gpus = StudyFolder(runs, plan.study.name), len(machine.gpus())
    recipes = {canonical(spec.recipe) for spec in plan.specs.values()}
    found = [one for one in taken(plan, folder) if one.recipe in recipes]
    if not gpus or plan.undrawn or {one.recipe for one in found} != recipes:
        return plan
    room = machine.cores() // (asked.threads * gpus)
    each = together(found, memory=machine.gpu_memory(), most=room)
    return replace(plan, slots=max(1, min(each * gpus, len(plan.specs))))


def together(found: Sequence[Taken], *, memory: int, most: int) -> int:
    """Trials a GPU of `memory` bytes: as many as fit, then as many as did most images a second together; at least 1."""
    largest = max(one.peak for one in found) + CONTEXT
    fit = max(1, min(int(FILLED * memory) // largest, most))
    speeds = {beside: beside * _per_trial(found, beside) for beside in {one.beside for one in found}}
    if fit > max(speeds):
        return fit  # not tried yet
    tried = [beside for beside in speeds if beside <= fit]
    return max(tried, key=lambda beside: (speeds[beside], -beside), default=1)


def _per_trial(found: Sequence[Taken], beside: int) -> float:
    return median(one.speed for one in found if one.beside == beside)


def taken(plan: Plan, folder: StudyFolder) -> Iterator[Taken]:
    """Of the trials of the plan that went through on CUDA without an interruption."""
    for id, spec in plan.specs.items():
        started, ended = _span(folder.trial(id).events)
        if started and ended and ended.peak_memory and ended.seconds > 0 and ended.status == Status.done.value:
            yield Taken(canonical(spec.recipe), started.beside, ended.peak_memory, ended.images / ended.seconds)


def _span(path: Path) -> tuple[Started | None, Ended | None]:
    """The only start and the end; None where there is another number of starts, or none can be read."""
    try:
        events: Iterable = read(path)
    except CorruptStream:
        return None, None
    starts = [event for event in events if isinstance(event, Started)]
    ends = [event for event in events if isinstance(event, Ended)]
    return (starts[0], ends[0]) if len(starts) == len(ends) == 1 else (None, None)
