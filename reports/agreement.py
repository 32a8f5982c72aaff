"""Do other metrics order the arms as the primary one does?"""

from __future__ import annotations

import numpy as np

from reports.load import Metric, Results
from reports.scoring import mean_of

FEWEST_ARMS = 5


def agreement(results: Results) -> dict[str, float]:
    """Spearman's rank correlation of the arms' means, by metric: 1 the primary metric's order, -1 its reverse.

    Only metrics that at least five arms share with the primary one, and that differ between arms.
    """
    found = {}
    for metric in results.also:
        pairs = np.array([_pair(results, arm.name, metric) for arm in results.arms])
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs) >= FEWEST_ARMS and np.ptp(pairs, axis=0).all():
            found[metric.name] = float(np.corrcoef(_ranks(pairs[:, 0]), _ranks(pairs[:, 1]))[0, 1])
    return found


def _pair(results: Results, arm: str, metric: Metric) -> list[float]:
    """Both means of an arm, signed so that larger is better; NaN where there is none."""
    return [
        (1 if entry.goal == "max" else -1) * mean if (mean := mean_of(results, arm, entry.name)) is not None else np.nan
        for entry in (results.metric, metric)
    ]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from the smallest; ties share their mean rank."""
    return (values[:, None] > values).sum(axis=1) + (values[:, None] == values).sum(axis=1) / 2
