"""Effects of factors as linear contrasts of the arms' means, for each design.

Box, Hunter and Hunter, Statistics for Experimenters, 2005, chapters 5 and 6; Shapley, 1953,
https://doi.org/10.1515/9781400881970-018. Interactions are differences of differences: how much
the effect of one factor changes when the other is there (twice the half-difference that is
sometimes called the effect).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import factorial, prod

import numpy as np

from reports.findings import FactorPlan

MAIN, INTERACTION, SHAPLEY, IN_FULL, ALONE = "main", "interaction", "shapley", "in_full", "alone"
REST = "the rest"
MOST_PLAYERS = 10  # factors up to which a Shapley share is summed by its definition
Key = frozenset[tuple[str, str]]  # the levels of a combination that are not the base's


@dataclass(frozen=True)
class FactorContrast:
    """What one effect of a factor is made of: `weights` (k,) of the arms' means."""

    kind: str
    label: str
    factors: tuple[str, ...]
    weights: np.ndarray
    aliased: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """Where the combinations of a design stand in the table of arms; only arms that have a mean."""

    plan: FactorPlan
    size: int
    row: Mapping[Key, int]

    def contrast(self, terms: Sequence[tuple[Key, float]]) -> np.ndarray | None:
        """Weights (k,) of a weighted sum of combinations; None where one of them has no mean."""
        weights = np.zeros(self.size)
        for key, weight in terms:
            if key not in self.row:
                return None
            weights[self.row[key]] += weight
        return weights

    def contexts(self, names: Sequence[str]) -> list[Key]:
        """The combinations of the other factors that arms have, in the order of the table."""
        return list(dict.fromkeys(frozenset(item for item in key if item[0] not in names) for key in self.row))


def factor_contrasts(
    plan: FactorPlan, arms: Sequence[str], present: Sequence[bool]
) -> tuple[tuple[FactorContrast, ...], tuple[str, ...]]:
    """The estimable effects of a design's factors, and a sentence for each that is not.

    `present` says which arms have a mean that the model can compare with the baseline's.
    """
    place = {arm: index for index, arm in enumerate(arms)}
    owners = {name: plan.same_as.get(name, name) for name in plan.combinations}
    rows = {_key(plan.combinations[name]): place[owner] for name, owner in owners.items() if owner in place}
    cells = Cells(plan, len(arms), {key: index for key, index in rows.items() if present[index]})
    found: list[FactorContrast] = []
    notes: list[str] = []
    for contrast, note in _DESIGNS.get(plan.design, _nothing)(cells):
        if contrast and not contrast.weights.any():
            note = (
                f"{contrast.label}: 0 by construction ({contrast.kind.replace('_', ' ')}), as the recipes are the same."
            )
        elif contrast:
            found.append(contrast)
        notes += [note] if note else []
    return tuple(found), tuple(notes)


def sides(plan: FactorPlan | None, arms: Sequence[str]) -> np.ndarray | None:
    """Under the design `both`, 0 for arms beside the base and 1 for arms beside the full recipe; None elsewhere."""
    if plan is None or plan.design != "both" or not plan.full:
        return None
    return np.array([int(2 * len(plan.combinations.get(arm, ())) > len(plan.full)) for arm in arms])


_Found = Iterator[tuple[FactorContrast | None, str]]


def _key(combination: Mapping[str, str]) -> Key:
    return frozenset(combination.items())


def _nothing(cells: Cells) -> _Found:
    yield from ()


def _alone(cells: Cells) -> _Found:
    """Each level by itself in the base."""
    for factor, level in _levels(cells.plan):
        yield _one(cells, ALONE, (factor, level), [(_key({factor: level}), 1.0), (_key({}), -1.0)])


def _in_full(cells: Cells) -> _Found:
    """What the full recipe loses without each factor."""
    full = _key(cells.plan.full or {})
    for item in _ordered(cells.plan):
        yield _one(cells, IN_FULL, item, [(full, 1.0), (full - {item}, -1.0)])


def _both(cells: Cells) -> _Found:
    """The mean of alone and in the full recipe is the main effect, their difference the interaction with the rest.

    The main effect is the Shapley share too when interactions stop at order 2.
    """
    full = _key(cells.plan.full or {})
    ends = {item: [(_key(dict([item])), 1.0), (_key({}), -1.0)] for item in _ordered(cells.plan)}
    inner = {item: [(full, 1.0), (full - {item}, -1.0)] for item in ends}
    for item in ends:
        yield _one(cells, MAIN, item, _scaled(0.5, ends[item] + inner[item]))
    for item in ends:
        terms = inner[item] + _scaled(-1.0, ends[item])
        yield _one(cells, INTERACTION, item, terms, label=f"{_label(item)} : {REST}")
    yield from _shapley(cells)


def _factorial(cells: Cells) -> _Found:
    """Each level against the base's, averaged over the combinations of the other factors that hold both."""
    levels = _levels(cells.plan)
    for item in levels:
        yield _averaged(cells, MAIN, (item,))
    for one, other in combinations(levels, 2):
        if one[0] != other[0]:
            yield _averaged(cells, INTERACTION, (one, other))
    yield from _shapley(cells)


