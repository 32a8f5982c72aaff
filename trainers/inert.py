"""Settings that a recipe holds but that change nothing in it: they are dropped, and said (no torch).

Every rule here is held to its word by a test: training with the setting and without gives equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from trainers.families import part_name
from trainers.layouts._common import Sar
from trainers.recipe import Optimizer, Recipe, Stage
from trainers.rules import parts
from trainers.stages import weights_of

Found = Iterator[tuple[str, str]]  # option, and what makes it inert


def without_inert(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with inert settings at their defaults, and a note for each that said something else."""
    notes: list[str] = []
    recipe = _as_it_begins(recipe)
    sar = _dropped(recipe.data.sar, "data.sar", _of_sar(recipe.data.sar), notes)
    objective = _dropped(recipe.objective, "objective", _of_part(recipe.objective, recipe), notes)
    evaluate = _dropped(recipe.evaluate, "evaluate", _of_evaluation(recipe), notes)
    optimizer = _dropped(recipe.optimizer, "optimizer", _of_optimizer(recipe.optimizer), notes)
    pairs = zip((None, *recipe.stages), recipe.stages, strict=False)
    stages = tuple(_stage(before, stage, f"stages.{index}", notes) for index, (before, stage) in enumerate(pairs))
    data = replace(recipe.data, sar=sar)
    settled = replace(recipe, data=data, objective=objective, evaluate=evaluate, optimizer=optimizer,
                      stages=stages)  # fmt: skip
    return settled, tuple(dict.fromkeys(notes))


def _as_it_begins(recipe: Recipe) -> Recipe:
    """With stages, the recipe's own terms, optimizer and adversarial weight are only what the first one patches:
    they are replaced by those of the first.
    """
    if not recipe.stages:
        return recipe
    first = recipe.stages[0]
    objective = replace(recipe.objective, adv_weight=first.adv_weight)
    return replace(recipe, terms=first.terms, optimizer=first.optimizer, objective=objective)


def _stage(before: Stage | None, stage: Stage, where: str, notes: list[str]) -> Stage:
    said: list[str] = []  # of the optimizer that all stages share, once is enough
    optimizer = _dropped(stage.optimizer, "optimizer", _of_optimizer(stage.optimizer), said)
    optimizer = _dropped(optimizer, f"{where}.optimizer", _of_later(before, stage), said)
    timing = _dropped(stage.timing, where, _of_timing(before, stage), notes)
    notes += said
    return replace(stage, optimizer=optimizer, timing=timing)


def _of_sar(sar: Sar) -> Found:
    if sar.range != "percentiles":
        yield "percentiles", f"range {sar.range}"
    if sar.despeckle == "none":
        yield "window", "despeckle none"
        yield "looks", "despeckle none"


def _of_part(options: Any, recipe: Recipe) -> Found:
    """What the part itself says, by an optional function `inert(options)`."""
    for _, family, found in parts(recipe):
        if found is options:
            yield from getattr(family.part(part_name(options)), "inert", lambda _: ())(options)


def _of_evaluation(recipe: Recipe) -> Found:
    generator = recipe.generator
    if getattr(generator, "norm", "") not in ("batch", "sync_batch") and not getattr(generator, "dropout", 0):
        yield "mode", "a generator that has neither batch norm nor dropout"


def _of_optimizer(optimizer: Optimizer) -> Found:
    if optimizer.decay == "none":
        yield "constant", "decay none"
    elif optimizer.constant == 1:
        yield "decay", "constant 1.0"


def _of_later(before: Stage | None, stage: Stage) -> Found:
    begins = before.timing.until if before else 0.0
    if before and isinstance(begins, float) and stage.timing.schedule == "keep":
        if 0 < stage.optimizer.warm_up <= begins:
            yield "warm_up", f"a stage that begins at {begins}, after it"


def _of_timing(before: Stage | None, stage: Stage) -> Found:
    optimizer = stage.optimizer
    if (optimizer.decay == "none" or optimizer.constant == 1) and not optimizer.warm_up:
        yield "schedule", "a learning rate that is constant"
    if before and weights_of(before) == weights_of(stage):
        yield "ramp", "the weights of the stage before"


def _dropped(options: Any, where: str, inert: Found, notes: list[str]) -> Any:
    defaults = {field.name: field.default for field in fields(options)}
    for name, cause in inert:
        if getattr(options, name) != defaults[name]:
            notes.append(f"{where}.{name} is inert with {cause}: dropped")
            options = replace(options, **{name: defaults[name]})
    return options
