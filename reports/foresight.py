"""What a study that has not run could find: detectable contrasts, and the spread that they are measured in.

numpy only, so that a plan is quick. `reports.power` answers the same for arms against the baseline in a report.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from reports.fit import fit
from reports.power import _student_quantile

POWER = 0.8
_SEED = 7
_STUDIES, _DRAWS, _FEWER_FROM = 6_000, 60_000, 100  # draws are a third of that from so many contrasts on


def detectable(weights: np.ndarray, seeds: int, *, power: float = POWER) -> np.ndarray:
    """For each contrast (row of `weights`, over k arms) the size that is found with this power, in residual sds.

    Simultaneous over all rows, by the guarded max-t of the report. Infinite below two arms or three seeds. From
    seeded null studies with equal variances: a claim needs size > multiplier x error, so that the answer is a quantile
    of (multiplier x error - null estimate), no search needed.
    """
    contrasts, arms = weights.shape
    if arms < 2 or seeds < 3:
        return np.full(contrasts, math.inf)
    nu = (arms - 1) * (seeds - 1)
    values = np.random.default_rng(_SEED).standard_normal((max(_STUDIES // arms, 600), arms, seeds))
    centred = values - values.mean(axis=1, keepdims=True)
    residuals = centred - centred.mean(axis=2, keepdims=True)
    sigma = np.sqrt((residuals**2).sum(axis=(1, 2)) / nu)
    own = np.einsum("ck,skn->scn", weights, values, optimize=True)
    model = sigma[:, None] * np.sqrt((weights**2).sum(axis=1) / seeds)
    ratios = own.std(axis=2, ddof=1) / math.sqrt(seeds) / model
    guard = (ratios**2).mean(axis=1, keepdims=True)
    errors = model * np.maximum(np.maximum(1.0, ratios), np.sqrt(guard))
    multiplier = _multiplier(weights, nu)
    paired = _student_quantile(seeds - 1)
    multipliers = np.where(guard > 1.5, max(multiplier, paired), multiplier)
    return np.quantile(multipliers * errors - own.mean(axis=2), power, axis=0)


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


def _multiplier(weights: np.ndarray, nu: int) -> float:
    """0.95 quantile of max |T| over the contrasts."""
    largest = _largest(weights.astype(np.float32).tobytes(), weights.shape)
    scale = np.random.default_rng(_SEED).chisquare(nu, len(largest)) / nu
    return float(np.quantile(largest / np.sqrt(scale), 0.95))


@lru_cache(maxsize=8)
def _largest(weights: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Draws of the largest |Z| of standardised contrasts; the same for any number of seeds."""
    rows = np.frombuffer(weights, np.float32).reshape(shape)
    rows = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    draws = _DRAWS if len(rows) < _FEWER_FROM else _DRAWS // 3
    random = np.random.default_rng(_SEED)
    return np.concatenate([
        np.abs(random.standard_normal((draws // 10, shape[1]), dtype=np.float32) @ rows.T).max(axis=1)
        for _ in range(10)
    ])  # fmt: skip
