"""Effects of factors that a design estimates, as weights on its arms (linear contrasts of their means)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from ablate.conditions import BASE, Combination
from ablate.fraction import fraction

if TYPE_CHECKING:
    from ablate.plan import Plan

Key = frozenset[tuple[str, str]]  # a combination as a set: (factor, level)
MAX_EFFECTS = 400  # of which a plan says something


@dataclass(frozen=True)
class PlannedEffect:
    """`weights` (arm -> weight) sum to 0. A main effect is in the unit of a difference of two arms; an interaction
    is how much one factor's effect changes with the other (`the rest`: with all others at once)."""

    kind: str  # main or interaction
    label: str  # loss=ssim, loss=ssim : norm=spectral
    weights: Mapping[str, float]

    @property
    def relative_error(self) -> float:
        """Its standard error relative to that of one arm against the base."""
        return math.sqrt(sum(weight**2 for weight in self.weights.values()) / 2)

    def to_json(self) -> dict[str, Any]:
        arms = sum(weight != 0 for weight in self.weights.values())
        return {"kind": self.kind, "label": self.label, "arms": arms, "relative_error": self.relative_error}


def effects(plan: Plan) -> tuple[PlannedEffect, ...]:
    """What the plan's design estimates of its factors, single factors first; none where it is not made for that."""
    design = plan.study.design
    levels = design.levels(plan.study.factors)
    names = {frozenset(arm.arm.changes.items()): arm.name for arm in plan.arms if not arm.twin_of}
    if design.name == "both" and len(levels) > 2:
        found = _of_both(design.full, names)
    elif design.name in ("both", "factorial"):
        found = _of_factorial(levels, names)
    elif design.name == "fractional":
        found = _of_fraction({factor: only[0] for factor, only in levels.items()}, names, design.resolution)
    else:
        return ()
    listed = sorted(found, key=lambda effect: effect.kind != "main")
    return tuple(listed) if len(listed) <= MAX_EFFECTS else tuple(e for e in listed if e.kind == "main")


def _of_both(full: Combination, names: Mapping[Key, str]) -> Iterator[PlannedEffect]:
    """Mean and difference of what a factor does alone and what it does on top of all others."""
    whole = frozenset(full.items())
    for factor, level in full.items():
        alone, last = frozenset({(factor, level)}), whole - {(factor, level)}
        base, add, without, top = (names[key] for key in (frozenset(), alone, last, whole))
        yield PlannedEffect("main", f"{factor}={level}", {base: -0.5, add: 0.5, without: -0.5, top: 0.5})
        yield PlannedEffect("interaction", f"{factor}={level} : the rest", {base: 1, add: -1, without: -1, top: 1})


def _of_factorial(levels: Mapping[str, Sequence[str]], names: Mapping[Key, str]) -> Iterator[PlannedEffect]:
    """Averages over whichever contexts of the other factors are run with all the levels that are compared."""
    for order, kind in ((1, "main"), (2, "interaction")):
        for factors in combinations(levels, order):
            others = [[(factor, level) for level in (BASE, *names_)] for factor, names_ in levels.items()
                      if factor not in factors]  # fmt: skip
            contexts = [frozenset(pair for pair in context if pair[1] != BASE) for context in product(*others)]
            for chosen in product(*(levels[factor] for factor in factors)):
                pairs = list(zip(factors, chosen, strict=True))
                weights = _averaged(pairs, contexts, names)
                if weights:
                    yield PlannedEffect(kind, " : ".join(f"{f}={level}" for f, level in pairs), weights)


def _averaged(pairs: Sequence[tuple[str, str]], contexts: Sequence[Key], names: Mapping[Key, str]) -> dict[str, float]:
    """Signed corners (each pair on or off) in every context that holds them all, averaged over those contexts."""
    subsets = [frozenset(subset) for size in range(len(pairs) + 1) for subset in combinations(pairs, size)]
    whole = [context for context in contexts if all(context | subset in names for subset in subsets)]
    weights: dict[str, float] = {}
    for context in whole:
        for subset in subsets:
            sign = (-1) ** (len(pairs) - len(subset))
            weights[names[context | subset]] = sign / len(whole)
    return weights


def _of_fraction(
    levels: Mapping[str, str], names: Mapping[Key, str], resolution: int
) -> Iterator[PlannedEffect]:  # fmt: skip
    """Halves of the runs against each other; of interactions those that no other effect of two factors shares."""
    found = fraction(tuple(levels), resolution)
    shared = {effect for group in found.aliases for effect in group}
    arms = [names[frozenset((f, levels[f]) for f, on in zip(levels, run, strict=True) if on)] for run in found.runs]
    columns = {factor: [2 * run[at] - 1 for run in found.runs] for at, factor in enumerate(levels)}
    for factor, column in columns.items():
        weights = {arm: 2 * sign / len(arms) for arm, sign in zip(arms, column, strict=True)}
        yield PlannedEffect("main", f"{factor}={levels[factor]}", weights)
    for one, two in combinations(levels, 2):
        if f"{one}:{two}" not in shared:
            signs = [a * b for a, b in zip(columns[one], columns[two], strict=True)]
            weights = {arm: 4 * sign / len(arms) for arm, sign in zip(arms, signs, strict=True)}
            yield PlannedEffect("interaction", f"{one}={levels[one]} : {two}={levels[two]}", weights)
