"""How far two recipes train alike, update by update (no torch).

Two runs of one seed whose recipes differ in their stages alone make the same updates until the first stage that
differs, or until one of them leaves a stage that the other stays in. Where a window closes before that, the state of
either run is that of the other (trainers.train: a checkpoint holds no open one), so that one may go on from the other.
"""

from __future__ import annotations

from dataclasses import replace

from trainers.recipe import Plateau, Recipe, Stage
from trainers.stages import updates_until


def branch_point(one: Recipe, two: Recipe) -> int:
    """The last update after which a window of training closes and up to which both are certain to be alike.

    0 where there is none. The two differ: equal recipes are one trial.
    """
    alike = min(shared_updates(one, two), one.steps - 1)
    return max((step for step in (*one.reading_steps, *one.eval_steps) if step <= alike), default=0)


def shared_updates(one: Recipe, two: Recipe) -> int:
    """Updates, counted from the first, that both are certain to make alike; all of them for equal recipes.

    Of a stage that ends by a plateau none is: no plan can know when it ends.
    """
    if replace(one, stages=()) != replace(two, stages=()):
        return 0
    began = 0
    for stages in zip(one.course, two.course, strict=False):
        mine, theirs = (replace(stage, timing=replace(stage.timing, until=None)) for stage in stages)
        if mine != theirs or any(isinstance(stage.timing.until, Plateau) for stage in stages):
            return began
        ends = [_end(stage, one.steps) for stage in stages]
        if ends[0] != ends[1]:
            return began if mine.timing.schedule == "reset" else min(ends)  # rates of the one span the stage
        began = ends[0]
    return began


def _end(stage: Stage, total: int) -> int:
    """Updates before the first that is not the stage's any more."""
    return total if stage.timing.until is None else updates_until(stage.timing.until, total)
