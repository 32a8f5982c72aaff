"""Which design a table of factor columns comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING

from reports.findings import FactorPlan
from reports.runs import blank, listed, plain

if TYPE_CHECKING:
    import pandas

Combinations = Mapping[str, Mapping[str, str]]


def factor_plan(
    frame: pandas.DataFrame, factors: Sequence[str], arms: Sequence[str]
) -> tuple[FactorPlan | None, tuple[str, ...]]:
    """The plan behind the columns `factors` of a table, with the baseline's levels as the base; and what was read.

    Raises ValueError for a column that is not there, a missing level, an arm with two levels of a
    factor, or two arms with the same levels.
    """
    if not factors:
        return None, ()
    missing = [name for name in factors if name not in frame.columns]
    if missing:
        raise ValueError(f"factors: no column {listed(missing)}; there are {listed(frame.columns)}")
    held = _levels(frame, factors, arms)
    base = held[arms[0]]
    seen = {
        factor: tuple(dict.fromkeys([base[factor], *sorted(row[factor] for row in held.values())]))
        for factor in factors
    }
    levels = {factor: names for factor, names in seen.items() if len(names) > 1}
    changed = {arm: {f: row[f] for f in levels if row[f] != base[f]} for arm, row in held.items()}
    _refuse_equals(changed)
    design = infer(levels, changed)
    full = {factor: names[1] for factor, names in levels.items()} if design in ("both", "leave_one_out") else None
    sizes = " x ".join(str(len(names)) for names in levels.values())
    note = f"Factors {listed(levels)} ({sizes} levels, {len(arms)} arms): read as the design {design}."
    return FactorPlan(design, levels, changed, full), (note,) if levels else ()


def _levels(frame: pandas.DataFrame, factors: Sequence[str], arms: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {arm: {} for arm in arms}
    names = [str(plain(arm)) for arm in frame["arm"].tolist()]
    for factor in factors:
        for number, (arm, value) in enumerate(zip(names, frame[factor].tolist(), strict=True), start=1):
            level = str(plain(value))
            if blank(value):
                raise ValueError(f"row {number} has no level of {factor}")
            if arm in found and found[arm].setdefault(factor, level) != level:
                raise ValueError(f"arm {arm!r} has two levels of {factor}: {found[arm][factor]}, {level}")
    return found


def _refuse_equals(changed: Combinations) -> None:
    for one, other in combinations(changed, 2):
        if changed[one] == changed[other]:
            raise ValueError(f"arms {one!r} and {other!r} have the same level of every factor: one of them is enough")


def infer(levels: Mapping[str, Sequence[str]], changed: Combinations) -> str:
    """The design that these combinations are; a factorial with holes where they are no other."""
    items = {(factor, name) for factor, names in levels.items() for name in names[1:]}
    there = {frozenset(combination.items()) for combination in changed.values()}
    grid = {frozenset(item for item in cell if item in items)
            for cell in product(*([(f, name) for name in names] for f, names in levels.items()))}  # fmt: skip
    if all(len(combination) <= 1 for combination in there):
        return "one_at_a_time"
    if there == grid:
        return "factorial"
    if any(len(names) > 2 for names in levels.values()):
        return "factorial"
    full, none = frozenset(items), frozenset()
    without = {full - {item} for item in items}
    if there == {none, full} | without:
        return "leave_one_out"
    if there == {none, full} | without | {frozenset([item]) for item in items}:
        return "both"
    return "fractional" if _orthogonal(items, there) else "factorial"


def _orthogonal(items: set[tuple[str, str]], there: set[frozenset[tuple[str, str]]]) -> bool:
    """Whether every level is on in half of the arms and every two in a quarter."""
    size = len(there)
    halves = all(2 * sum(item in cell for cell in there) == size for item in items)
    return halves and all(4 * sum({a, b} <= cell for cell in there) == size for a, b in combinations(items, 2))
