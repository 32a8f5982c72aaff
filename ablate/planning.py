"""`ablate plan` as facts: what a study will do, what it could find and what it costs, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ablate.conditions import BASE
from ablate.cost import cost
from ablate.effects import PlannedEffect, effects
from ablate.measure import Timing
from ablate.plan import Plan, metric_facts
from ablate.properties import properties
from ablate.searchplan import foreseen
from ablate.space import need
from ablate.spread import Spread, spread

SEEDS_SHOWN = range(3, 11)
MAX_PAIRED = 60  # arms of which all pairs are compared


def document(
    plan: Plan, runs: Path, foresight: ModuleType, *, pilot: str | None = None,
    timings: Mapping[str, Timing] | None = None, cluster: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The plan as `--json` prints it. `foresight` is `reports.foresight`, `cluster` what a scheduler said.

    Raises StudyError for a pilot that says nothing.
    """
    whole = foreseen(plan)
    if timings:
        timings = {**timings, **dict.fromkeys((arm.name for arm in whole.arms[len(plan.arms) :]), timings[BASE])}
    return {
        "name": plan.study.name,
        "arms": [arm.to_json() for arm in plan.arms],
        "trials": [{"id": cell.trial, "arm": cell.arm, "seed": cell.seed} for cell in plan.cells],
        "num_trials": plan.num_trials,
        "shared": plan.shared,
        "trained_once": trained_once(plan),
        "design": {"name": plan.study.design.name, **properties(plan)},
        "detectable": detectable(whole, foresight, spread(plan, runs, foresight, pilot=pilot)),
        "cost": cost(whole, runs, foresight, timings),
        "disk": need(plan, runs).to_json(),
        "resources": {"device": plan.device, "ranks": sorted({arm.resolved.ranks for arm in plan.arms}),
                      "slots": plan.slots, **({"cluster": dict(cluster)} if cluster else {})},
        "warnings": list(plan.warnings),
    }  # fmt: skip


def trained_once(plan: Plan) -> dict[str, Any]:
    """Generator updates that trials take over from others, of those that all of them have, and who does from whom."""
    updates = {arm.name: arm.generator_updates for arm in plan.arms}
    return {
        "updates": sum(branch.step for branch in plan.branches.values()),
        "of": sum(updates[plan.cells_of(id)[0].arm] for id in plan.specs),
        "trials": [{"id": id, "from": branch.trunk, "updates": branch.step} for id, branch in plan.branches.items()],
    }  # fmt: skip


def detectable(plan: Plan, foresight: ModuleType, found: Spread | None) -> dict[str, Any]:
    """Differences that are found with 80 % power, in residual sds and, where the sd is known, in the metric's unit."""
    arms, seeds = [arm.name for arm in plan.compared], len(plan.study.seeds)
    table = _Table(foresight, seeds, found)
    pairs = plan.study.metric.family == "all_pairs" and 1 < len(arms) <= MAX_PAIRED
    facts = {
        "unit": "residual standard deviations of the metric, after pairing by seed", "power": foresight.POWER,
        "metric": metric_facts(plan.study.metric.name), "family": plan.study.metric.family,
        "compared": "any two arms" if pairs else "an arm and the base",
        "sd": found.to_json() if found else None, "smallest_effect": plan.study.metric.smallest_effect or None,
    }  # fmt: skip
    if len(arms) < 2:
        return facts | {"planned": None, "by_seeds": {}, "in_metric": {}, "effects": []}
    contrasts = foresight.all_pairs(len(arms)) if pairs else foresight.against_baseline(len(arms))
    return facts | table.row(contrasts) | {"effects": _effects(plan, arms, table)}


def _effects(plan: Plan, arms: Sequence[str], table: _Table) -> list[dict[str, Any]]:
    """Main effects and interactions of a design that estimates them: the least favourable of each kind."""
    found = effects(plan)
    if not found:
        return []
    contrasts = np.array([_weights(plan, effect, arms) for effect in found])
    kinds = {kind: [at for at, effect in enumerate(found) if effect.kind == kind] for kind in ("main", "interaction")}
    return [{"kind": kind, "effects": len(rows), "arms": min(int((contrasts[at] != 0).sum()) for at in rows),
             **table.row(contrasts, rows)} for kind, rows in kinds.items() if rows]  # fmt: skip


def _weights(plan: Plan, effect: PlannedEffect, arms: Sequence[str]) -> list[float]:
    """An effect's weights on the distinct recipes: an arm that shares its trials stands for those that it shares."""
    owner = {cell.trial: cell.arm for cell in reversed(plan.cells)}
    first = {cell.arm: owner[cell.trial] for cell in plan.cells}
    weights = dict.fromkeys(arms, 0.0)
    for arm, weight in effect.weights.items():
        weights[first[arm]] += weight
    return list(weights.values())


class _Table:
    """Rows of a table of detectable sizes by number of seeds."""

    def __init__(self, foresight: ModuleType, seeds: int, found: Spread | None):
        self.foresight, self.seeds, self.spread = foresight, seeds, found

    def row(self, contrasts: np.ndarray, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """Planned and for 3 to 10 seeds, the largest over `rows` of the contrasts (all by default)."""
        chosen = range(len(contrasts)) if rows is None else rows
        by_seeds = {n: self._size(contrasts, n, chosen) for n in sorted({*SEEDS_SHOWN, max(3, self.seeds)})}
        planned = by_seeds.get(self.seeds)
        shown = {str(n): by_seeds[n] for n in SEEDS_SHOWN}
        return {"planned": planned, "by_seeds": shown,
                "in_metric": {"planned": self._in_metric(planned),
                              "by_seeds": {n: self._in_metric(size) for n, size in shown.items()}}
                if self.spread else {}}  # fmt: skip

    def _size(self, contrasts: np.ndarray, seeds: int, rows: Sequence[int]) -> float:
        """All arms play equal parts in most families, so that their mean is steadier than the largest."""
        sizes = self.foresight.detectable(contrasts, seeds)[list(rows)]
        errors = np.sqrt((contrasts[list(rows)] ** 2).sum(axis=1))
        return float(np.mean(sizes / errors) * errors.max())

    def _in_metric(self, size: float | None) -> float | None:
        """In the metric's unit; of a metric that is compared by ratios, the ratio."""
        if size is None or self.spread is None:
            return None
        return math.exp(size * self.spread.sd) if self.spread.scale == "log" else size * self.spread.sd
