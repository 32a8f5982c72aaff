"""Guarded block Dunnett: every arm against the baseline with simultaneous intervals.

Dunnett, 1955, https://doi.org/10.1080/01621459.1955.10501294, on the residuals of
`y ~ arm + seed`. The guard widens an interval where an arm's own per-seed differences, or the
whole family's, spread more than the pooled model says: a baseline noisier than its remedies
would otherwise make false claims.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.fit import Fit
from reports.maxt import as_correlation, max_t, student_p, student_quantile

ALPHA = 0.05
_NOISY = 1.5  # guard ratio above which no multiplier may be smaller than a paired t's


@dataclass(frozen=True)
class Contrast:
    """One arm minus the baseline. `se` is NaN without degrees of freedom, 0 where nothing varies;
    low, high and p are NaN wherever `se` gives no interval. `pairs` counts shared seeds."""

    arm: int
    pairs: int
    difference: float
    se: float
    low: float
    high: float
    p_adjusted: float


@dataclass(frozen=True)
class Comparison:
    """All contrasts of the family; `guard` is the mean squared ratio of own to model error."""

    contrasts: tuple[Contrast, ...]
    guard: float
    critical: float


def against_baseline(fitted: Fit, baseline: int = 0, *, alpha: float = ALPHA, guarded: bool = True) -> Comparison:
    """Simultaneous comparison of every arm that shares a chain of seeds with the baseline."""
    others = [arm for arm in range(len(fitted.values)) if arm != baseline and fitted.estimable(arm, baseline)]
    pairs = [(arm, baseline) for arm in others]
    if not pairs or not fitted.sigma > 0:
        return Comparison(tuple(_bare(fitted, arm, baseline) for arm in others), float("nan"), float("nan"))
    covariance = fitted.covariance(pairs)
    model = fitted.sigma * np.sqrt(np.diag(covariance))
    own = np.array([fitted.own_se(*pair) for pair in pairs])
    ratios = own / model
    known = ratios[np.isfinite(ratios)]
    guard = float(np.mean(known**2)) if guarded and len(known) else 1.0
    widths = np.fmax(np.fmax(1.0, ratios), np.sqrt(guard)) if guarded else np.ones(len(pairs))
    largest = max_t(as_correlation(covariance), fitted.nu, sides=2)
    contrasts = []
    for index, arm in enumerate(others):
        shared = len(fitted.shared(arm, baseline))
        paired_df = shared - 1 if guarded and guard > _NOISY and shared > 1 else None
        contrasts.append(
            _contrast(
                arm, shared, fitted.difference(arm, baseline), float(model[index] * widths[index]),
                largest=largest, alpha=alpha, paired_df=paired_df,
            )
        )  # fmt: skip
    return Comparison(tuple(contrasts), guard, largest.quantile(1 - alpha))


def _contrast(arm, pairs, difference, se, *, largest, alpha, paired_df) -> Contrast:
    critical, p = largest.quantile(1 - alpha), largest.p(abs(difference) / se)
    if paired_df:
        critical = max(critical, student_quantile(1 - alpha / 2, paired_df))
        p = max(p, student_p(difference / se, paired_df))
    return Contrast(arm, pairs, difference, se, difference - critical * se, difference + critical * se, p)


def _bare(fitted: Fit, arm: int, baseline: int) -> Contrast:
    """A difference for which this table supports no interval."""
    nan = float("nan")
    pairs = len(fitted.shared(arm, baseline))
    return Contrast(arm, pairs, fitted.difference(arm, baseline), fitted.sigma, nan, nan, nan)
