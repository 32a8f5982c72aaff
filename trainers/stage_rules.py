"""Stages that can't follow one another (no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from trainers.recipe import Plateau, Recipe, Stage, Timing
from trainers.stages import updates_until

Refusal = tuple[tuple[str | int, ...], str]
SLACK = 1e-9  # 1 - 0.7 is a little less than 0.3 in binary


def stage_refusals(recipe: Recipe) -> Iterator[Refusal]:
    """Recipe path and sentence for everything that is wrong with two stages or more."""
    stages = recipe.stages
    ends = list(_ends(stages))
    yield from ends
    yield from () if ends or not recipe.budget.amount else _spans(recipe)
    yield from _first(stages[0])
    for index, (before, stage) in enumerate(pairwise(stages), start=1):
        yield from (((("stages", index, *path)), sentence) for path, sentence in _after(before, stage))


def latest_end(timing: Timing) -> float:
    """The share of the budget at which a stage ends at the latest."""
    until = timing.until
    return 1.0 if until is None else until.at_most if isinstance(until, Plateau) else until


def _spans(recipe: Recipe) -> Iterator[Refusal]:
    """Every stage needs an update, and a plateau as many readings as it is long."""
    steps, start = recipe.steps, 0
    for index, stage in enumerate(recipe.stages):
        end = updates_until(latest_end(stage.timing), steps)
        if end <= start:
            yield ("stages", index), f"gets none of the {steps} generator updates: the one before lasts to number {end}"
        until = stage.timing.until
        readings = sum(start < step <= end for step in recipe.reading_steps)
        if isinstance(until, Plateau) and until.plateau >= readings:
            yield (
                ("stages", index, "until", "plateau"),
                f"{until.plateau} readings without progress can't come before at_most {until.at_most}: "
                f"the stage has {readings} readings at most",
            )
        start = end


def _ends(stages: Sequence[Stage]) -> Iterator[Refusal]:
    for index, stage in enumerate(stages[:-1]):
        if stage.timing.until is None:
            yield ("stages", index, "until"), "is missing: only the last stage runs to the end of the budget"
    last = len(stages) - 1
    if stages[-1].timing.until is not None:
        yield ("stages", last, "until"), "the last stage runs to the end of the budget: take it away"
    ends = [latest_end(stage.timing) for stage in stages]
    for index, (one, two) in enumerate(pairwise(ends), start=1):
        if two <= one < 1:
            yield ("stages", index, "until"), f"{two} is not after {one}, where the stage before ends at the latest"


def _first(stage: Stage) -> Iterator[Refusal]:
    timing = stage.timing
    for name in ("ramp", "moments", "schedule"):
        if getattr(timing, name) != getattr(Timing(), name):
            yield ("stages", 0, name), "the first stage has none before it to come from: take it away"


def _after(before: Stage, stage: Stage) -> Iterator[tuple[tuple[str, ...], str]]:
    timing = stage.timing
    span = latest_end(timing) - latest_end(before.timing)
    if timing.ramp > max(span, 0) + SLACK:
        yield ("ramp",), f"{timing.ramp} of the budget is longer than the stage, which may last {max(span, 0):.3g}"
    if timing.ramp:
        for name in sorted({*before.terms} & {*stage.terms}):
            if replace(before.terms[name], weight=0.0) != replace(stage.terms[name], weight=0.0):
                yield ("terms",), f"{name} has other options than in the stage before: a ramp moves weights alone"
    if replace(stage, timing=Timing()) == replace(before, timing=Timing()) and timing.moments == timing.schedule:
        if timing.moments == "keep":
            yield (), "changes nothing: the stage before is like that already"
