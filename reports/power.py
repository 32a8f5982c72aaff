"""Smallest difference a study can be expected to find, before it runs (numpy only, so a plan is quick)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_SEED = 7
_STUDIES, _DRAWS = 6_000, 60_000


def detectable(arms: int, seeds: int, power: float = 0.8) -> float:
    """Difference from the baseline, in residual sds, that the guarded Dunnett claims with this power.

    `arms` counts the baseline. Infinite below two arms or three seeds, where no claim is made.
    From seeded null studies with equal variances: a claim needs difference > multiplier x error, so
    the answer is a quantile of (multiplier x error - null difference), no search needed.
    """
    if arms < 2 or seeds < 3:
        return math.inf
    return float(np.quantile(_margins(arms, seeds), power))


@lru_cache(maxsize=64)
def _margins(arms: int, seeds: int) -> np.ndarray:
    nu = (arms - 1) * (seeds - 1)
    studies = max(_STUDIES // arms, 600)
    values = np.random.default_rng(_SEED).standard_normal((studies, arms, seeds))
    centred = values - values.mean(axis=1, keepdims=True)
    residuals = centred - centred.mean(axis=2, keepdims=True)
    model = np.sqrt((residuals**2).sum(axis=(1, 2)) / nu * 2 / seeds)[:, None]
    pairs = values[:, 1:] - values[:, :1]
    ratios = pairs.std(axis=2, ddof=1) / math.sqrt(seeds) / model
    guard = (ratios**2).mean(axis=1, keepdims=True)
    errors = model * np.maximum(np.maximum(1.0, ratios), np.sqrt(guard))
    multiplier = _multiplier(arms - 1, nu)
    paired = _student_quantile(seeds - 1)
    multipliers = np.where(guard > 1.5, max(multiplier, paired), multiplier)
    return (multipliers * errors - pairs.mean(axis=2)).ravel()


def _multiplier(contrasts: int, nu: int) -> float:
    """0.95 quantile of max |T| for contrasts that share one baseline (correlation one half)."""
    random = np.random.default_rng(_SEED)
    shared = random.standard_normal((_DRAWS, 1), dtype=np.float32)
    own = random.standard_normal((_DRAWS, contrasts), dtype=np.float32)
    own += shared
    largest = np.maximum(own.max(axis=1), -own.min(axis=1)) / math.sqrt(2)
    return float(np.quantile(largest / np.sqrt(random.chisquare(nu, _DRAWS) / nu), 0.95))


def _student_quantile(nu: int, level: float = 0.975) -> float:
    """Quantile of Student's t, from its density on a fine grid (error below 1e-3)."""
    grid = np.linspace(0, 60, 600_001)
    density = np.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(nu * math.pi)
    density = density * (1 + grid**2 / nu) ** (-(nu + 1) / 2)
    return float(np.interp(level - 0.5, np.cumsum(density) * grid[1], grid))
