"""Which arms could be the best: guarded multiple comparisons with the best.

Hsu, 1984, https://doi.org/10.1214/aos/1176346700.
"""

from __future__ import annotations

import numpy as np

from reports.contrasts import ALPHA, own_errors
from reports.fit import Fit
from reports.maxt import MANY, as_correlation, max_t, max_t_bound, student_quantile


def best_set(fitted: Fit, *, goal: str, alpha: float = ALPHA) -> tuple[int, ...]:
    """Arms that no other arm beats beyond doubt, in the order of the table; empty without an error estimate.

    An arm leaves if some other arm's lead exceeds c SE, with SE the larger of the pooled and the
    pair's own error and c the one-sided quantile of the maximum over all contrasts against it.
    """
    present = [arm for arm in range(len(fitted.values)) if fitted.seen[arm].any()]
    if not fitted.sigma > 0:
        return ()
    sign = 1.0 if goal == "max" else -1.0
    return tuple(arm for arm in present if not _beaten(fitted, arm, present, sign, alpha))


def _beaten(fitted: Fit, arm: int, present: list[int], sign: float, alpha: float) -> bool:
    others = np.array([other for other in present if other != arm and fitted.island[other] == fitted.island[arm]], int)
    if not len(others):
        return False
    inverse = fitted.inverse
    shared = inverse[others, arm]
    covariance = inverse[np.ix_(others, others)] - shared[:, None] - shared + inverse[arm, arm]
    pooled = fitted.sigma * np.sqrt(np.diag(covariance))
    errors = np.fmax(pooled, own_errors(fitted.values[others] - fitted.values[arm])[0])
    lead = float(np.max(sign * (fitted.effects[others] - fitted.effects[arm]) / errors))
    # The quantile of a maximum lies between that of one contrast and Bonferroni's: most arms need no more.
    if lead <= student_quantile(1 - alpha, fitted.nu):
        return False
    if lead > student_quantile(1 - alpha / len(others), fitted.nu):
        return True
    return lead > _quantile(as_correlation(covariance), fitted.nu, alpha)


def _quantile(correlation: np.ndarray, nu: int, alpha: float) -> float:
    """One-sided quantile of the maximum; for many arms its bound by the smallest correlation."""
    if len(correlation) <= MANY:
        return max_t(correlation, nu, sides=1).quantile(1 - alpha)
    smallest = max(np.floor(correlation.min() * 100 + 1e-6) / 100, 0.0)
    return max_t_bound(len(correlation), float(smallest), nu).quantile(1 - alpha)
