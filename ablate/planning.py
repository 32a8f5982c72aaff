"""`ablate plan`: what a study will do, what it could find and what it costs, before anything runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate import events
from ablate.plan import Plan, PlannedArm
from ablate.records import Status, StudyFolder, TrialFolder

SEEDS_SHOWN = (3, 4, 5, 8, 10)
EXPLORATORY_BELOW = 5  # seeds


def document(plan: Plan, runs: Path, detectable: Callable[[int, int], float]) -> dict[str, Any]:
    """The plan as `--json` prints it. `detectable(arms, seeds)` is in residual standard deviations."""
    arms, seeds = len(plan.arms), len(plan.study.seeds)
    return {
        "name": plan.study.name,
        "arms": [arm.to_json() for arm in plan.arms],
        "trials": [{"id": cell.trial, "arm": cell.arm, "seed": cell.seed} for cell in plan.cells],
        "num_trials": len(plan.cells),
        "shared": plan.shared,
        "detectable": {
            "unit": "residual standard deviations of the metric, after pairing by seed", "power": 0.8,
            "planned": detectable(arms, seeds) if arms > 1 and seeds > 1 else None,
            "by_seeds": {str(n): detectable(arms, n) for n in SEEDS_SHOWN} if arms > 1 else {},
        },
        "cost": cost(plan, runs),
        "resources": {"device": plan.device, "ranks": sorted({arm.resolved.ranks for arm in plan.arms}),
                      "slots": plan.slots},
        "warnings": list(plan.warnings),
    }  # fmt: skip


def cost(plan: Plan, runs: Path) -> dict[str, Any]:
    """Hours still to spend, from trials of this study that have ended; None where none has."""
    folder = StudyFolder(runs, plan.study.name)
    seconds = [result.seconds for id in plan.specs if (result := _ended(id, folder.trial(id))) is not None]
    left = len(plan.specs) - len(seconds)
    typical = statistics.median(seconds) if seconds else None
    hours = typical * left / plan.slots / 3600 if typical is not None else None
    return {"trials_left": left, "seconds_a_trial": typical, "measured_on": len(seconds), "hours_left": hours}


def _ended(id: str, folder: TrialFolder):
    result = events.fold(id, events.read(folder.events))
    return result if result.status in (Status.done, Status.diverged, Status.collapsed) else None


def describe(plan: Plan, facts: dict[str, Any]) -> str:
    """The plan for people."""
    study, seeds = plan.study, plan.study.seeds
    lines = [f"{study.name}: {study.question}", ""]
    lines += _table(("arm", "what it changes", "G updates", "D updates", "images"), [_row(arm) for arm in plan.arms])
    named = ", ".join(map(str, seeds))
    lines += [
        "",
        f"{_count(len(plan.arms), 'arm')} x {_count(len(seeds), 'seed')} ({named}) = {len(plan.cells)} trials",
    ]
    if plan.shared:
        lines.append(f"{plan.shared} of them share a trial with an identical recipe: {len(plan.specs)} are run")
    resources = facts["resources"]
    *fewer, most = resources["ranks"]
    ranks = " or ".join([*map(str, fewer), _count(most, "rank")])
    slots = _count(resources["slots"], "trial")
    lines.append(f"equal for all arms: {_budget(plan)}")
    lines.append(f"on {resources['device']}: {ranks} a trial, {slots} at a time")
    lines += ["", *_detectable(facts["detectable"], len(seeds)), _cost(facts["cost"])]
    notes = [f"{arm.name}: {note}" for arm in plan.arms for note in arm.resolved.notes]
    lines += [f"note: {note}" for note in notes]
    lines += [f"caution: {warning}" for warning in plan.warnings if warning not in notes]
    return "\n".join(lines)


def _budget(plan: Plan) -> str:
    budget = plan.arms[0].resolved.recipe.budget
    if len({arm.resolved.recipe.budget for arm in plan.arms}) > 1:
        return "nothing: the budget itself differs between them"
    return f"{budget.amount} {budget.unit.replace('_', ' ')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(arm: PlannedArm) -> tuple[str, ...]:
    changes = [f"{path}: {_value(old)} -> {_value(new)}" for path, (old, new) in arm.differences.items()]
    counts = map(str, (arm.generator_updates, arm.discriminator_updates, arm.images))
    return arm.name, "; ".join(changes) or "(the base)", *counts


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], widest: int = 90) -> list[str]:
    """Aligned columns; a long cell keeps its beginning."""
    rows = [tuple(cell if len(cell) <= widest else cell[: widest - 3] + "..." for cell in row) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _detectable(facts: dict[str, Any], seeds: int) -> list[str]:
    if not facts["by_seeds"]:
        return ["one arm alone: nothing is compared"]
    table = ", ".join(f"{n} seeds -> {value:.1f}" for n, value in facts["by_seeds"].items())
    lines = ["detectable difference from the base at 80 % power, in residual standard deviations:", f"  {table}"]
    if seeds < 3:
        lines.append(f"{_count(seeds, 'seed')}: estimates only, no verdicts")
    elif seeds < EXPLORATORY_BELOW:
        lines.append(f"{seeds} seeds are exploratory: only differences above {facts['planned']:.1f} of them show")
    return lines


def _cost(facts: dict[str, Any]) -> str:
    if not facts["trials_left"]:
        return "cost: nothing is left to run"
    if facts["hours_left"] is None:
        return f"cost: {facts['trials_left']} trials; their time is known once the first has ended"
    typical, left = facts["seconds_a_trial"], facts["hours_left"]
    return (f"cost: {facts['trials_left']} trials left at {typical:.1f} s each (median of {facts['measured_on']}):"
            f" about {left:.2f} h")  # fmt: skip
