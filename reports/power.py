"""Smallest difference a study can be expected to find, before it runs (numpy only, so a plan is quick)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations

import numpy as np

from reports.factors import factor_contrasts
from reports.findings import FactorPlan

_SEED = 7
_STUDIES, _DRAWS = 6_000, 60_000
_CELLS = 4_000_000  # numbers of simulated contrasts at a time
_MANY = 256  # contrasts above which fewer draws are made


def detectable(arms: int, seeds: int, power: float = 0.8, *, alpha: float = 0.05, family: str = "vs_baseline") -> float:
    """Difference from the baseline, in residual sds, that the guarded Dunnett claims with this power.

    `arms` counts the baseline; in the family `all_pairs` it is the difference between any two.
    Infinite below two arms or three seeds, where no claim is made.
    From seeded null studies with equal variances: a claim needs difference > multiplier x error, so
    the answer is a quantile of (multiplier x error - null difference), no search needed.
    """
    if arms < 2 or seeds < 3:
        return math.inf
    if family != "all_pairs":
        return float(np.quantile(_margins(arms, seeds, alpha), power))
    weights = np.zeros((arms * (arms - 1) // 2, arms))
    for row, (one, other) in enumerate(combinations(range(arms), 2)):
        weights[row, one], weights[row, other] = -1.0, 1.0
    return float(np.median(detectable_contrasts(weights, seeds, power, alpha=alpha)))


def detectable_effects(plan: FactorPlan, seeds: int, power: float = 0.8, *, alpha: float = 0.05) -> Mapping[str, float]:
    """The same for the effects of a design's factors, in residual sds: `kind label` -> size.

    Empty where the design has no such effects.
    """
    arms = tuple(arm for arm in plan.combinations if arm not in plan.same_as)
    named, _ = factor_contrasts(plan, arms, [True] * len(arms))
    weights = np.array([effect.weights for effect in named]).reshape(len(named), len(arms))
    sizes = detectable_contrasts(weights, seeds, power, alpha=alpha)
    return {f"{effect.kind} {effect.label}": float(size) for effect, size in zip(named, sizes, strict=True)}


def detectable_contrasts(
    weights: np.ndarray, seeds: int, power: float = 0.8, *, alpha: float = 0.05, studies: int = _STUDIES
) -> np.ndarray:
    """Size (m,) of each contrast `weights` (m, k) of arm means, in residual sds, as one family.

    Infinite below two arms or three seeds. From up to that many simulated `studies`: fewer are quicker, less exact.
    """
    if seeds < 3 or not len(weights) or weights.shape[1] < 2:
        return np.full(len(weights), math.inf)
    return _sizes(np.ascontiguousarray(weights, float).tobytes(), weights.shape[1], seeds, power, alpha, studies)


@lru_cache(maxsize=64)
def _sizes(weights: bytes, arms: int, seeds: int, power: float, alpha: float, most: int) -> np.ndarray:
    contrasts = np.frombuffer(weights).reshape(-1, arms)
    lengths = np.sqrt((contrasts**2).sum(axis=1))
    nu = (arms - 1) * (seeds - 1)
    studies = int(np.clip(_CELLS // (len(contrasts) * seeds), 300, most))
    values = np.random.default_rng(_SEED).standard_normal((studies, arms, seeds))
    model = _residual_sd(values, nu)[:, None] * lengths / math.sqrt(seeds)
    per_seed = np.einsum("ma,sab->smb", contrasts, values, optimize=True)
    ratios = per_seed.std(axis=2, ddof=1) / math.sqrt(seeds) / model
    multiplier = _multiplier(contrasts / lengths[:, None], nu, alpha)
    margins = _margin(per_seed.mean(axis=2), model, ratios, multiplier, seeds, alpha)
    return np.quantile(margins, power, axis=0)


@lru_cache(maxsize=64)
def _margins(arms: int, seeds: int, alpha: float) -> np.ndarray:
    nu = (arms - 1) * (seeds - 1)
    studies = max(_STUDIES // arms, 600)
    values = np.random.default_rng(_SEED).standard_normal((studies, arms, seeds))
    model = _residual_sd(values, nu)[:, None] * math.sqrt(2 / seeds)
    pairs = values[:, 1:] - values[:, :1]
    ratios = pairs.std(axis=2, ddof=1) / math.sqrt(seeds) / model
    multiplier = _multiplier_of_one_baseline(arms - 1, nu, alpha)
    return _margin(pairs.mean(axis=2), model, ratios, multiplier, seeds, alpha).ravel()


def _residual_sd(values: np.ndarray, nu: int) -> np.ndarray:
    """(studies,) from (studies, arms, seeds)."""
    centred = values - values.mean(axis=1, keepdims=True)
    residuals = centred - centred.mean(axis=2, keepdims=True)
    return np.sqrt((residuals**2).sum(axis=(1, 2)) / nu)


def _margin(
    estimates: np.ndarray, model: np.ndarray, ratios: np.ndarray, multiplier: float, seeds: int, alpha: float
) -> np.ndarray:
    """What a true difference must exceed for a claim, in each study and contrast: as `reports.contrasts` claims."""
    guard = (ratios**2).mean(axis=1, keepdims=True)
    errors = model * np.maximum(np.maximum(1.0, ratios), np.sqrt(guard))
    paired = _student_quantile(seeds - 1, 1 - alpha / 2)
    return np.where(guard > 1.5, max(multiplier, paired), multiplier) * errors - estimates


def _multiplier(loadings: np.ndarray, nu: int, alpha: float) -> float:
    """Quantile of max |T| for statistics that are `loadings` (m, k) of independent normals."""
    largest = _largest(loadings.astype(np.float32).tobytes(), loadings.shape)
    scale = np.random.default_rng(_SEED).chisquare(nu, len(largest)) / nu
    return float(np.quantile(largest / np.sqrt(scale), 1 - alpha))


@lru_cache(maxsize=8)
def _largest(loadings: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Draws of the largest |Z|: the same for any number of seeds."""
    rows, random = np.frombuffer(loadings, np.float32).reshape(shape), np.random.default_rng(_SEED)
    draws = _DRAWS if len(rows) <= _MANY else _DRAWS // 4
    return np.concatenate([
        np.abs(random.standard_normal((draws // 10, shape[1]), dtype=np.float32) @ rows.T).max(axis=1)
        for _ in range(10)
    ])  # fmt: skip


def _multiplier_of_one_baseline(contrasts: int, nu: int, alpha: float) -> float:
    """Quantile of max |T| for contrasts that share one baseline (correlation one half)."""
    random = np.random.default_rng(_SEED)
    shared = random.standard_normal((_DRAWS, 1), dtype=np.float32)
    own = random.standard_normal((_DRAWS, contrasts), dtype=np.float32)
    own += shared
    largest = np.maximum(own.max(axis=1), -own.min(axis=1)) / math.sqrt(2)
    return float(np.quantile(largest / np.sqrt(random.chisquare(nu, _DRAWS) / nu), 1 - alpha))


@lru_cache(maxsize=64)
def _student_quantile(nu: int, level: float) -> float:
    """Quantile of Student's t, from its density on a fine grid (error below 1e-3)."""
    grid = np.linspace(0, 60, 600_001)
    density = np.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(nu * math.pi)
    density = density * (1 + grid**2 / nu) ** (-(nu + 1) / 2)
    return float(np.interp(level - 0.5, np.cumsum(density) * grid[1], grid))
