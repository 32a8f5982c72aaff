"""Where a race stands in a plan: which look comes before a trial, who is judged, which trials fall away."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablate.plan import Plan, metric_facts
from ablate.race import Judge, Look, decide
from ablate.records import Cell, Status, TrialResult
from ablate.searching import Results, Worth, value_of


def due(plan: Plan, looks: Sequence[Look], trial: str) -> int | None:
    """The look that has to be decided before the trial may start: its seeds. None where there is none."""
    if plan.study.race is None:
        return None
    first = min(plan.study.seeds.index(cell.seed) for cell in plan.cells_of(trial))
    decided = {look.after for look in looks}
    return next((after for after in plan.study.race.looks if after <= first and after not in decided), None)


def complete(plan: Plan, looks: Sequence[Look], after: int, results: Results) -> bool:
    """Whether every arm in the race has its outcomes for all seeds up to the look."""
    out, seeds = _stopped(looks), plan.study.seeds[:after]
    return all(cell.trial in results for cell in plan.cells if cell.seed in seeds and cell.arm not in out)


def stops(plan: Plan, looks: Sequence[Look]) -> dict[str, str]:
    """Trials that are not to be run, with why: all of their cells are of arms that stopped before those seeds."""
    out = _stopped(looks)

    def why(cell: Cell) -> str:
        after, said = out.get(cell.arm, (len(plan.study.seeds), ""))
        return said if plan.study.seeds.index(cell.seed) >= after else ""

    reasons = {trial: [why(cell) for cell in plan.cells_of(trial)] for trial in plan.specs}
    return {trial: said[0] for trial, said in reasons.items() if all(said)}


def look(plan: Plan, looks: Sequence[Look], after: int, results: Results, worth: Worth, judge: Judge) -> Look:
    """The decision after that many seeds, from the outcomes of the arms still in the race.

    Arms with one recipe are one arm: it is judged once, and its names stop together, the base's never.
    """
    out, seeds, metric = _stopped(looks), plan.study.seeds[:after], plan.study.metric.name
    trials = {(cell.arm, cell.seed): cell.trial for cell in plan.cells}
    names: dict[tuple[str, ...], list[str]] = {}  # trials of one recipe -> the arms that have it
    for arm in plan.arms:
        if arm.name not in out and not arm.twin_of:
            names.setdefault(tuple(trials[arm.name, seed] for seed in seeds), []).append(arm.name)
    scores = {same[0]: [_score(results[id], metric) for id in ids] for ids, same in names.items()}
    valued = {same[0]: [value_of(results[id], metric, worth) for id in ids] for ids, same in names.items()}
    goal = metric_facts(metric)["goal"]
    found = decide(plan.study.race, after, scores, valued, goal=goal, metric=metric, judge=judge)
    alike = {name: same[0] for same in names.values() for name in same}
    stopped = {name: found.stopped[first] for name, first in alike.items() if first in found.stopped}
    return Look(after, found.alpha, stopped, tuple(name for name in alike if name not in stopped))


def _score(result: TrialResult, metric: str) -> float:
    return result.scores.get(metric, math.nan) if result.status is Status.done else math.nan


def _stopped(looks: Sequence[Look]) -> dict[str, tuple[int, str]]:
    """Arm -> number of seeds after which it stopped, and why."""
    return {arm: (look.after, why) for look in looks for arm, why in look.stopped.items()}
