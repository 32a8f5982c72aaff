"""Which arms could be the best: guarded multiple comparisons with the best.

Hsu, 1984, https://doi.org/10.1214/aos/1176346700.
"""

from __future__ import annotations

import numpy as np

from reports.dunnett import ALPHA
from reports.fit import Fit
from reports.maxt import as_correlation, max_t, student_quantile


def best_set(fitted: Fit, *, goal: str, alpha: float = ALPHA) -> tuple[int, ...]:
    """Arms that no other arm beats beyond doubt, in the order of the table; empty without an error estimate.

    An arm leaves if some other arm's lead exceeds c SE, with SE the larger of the pooled and the
    pair's own error and c the one-sided quantile of the maximum over all contrasts against it.
    """
    present = [arm for arm in range(len(fitted.values)) if np.isfinite(fitted.values[arm]).any()]
    if not fitted.sigma > 0:
        return ()
    sign = 1.0 if goal == "max" else -1.0
    return tuple(arm for arm in present if not _beaten(fitted, arm, present, sign, alpha))


def _beaten(fitted: Fit, arm: int, present: list[int], sign: float, alpha: float) -> bool:
    pairs = [(other, arm) for other in present if other != arm and fitted.estimable(other, arm)]
    if not pairs:
        return False
    covariance = fitted.covariance(pairs)
    pooled = fitted.sigma * np.sqrt(np.diag(covariance))
    errors = np.fmax(pooled, [fitted.own_se(*pair) for pair in pairs])
    lead = float(np.max(sign * np.array([fitted.difference(*pair) for pair in pairs]) / errors))
    # The quantile of a maximum lies between that of one contrast and Bonferroni's: most arms need no more.
    if lead <= student_quantile(1 - alpha, fitted.nu):
        return False
    if lead > student_quantile(1 - alpha / len(pairs), fitted.nu):
        return True
    return lead > max_t(as_correlation(covariance), fitted.nu, sides=1).quantile(1 - alpha)
