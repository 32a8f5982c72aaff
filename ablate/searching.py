"""The next arm of a search, from what the trial folders say about those before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ablate.plan import Plan, PlannedArm, metric_facts
from ablate.problems import Problem, StudyError
from ablate.records import Cell, Status, TrialResult
from ablate.searchdraw import Draw, State, Tried, draw
from ablate.searchplan import Infeasible, arm_of, grown

MOST_REFUSED = 100  # draws in a row that can't run: then the space itself is at fault
Results = Mapping[str, TrialResult]  # trial -> its outcome
Worth = Mapping[str, float]  # metric -> what a run that failed by itself is worth


def grow(plan: Plan, results: Results, worth: Worth) -> Plan:
    """The plan with one more sampled arm. Raises StudyError where only combinations are drawn that can't run."""
    search, known = plan.study.search, tried(plan, results, worth)
    goals = [metric_facts(name)["goal"] for name in search.objectives]
    refused: list[dict[str, Any]] = []
    while len(refused) < MOST_REFUSED:
        number = len(plan.drawn) + len(plan.refused) + len(refused)
        found: Draw = draw(search, number, known, goals=goals)
        try:
            arm = arm_of(plan, len(plan.drawn) + 1, found.sampled, found.marks)
        except Infeasible as error:
            refused.append({"combination": found.sampled, "why": str(error)})
        else:
            return grown(plan, [arm], refused)
    said = f"{MOST_REFUSED} draws in a row can't run; the last: {refused[-1]['combination']}: {refused[-1]['why']}"
    raise StudyError([Problem(str(plan.study.source), 0, 0, "design.search.space", said)])


def tried(plan: Plan, results: Results, worth: Worth) -> list[Tried]:
    """The sampled arms in the order of their draws, as a sampler sees them."""
    race = plan.study.race
    until = plan.study.seeds[: race.looks[0]] if race else plan.study.seeds
    cells: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        if cell.seed in until:
            cells.setdefault(cell.arm, []).append(cell)
    return [_tried(plan, arm, cells[arm.name], results, worth) for arm in plan.drawn]


def _tried(plan: Plan, arm: PlannedArm, cells: list[Cell], results: Results, worth: Worth) -> Tried:
    search = plan.study.search
    if any(cell.trial not in results for cell in cells):
        return Tried(arm.sampled, arm.marks)
    ended = [results[cell.trial] for cell in cells]
    cut = next((result for result in ended if result.status is Status.stopped and result.steps), None)
    if cut is not None:
        rows = cut.curves.get((plan.study.metric.split, search.objectives[0]), ())
        curve = {step: value for step, _, value in rows if math.isfinite(value)}
        return Tried(arm.sampled, arm.marks, State.pruned, curve=curve)
    values = tuple(_mean([value_of(result, name, worth) for result in ended]) for name in search.objectives)
    if all(map(math.isfinite, values)):
        return Tried(arm.sampled, arm.marks, State.done, values)
    return Tried(arm.sampled, arm.marks, State.failed)


def value_of(result: TrialResult, metric: str, worth: Worth) -> float:
    """What an outcome is worth: the final score, the penalty of a run that failed by itself, else NaN."""
    if result.status is Status.done:
        return result.scores.get(metric, math.nan)
    own = result.status is Status.failed and result.why.startswith("arm:")
    failed = own or result.status in (Status.diverged, Status.collapsed)
    return worth.get(metric, math.nan) if failed else math.nan


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def worth_of_failures(plan: Plan, references: TrialResult) -> dict[str, float]:
    """The declared penalty of the study's metric; for other metrics always that of the mean colour."""
    scores = {name: references.scores.get(f"mean_colour/{name}", math.nan) for name in plan.metrics}
    declared = plan.study.failure.score
    if declared != "mean_colour":
        scores[plan.study.metric.name] = float(declared)
    return {name: value for name, value in scores.items() if math.isfinite(value)}
