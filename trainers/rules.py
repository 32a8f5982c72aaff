"""Combinations of a recipe that can't be right, and those that are only suspect (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, OBJECTIVES, TERMS, Family, part_name
from trainers.stage_rules import stage_refusals
from trainers.start_rules import start_cautions, start_refusals

if TYPE_CHECKING:
    from trainers.recipe import Recipe, Stage

Refusal = tuple[tuple[str | int, ...], str]  # recipe path and sentence

SAMPLES_FOR_BATCH_NORM = 4  # per rank; below, its statistics are noise
EVALUATIONS = 50  # points a metric's curve should have at most


def refusals(recipe: Recipe, *, ranks: int) -> list[Refusal]:
    """Why the recipe can't be trained on that many ranks; empty if it can."""
    rules = (_budget, _evaluation, _updates, _batch, _penalty, _schedules, _stages, _start, _generator_learns, _parts)
    return [refusal for rule in rules for refusal in rule(recipe, ranks)]


def cautions(recipe: Recipe, *, ranks: int) -> list[str]:
    """What is allowed but probably not meant."""
    rules = (
        _small_batch_norm, _weightless_terms, _no_reconstruction, _no_adversary, _penalty_betas, _many_evaluations,
        _one_start, _doubts,
    )  # fmt: skip
    return [sentence for rule in rules for sentence in rule(recipe, ranks)]


