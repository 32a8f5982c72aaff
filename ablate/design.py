"""Designs: a study's factors to the arms that it runs. The first arm is always `base`.

A design is a function of the factors' levels that yields combinations of them, the base's own left out. A level's
patch is what `ablate.patches` applies; an arm combines the patches of its levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from ablate.conditions import ALWAYS, BASE, Combination, Conditions
from ablate.fraction import fraction
from ablate.patches import combine
from ablate.records import Arm

Factors = Mapping[str, Mapping[str, Mapping[str, object]]]  # factor -> level -> patch
Levels = Mapping[str, Sequence[str]]  # factor -> levels beside the base's own
FULL, AA = "full", "aa"  # names of arms
MAX_ARMS = 1000


class TooManyArms(ValueError):
    """A design that nobody can run."""


@dataclass(frozen=True)
class Design:
    """Which arms are run: of these `factors` (empty: of all), or the `arms` of a list (name -> factor -> level).

    `full` gives each factor's level in the full recipe, of the designs that have one; `resolution` is the least
    that a fraction may have.
    """

    name: str = "one_at_a_time"
    factors: tuple[str, ...] = ()
    arms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    full: Mapping[str, str] = field(default_factory=dict)
    resolution: int = 4

    def levels(self, factors: Factors) -> dict[str, tuple[str, ...]]:
        """Levels of the factors that take part: with a full recipe, those that it names."""
        chosen = {factor: tuple(levels) for factor, levels in factors.items()
                  if not self.factors or factor in self.factors}  # fmt: skip
        return {factor: (self.full[factor],) for factor in chosen if factor in self.full} if self.has_full else chosen

    @property
    def has_full(self) -> bool:
        return self.name in WITH_FULL

    @property
    def whole(self) -> bool:
        """Whether what the design says rests on every one of its arms."""
        return self.has_full or self.name == "fractional"


def one_at_a_time(levels: Levels, design: Design) -> Iterator[Combination]:
    """Every level alone: each arm differs from the base in exactly one factor."""
    for factor, names in levels.items():
        for level in names:
            yield {factor: level}


def leave_one_out(levels: Levels, design: Design) -> Iterator[Combination]:
    """The full recipe, and without each of its factors."""
    full = {factor: names[0] for factor, names in levels.items()}
    yield full
    for left_out in full:
        yield {factor: level for factor, level in full.items() if factor != left_out}


def both(levels: Levels, design: Design) -> Iterator[Combination]:
    """Each factor alone and the full recipe without each: closed under complement relative to the full recipe."""
    yield from one_at_a_time(levels, design)
    yield from leave_one_out(levels, design)


def factorial(levels: Levels, design: Design) -> Iterator[Combination]:
    """Every combination of levels, the base's own included as a level of each factor."""
    for chosen in product(*([BASE, *names] for names in levels.values())):
        yield {factor: level for factor, level in zip(levels, chosen, strict=True) if level != BASE}


def fractional(levels: Levels, design: Design) -> Iterator[Combination]:
    """The smallest regular fraction of the two-level factorial with the resolution that holds the base."""
    for run in fraction(tuple(levels), design.resolution).runs:
        yield {factor: names[0] for (factor, names), on in zip(levels.items(), run, strict=True) if on}


def listed(levels: Levels, design: Design) -> Iterator[Combination]:
    """The recipes that the study names."""
    yield from design.arms.values()


def drawn(levels: Levels, design: Design) -> Iterator[Combination]:
    """None beside the base: a sampler draws them while the study runs."""
    return iter(())


DESIGNS: dict[str, Callable[[Levels, Design], Iterator[Combination]]] = {
    "one_at_a_time": one_at_a_time,
    "leave_one_out": leave_one_out,
    "both": both,
    "factorial": factorial,
    "fractional": fractional,
    "list": listed,
    "search": drawn,
}
WITH_FULL = ("both", "leave_one_out")


@dataclass(frozen=True)
class LeftOut:
    """A combination of levels that the design asks for and the study declares away."""

    name: str
    combination: Combination
    why: str


def arms(
    factors: Factors, design: Design, conditions: Conditions = ALWAYS
) -> tuple[tuple[Arm, ...], tuple[LeftOut, ...]]:
    """The base and the arms of a design, in the order in which the study names its levels; and what is left out.

    Raises TooManyArms, and `ablate.patches.PatchError` for levels that can't be combined.
    """
    found, left_out = [arm(factors, {})], []
    for name, combination in combinations(factors, design).items():
        why = conditions.against(combination)
        if why is None:
            found.append(arm(factors, combination, name))
        else:
            left_out.append(LeftOut(name, combination, why))
    return tuple(found), tuple(left_out)


def combinations(factors: Factors, design: Design) -> dict[str, Combination]:
    """Name -> combination of every arm that the design asks for beside the base, each once."""
    wanted = islice(DESIGNS[design.name](design.levels(factors), design), MAX_ARMS + 2)
    distinct = {tuple(sorted(combination.items())): combination for combination in wanted if combination}
    if len(distinct) > MAX_ARMS:
        raise TooManyArms(f"{design.name} of these factors has more than {MAX_ARMS} arms; name fewer factors")
    own = {tuple(sorted(combination.items())): name for name, combination in design.arms.items()}
    return {own.get(key) or _name(factors, design, combination): combination for key, combination in distinct.items()}


def _name(factors: Factors, design: Design, combination: Combination) -> str:
    """`full`, `full_without_FACTOR`, or the levels joined by `+` in the order of the study."""
    if design.has_full and len(combination) > 1:
        without = [factor for factor in design.levels(factors) if factor not in combination]
        return "_without_".join([FULL, *without])
    return canonical(factors, combination)


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


def blocks(arm_names: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Cells (arm, seed) block by block: every arm once per seed, so that an interrupted study holds pairs."""
    for seed in seeds:
        for name in arm_names:
            yield name, seed