def _averaged(cells: Cells, kind: str, items: tuple[tuple[str, str], ...]) -> tuple[FactorContrast | None, str]:
    names = tuple(factor for factor, _ in items)
    label = " : ".join(map(_label, items))
    total, used = np.zeros(cells.size), 0
    for context in cells.contexts(names):
        chosen = [[item for item, taken in zip(items, take, strict=True) if taken] for take in _subsets(len(items))]
        terms = [(context | set(some), (-1.0) ** (len(items) - len(some))) for some in chosen]
        weights = cells.contrast(terms)
        if weights is not None:
            total, used = total + weights, used + 1
    whole = prod(len(levels) for factor, levels in cells.plan.levels.items() if factor not in names)
    if not used:
        return None, f"{label}: not estimable, as no combination of the other factors has all of its arms."
    note = f"{label}: averaged over {used} of {whole} combinations of the other factors; the rest lack an arm."
    return FactorContrast(kind, label, names, total / used), note if used < whole else ""


def _subsets(size: int) -> Iterator[tuple[bool, ...]]:
    return product((False, True), repeat=size)


def _shapley(cells: Cells) -> _Found:
    """Fair shares of full minus base, by their definition, where every coalition of the full recipe is an arm."""
    players = _ordered(cells.plan)
    coalitions = [frozenset(some) for size in range(len(players) + 1) for some in combinations(players, size)]
    if not 2 <= len(players) <= MOST_PLAYERS or any(coalition not in cells.row for coalition in coalitions):
        return
    for item in players:
        terms = []
        for coalition in coalitions:
            if item not in coalition:
                weight = factorial(len(coalition)) * factorial(len(players) - len(coalition) - 1)
                share = weight / factorial(len(players))
                terms += [(coalition | {item}, share), (coalition, -share)]
        yield _one(cells, SHAPLEY, item, terms)


def _fractional(cells: Cells) -> _Found:
    """Least squares of main effects and of the first two-way interaction of each alias group, on two levels a factor.

    An interaction that can't be told from a main effect is named with it.
    """
    items = [(factor, levels[1]) for factor, levels in cells.plan.levels.items() if len(levels) == 2]
    keys = list(cells.row)
    signs = {item: np.array([1.0 if item in key else -1.0 for key in keys]) for item in items}
    columns: dict[tuple[tuple[str, str], ...], np.ndarray] = {(item,): signs[item] for item in items}
    aliased: dict[tuple[tuple[str, str], ...], list[str]] = {name: [] for name in columns}
    for pair in combinations(items, 2):
        column = signs[pair[0]] * signs[pair[1]]
        same = next((name for name, other in columns.items() if abs(column @ other) == len(keys)), None)
        if same is not None:
            aliased[same].append(" : ".join(map(_label, pair)))
        elif abs(column.sum()) < len(keys):
            columns[pair], aliased[pair] = column, []
    if len(columns) >= len(keys):
        columns = {name: column for name, column in columns.items() if len(name) == 1}
        yield None, "Too few arms have a mean for interactions: main effects are taken as if factors did not interact."
    matrix = np.column_stack([np.ones(len(keys)), *columns.values()])
    inverse = np.linalg.pinv(matrix)
    unique = np.isclose(np.diag(inverse @ matrix), 1.0)
    for place, name in enumerate(columns, start=1):
        label, factors = " : ".join(map(_label, name)), tuple(factor for factor, _ in name)
        if not unique[place]:
            yield None, f"{label}: not estimable from the arms that have a mean."
            continue
        weights = np.zeros(cells.size)
        weights[[cells.row[key] for key in keys]] = 2.0 ** len(name) * inverse[place]
        kind = MAIN if len(name) == 1 else INTERACTION
        yield FactorContrast(kind, label, factors, weights, _aliases(cells.plan, factors, aliased[name])), ""


def _aliases(plan: FactorPlan, factors: tuple[str, ...], found: Sequence[str]) -> tuple[str, ...]:
    """The design's own alias table where it names the effect, else what the arms show."""
    name = ":".join(factors)
    declared = [other for group in plan.aliases if name in group for other in group if other != name]
    return tuple(dict.fromkeys(declared)) or tuple(found)


_DESIGNS: Mapping[str, Callable[[Cells], _Found]] = {
    "both": _both,
    "factorial": _factorial,
    "fractional": _fractional,
    "leave_one_out": _in_full,
    "one_at_a_time": _alone,
}


def _one(
    cells: Cells, kind: str, item: tuple[str, str], terms: Sequence[tuple[Key, float]], *, label: str = ""
) -> tuple[FactorContrast | None, str]:
    weights, label = cells.contrast(terms), label or _label(item)
    if weights is None:
        return None, f"{label}: not estimable ({kind.replace('_', ' ')}), as an arm that it needs has no mean."
    return FactorContrast(kind, label, (item[0],), weights), ""


def _scaled(factor: float, terms: Sequence[tuple[Key, float]]) -> list[tuple[Key, float]]:
    return [(key, factor * weight) for key, weight in terms]


def _label(item: tuple[str, str]) -> str:
    return "=".join(item)


def _levels(plan: FactorPlan) -> list[tuple[str, str]]:
    """Every level but the base's, in the order of the study."""
    return [(factor, level) for factor, levels in plan.levels.items() for level in levels[1:]]


def _ordered(plan: FactorPlan) -> list[tuple[str, str]]:
    """The full recipe's levels in the order of the study; of two-level factors where none is declared."""
    if plan.full:
        return [(factor, plan.full[factor]) for factor in plan.levels if factor in plan.full]
    if all(len(levels) == 2 for levels in plan.levels.values()):
        return _levels(plan)
    return []
