"""Designs: a study's factors to the arms that it runs. The first arm is always `base`.

A level's patch is what `ablate.patches` applies; an arm combines the patches of its levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product

from ablate.patches import combine
from ablate.records import Arm

BASE = "base"
Factors = Mapping[str, Mapping[str, Mapping[str, object]]]  # factor -> level -> patch
Combination = Mapping[str, str]  # factor -> level


def one_at_a_time(factors: Factors) -> Iterator[Combination]:
    """Every level alone: each arm differs from the base in exactly one factor."""
    for factor, levels in factors.items():
        for level in levels:
            yield {factor: level}


def factorial(factors: Factors) -> Iterator[Combination]:
    """Every combination of levels, the base's own included as a level of each factor."""
    for levels in product(*([BASE, *levels] for levels in factors.values())):
        chosen = {factor: level for factor, level in zip(factors, levels, strict=True) if level != BASE}
        if chosen:
            yield chosen


DESIGNS: dict[str, Callable[[Factors], Iterator[Combination]]] = {
    "one_at_a_time": one_at_a_time,
    "factorial": factorial,
}


def arm(factors: Factors, combination: Combination, name: str | None = None) -> Arm:
    """The arm of a combination, named `factor=level` joined by `+` unless it has a name of its own.

    Raises `ablate.patches.PatchError` where two of its levels set one place to different values.
    """
    changes = {factor: combination[factor] for factor in factors if factor in combination}
    patch = combine({f"{factor}={level}": factors[factor][level] for factor, level in changes.items()})
    return Arm(name or canonical(factors, combination), changes, patch)


def canonical(factors: Factors, combination: Combination) -> str:
    """`factor=level` joined by `+`, factors in their order; `base` where nothing is changed."""
    return "+".join(f"{factor}={combination[factor]}" for factor in factors if factor in combination) or BASE


def forbidden(combination: Combination, never: Iterable[Mapping[str, Sequence[str]]]) -> bool:
    """Whether a declared `never` covers the combination; `base` names a factor left alone."""
    return any(
        all(combination.get(factor, BASE) in levels for factor, levels in rule.items()) for rule in never
    )  # fmt: skip


def arms(
    factors: Factors,
    design: str,
    *,
    only: Sequence[str] = (),
    listed: Mapping[str, Combination] | None = None,
    never: Iterable[Mapping[str, Sequence[str]]] = (),
) -> tuple[Arm, ...]:
    """The base and the arms of a design, in the order in which the study names its levels.

    `only` restricts a design to these factors; `listed` gives the arms of the design `list`.
    Combinations that `never` declares are left out.
    """
    never = tuple(never)
    base = arm(factors, {})
    if design == "list":
        named = [(combination, name) for name, combination in (listed or {}).items()]
    else:
        chosen = {factor: levels for factor, levels in factors.items() if not only or factor in only}
        named = [(combination, None) for combination in DESIGNS[design](chosen)]
    return (base, *(arm(factors, c, name) for c, name in named if not forbidden(c, never)))


def blocks(arm_names: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Cells (arm, seed) block by block: every arm once per seed, so that an interrupted study holds pairs."""
    for seed in seeds:
        for name in arm_names:
            yield name, seed
