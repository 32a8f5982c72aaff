"""Hours that a plan takes, with an interval, from trials that have ended or from updates that were timed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ablate.earlier import Earlier, costs_alike, like, of_study, of_this_study
from ablate.measure import Timing, per_trial
from ablate.outcome import finished
from ablate.plan import Plan
from ablate.records import StudyFolder


def cost(plan: Plan, runs: Path, foresight: ModuleType, timings: Mapping[str, Timing] | None = None) -> dict[str, Any]:
    """Hours still to spend, and what they were estimated from; None where nothing tells.

    `hours_left` is wall time on all slots, `device_hours` what a cluster would charge: cores or GPUs times time.
    `low` and `high` bound both, as shares of the estimate.
    """
    folder = StudyFolder(runs, plan.study.name)
    left = [id for id, spec in plan.specs.items() if finished(id, folder.trial(id)) is None]
    facts: dict[str, Any] = {"trials_left": len(left), "seconds_a_trial": None, "measured_on": 0, "hours_left": None,
                             "unit": "GPU-hours" if plan.device == "cuda" else "core-hours",
                             "device_hours": None, "low": None, "high": None, "source": None}  # fmt: skip
    if timings:
        return facts | _from_timings(plan, left, timings)
    earlier = _earlier(plan, runs)
    return facts | (_from_trials(plan, left, earlier, foresight) if earlier else {})


def _earlier(plan: Plan, runs: Path) -> Earlier | None:
    """Trials that take about as long: this study's own, or those of a study whose base and resources are the same."""
    own = of_this_study(plan, runs)
    if own.ended:
        return own
    ours = plan.to_json()
    names = [(name, how) for name, theirs, how in like(plan, runs) if costs_alike(ours, theirs)]
    return next((found for name, how in names[:3] if (found := of_study(runs, name, how)).ended), None)


def _from_trials(plan: Plan, left: list[str], earlier: Earlier, foresight: ModuleType) -> dict[str, Any]:
    own = earlier.how == "this study"
    seconds = np.array([result.seconds_alone for result in earlier.ended])
    total, low, high = foresight.prediction(seconds, len(left))
    source = f"{len(seconds)} finished trials" + ("" if own else f" of the study {earlier.study} ({earlier.how})")
    per_trial = total / len(left) if left else 0.0
    return {
        "seconds_a_trial": statistics.median(seconds.tolist()), "measured_on": len(seconds), "source": source,
        **_hours(plan, dict.fromkeys(left, per_trial)), **_shares(total, low, high),
    }  # fmt: skip


def _from_timings(plan: Plan, left: list[str], timings: Mapping[str, Timing]) -> dict[str, Any]:
    trials, chosen = per_trial(plan, timings), set(left)
    seconds = {id: timing.seconds(recipe) for id, (timing, recipe) in trials.items() if id in chosen}
    margins = [timing.margin(recipe) for id, (timing, recipe) in trials.items() if id in chosen]
    total, margin = sum(seconds.values()), math.nan if None in margins else sum(margins)
    distinct = list(dict.fromkeys(timings.values()))
    updates = sum(timing.updates for timing in distinct)
    return {
        "seconds_a_trial": statistics.median(seconds.values()) if seconds else None, "measured_on": 0,
        "source": f"{updates} updates timed on this machine, {len(distinct)} kinds of arm, one at a time",
        **_hours(plan, seconds), **_shares(total, max(0.0, total - margin), total + margin),
        "arms": {arm: {"seconds": timing.seconds(plan.arm(arm).resolved.recipe), "update": timing.update,
                       "reading": timing.reading, "evaluation": timing.evaluation}
                 for arm, timing in timings.items()},
    }  # fmt: skip


def _hours(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    """Of trials that take so many seconds each, without the updates that others make for them."""
    seconds = {id: (1 - plan.untrained(id)) * each for id, each in seconds.items()}

    def devices(id: str) -> int:
        spec = plan.specs[id]
        return spec.ranks if spec.device == "cuda" else spec.ranks * spec.threads

    together = plan.study.resources.trials_per_job  # one after the other
    slots = max(1, min(-(-plan.slots // together), len(seconds)))
    return {"hours_left": sum(seconds.values()) / slots / 3600,
            "device_hours": sum(devices(id) * each for id, each in seconds.items()) / 3600}  # fmt: skip


def _shares(total: float, low: float, high: float) -> dict[str, float | None]:
    known = total > 0 and math.isfinite(high)
    return {"low": low / total if known else None, "high": high / total if known else None}