def _budget(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    budget = recipe.budget
    if (budget.generator_updates is None) == (budget.images is None):
        found = "both are set" if budget.images else "neither is set"
        yield ("budget",), f"expected either generator_updates or images; {found}"


def _evaluation(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    budget = recipe.budget
    if 0 < budget.amount < recipe.evaluate.every:
        unit = budget.unit.replace("_", " ")
        yield ("evaluate", "every"), f"{recipe.evaluate.every} is over the budget of {budget.amount} {unit}"


def _updates(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    generator, discriminator = recipe.updates.generator, recipe.updates.discriminator
    if generator > 1 and discriminator > 1:
        yield ("updates",), f"generator {generator} and discriminator {discriminator}: one of the two must be 1"


def _batch(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    if recipe.batch % ranks:
        near = max(ranks, round(recipe.batch / ranks) * ranks)
        yield ("batch",), f"{recipe.batch} can't be divided among {ranks} ranks; {near} can (the batch is global)"


def _penalty(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    norm = getattr(recipe.discriminator, "norm", None)
    if _penalised(recipe) and norm in ("batch", "sync_batch"):
        yield (
            ("discriminator", "norm"),
            f"{norm} with the gradient penalty of {part_name(recipe.objective)}: the penalty is on single images and "
            f"batch statistics mix them (it would run, silently wrong); use instance or none",
        )


def _penalised(recipe: Recipe) -> bool:
    return getattr(recipe.objective, "penalty_weight", 0) > 0


def _schedules(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    optimizers = [(("optimizer",), recipe.optimizer)]
    optimizers += [(("stages", index), stage.optimizer) for index, stage in enumerate(recipe.stages)]
    for path, optimizer in dict((optimizer, (path, optimizer)) for path, optimizer in reversed(optimizers)).values():
        if optimizer.warm_up > optimizer.constant and optimizer.decay != "none":
            yield path, f"warm_up {optimizer.warm_up} ends after constant {optimizer.constant}, where the decay begins"


def _stages(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    if len(recipe.stages) == 1:
        yield ("stages",), "one stage is the recipe itself: give two or more, or none"
    elif recipe.stages:
        yield from stage_refusals(recipe)


def _start(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    yield from start_refusals(recipe)


def _generator_learns(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    for index, stage in enumerate(recipe.course):
        if stage.adv_weight == 0 and not _trained_terms(stage):
            path = ("stages", index) if recipe.stages else ("terms",)
            yield path, "no loss term has a weight above 0 and objective.adv_weight is 0: the generator can't learn"


def _trained_terms(stage: Stage) -> list[str]:
    return [name for name, term in stage.terms.items() if term.weight > 0]


def _parts(recipe: Recipe, ranks: int) -> Iterator[Refusal]:
    """What the parts themselves refuse."""
    for path, family, options in parts(recipe):
        refuse = getattr(family.part(part_name(options)), "refuse", None)
        yield from ((path, sentence) for sentence in (refuse(options, recipe) if refuse else ()))


def _doubts(recipe: Recipe, ranks: int) -> Iterator[str]:
    """What the parts themselves caution against, by an optional function `caution(options, recipe)`."""
    for _, family, options in parts(recipe):
        caution = getattr(family.part(part_name(options)), "caution", None)
        yield from (caution(options, recipe) if caution else ())


def parts(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], Family, Any]]:
    """Recipe path, family and options of every part that the recipe uses."""
    yield ("data",), LAYOUTS, recipe.data
    yield ("generator",), GENERATORS, recipe.generator
    yield ("discriminator",), DISCRIMINATORS, recipe.discriminator
    yield ("objective",), OBJECTIVES, recipe.objective
    for name, term in recipe.terms.items():
        yield ("terms", name), TERMS, term
    for index, stage in enumerate(recipe.stages):
        for name, term in stage.terms.items():
            if term != recipe.terms.get(name):
                yield ("stages", index, "terms", name), TERMS, term


def _small_batch_norm(recipe: Recipe, ranks: int) -> Iterator[str]:
    for norm, samples in {"batch": recipe.batch // ranks, "sync_batch": recipe.batch}.items():
        users = [name for name in ("generator", "discriminator") if getattr(getattr(recipe, name), "norm", "") == norm]
        if not users or samples >= SAMPLES_FOR_BATCH_NORM:
            continue
        seen = f"{samples} sample" if samples == 1 else f"{samples} samples"
        if ranks > 1:
            where = f"on each of {ranks} ranks" if norm == "batch" else f"over {ranks} ranks"
            seen = f"{samples} of {recipe.batch} samples {where}" if norm == "batch" else f"{seen} {where}"
        remedy = "sync_batch, instance" if recipe.batch >= SAMPLES_FOR_BATCH_NORM else "instance"
        yield (
            f"{norm} norm in the {' and the '.join(users)} sees {seen}; below {SAMPLES_FOR_BATCH_NORM} its statistics "
            f"are noise: use {remedy} or a larger batch"
        )


def _weightless_terms(recipe: Recipe, ranks: int) -> Iterator[str]:
    for name in {name: None for stage in recipe.course for name in stage.terms}:
        if not any(name in _trained_terms(stage) for stage in recipe.course):
            yield f"terms.{name} has weight 0: it is computed and logged, but trains nothing"


def _no_reconstruction(recipe: Recipe, ranks: int) -> Iterator[str]:
    if not any(_trained_terms(stage) for stage in recipe.course):
        yield "no loss term has a weight above 0: only the discriminator ties the output to its target"


def _no_adversary(recipe: Recipe, ranks: int) -> Iterator[str]:
    """Feature matching is the one term that reads the discriminator."""
    if all(stage.adv_weight == 0 and "feature_matching" not in _trained_terms(stage) for stage in recipe.course):
        yield "objective.adv_weight is 0: the discriminator trains, and nothing of it reaches the generator"


def _penalty_betas(recipe: Recipe, ranks: int) -> Iterator[str]:
    if _penalised(recipe) and recipe.optimizer.betas[0] > 0:
        yield (
            f"{part_name(recipe.objective)} with Adam betas {list(recipe.optimizer.betas)}: its authors train with "
            f"[0.0, 0.9] (Gulrajani et al., 2017)"
        )


def _many_evaluations(recipe: Recipe, ranks: int) -> Iterator[str]:
    budget = recipe.budget
    count = -(-budget.amount // recipe.evaluate.every)
    if count > EVALUATIONS:
        yield f"evaluate.every {recipe.evaluate.every} gives {count} evaluations a trial; {EVALUATIONS} are plenty"


def _one_start(recipe: Recipe, ranks: int) -> Iterator[str]:
    yield from start_cautions(recipe)
