"""What a study that has not run could find: detectable contrasts, and the spread that they are measured in.

numpy only, so that a plan is quick.
"""

from __future__ import annotations

import math

import numpy as np

from reports.fit import fit
from reports.power import detectable_contrasts

POWER = 0.8
_SIMULATED = 6_000  # arms of studies: enough for the two digits that a plan shows


def detectable(weights: np.ndarray, seeds: int) -> np.ndarray:
    """Size (m,) of each contrast `weights` (m, k) of arm means that is found with 80 % power, in residual sds.

    By the rule of the report, so that plan and report agree.
    """
    return detectable_contrasts(weights, seeds, POWER, studies=max(_SIMULATED // weights.shape[1], 600))


def against_baseline(arms: int) -> np.ndarray:
    """Contrasts of each of `arms` arms with the first: (arms - 1, arms)."""
    return np.hstack([-np.ones((arms - 1, 1)), np.eye(arms - 1)])


def all_pairs(arms: int) -> np.ndarray:
    """Contrasts of all pairs of arms: (arms (arms - 1) / 2, arms)."""
    one, other = np.triu_indices(arms, 1)
    return np.eye(arms)[other] - np.eye(arms)[one]


def scale(metric: str) -> str:
    """Whether a metric's differences are ratios: `log` or `raw`."""
    from reports.analysis import LOG_METRICS

    return "log" if metric in LOG_METRICS else "raw"


def residual_sd(values: np.ndarray) -> tuple[float, int]:
    """Residual sd of `y ~ arm + seed` and its degrees of freedom; NaN in `values` (arms, seeds) marks a missing cell.

    (NaN, 0) below two arms or two seeds that share cells, and where nothing varies.
    """
    whole = values[:, np.isfinite(values).sum(axis=0) >= 2]
    whole = whole[np.isfinite(whole).any(axis=1)]
    if min(whole.shape) < 2:
        return math.nan, 0
    fitted = fit(whole)
    return (fitted.sigma, fitted.nu) if fitted.nu > 0 and fitted.sigma > 0 else (math.nan, 0)


def sd_interval(sd: float, df: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a standard deviation from its chi-squared distribution."""
    from scipy.special import chdtri  # upper tail

    low, high = (df / chdtri(df, tail) for tail in ((1 - level) / 2, (1 + level) / 2))
    return sd * math.sqrt(low), sd * math.sqrt(high)


def prediction(seconds: np.ndarray, more: int, *, level: float = 0.95) -> tuple[float, float, float]:
    """Expected sum of `more` further values like `seconds`, with its prediction interval (NaN from a single value)."""
    from scipy.special import stdtrit

    known, total = len(seconds), float(seconds.mean() * more)
    if known < 2:
        return total, math.nan, math.nan
    error = float(seconds.std(ddof=1)) * math.sqrt(more + more**2 / known)
    margin = float(stdtrit(known - 1, (1 + level) / 2)) * error
    return total, max(0.0, total - margin), total + margin
