"""What a search sampled, and what a budget of samples is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.findings import Analysis
from reports.load import PlannedArm, Results

INDEPENDENT = ("random", "qmc")  # samplers whose trials do not depend on what earlier ones came to


@dataclass(frozen=True)
class Sampled:
    """One recipe of a search: its value of every parameter (None where it does not apply), and its score."""

    arm: str
    values: Mapping[str, Any]
    score: float | None


def sampled(results: Results, analysis: Analysis) -> tuple[Sampled, ...]:
    """The recipes of a search in the order of sampling; the baseline, which was not sampled, is left out."""
    arms = [arm for arm in results.arms if arm.name != analysis.baseline]
    base = {path: old for arm in arms for path, (old, _) in arm.differences.items()}
    return tuple(
        Sampled(arm.name, {name: _value(arm, name, base) for name in results.search.get("space", {})},
                analysis.arms[arm.name].score)
        for arm in arms
    )  # fmt: skip


def _value(arm: PlannedArm, parameter: str, base: Mapping[str, Any]) -> Any:
    """What was drawn for the arm; for arms without a draw on record what they differ in, or the base's value."""
    if arm.sampled or arm.changes:
        return (arm.sampled or arm.changes).get(parameter)
    return arm.differences[parameter][1] if parameter in arm.differences else base.get(parameter)


def expected_best(scores: Sequence[float], goal: str) -> np.ndarray:
    """Expected best score of n = 1 .. N recipes drawn independently from those scored, shape (N,).

    From the order statistics of the empirical distribution. Dodge et al., 2019,
    https://doi.org/10.18653/v1/D19-1224, equation 1.
    """
    ordered = np.sort(scores) if goal == "max" else -np.sort(-np.asarray(scores, float))
    count = len(ordered)
    below = np.arange(count + 1) / count  # share of scores up to each place
    draws = np.arange(1, count + 1)[:, None]
    return (np.diff(below**draws, axis=1) * ordered).sum(axis=1)


def best_so_far(scores: Sequence[float | None], goal: str) -> np.ndarray:
    """Best score up to each trial, shape (N,); NaN before the first score."""
    known = np.array([np.nan if score is None else score for score in scores], float)
    return (np.fmax if goal == "max" else np.fmin).accumulate(known)
