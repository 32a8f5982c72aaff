"""Shrunken effects, P(best) and rank intervals from a hierarchical normal model.

m_a ~ N(mu_a, v_a), mu_a ~ N(mu, tau^2), flat priors on mu and tau, v_a scaled by nu / chi2_nu for
the uncertainty of a variance estimated from few seeds. Gelman et al., Bayesian Data Analysis,
section 5.4; per-arm variances after Grubbs, 1948, https://doi.org/10.1080/01621459.1948.10483261.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.fit import Fit

FEWEST_ARMS, FEWEST_SEEDS = 4, 3
_SEED, _DRAWS = 5, 20_000
_TAUS, _SCALES = 60, 16


@dataclass(frozen=True)
class Posterior:
    """Per arm of the fit, NaN where the arm has no finished run.

    `shrunken` is the posterior mean minus the baseline's; `p_best` and `p_beats` (the baseline)
    are probabilities; `rank_low` and `rank_high` bound the rank (1 is best) with 95 %.
    """

    shrunken: np.ndarray
    p_best: np.ndarray
    p_beats: np.ndarray
    rank_low: np.ndarray
    rank_high: np.ndarray


def posterior(fitted: Fit, *, goal: str, baseline: int = 0) -> Posterior | None:
    """The posterior, or None where the table is too small for it (4 arms, 3 seeds) or does not vary."""
    counts = np.isfinite(fitted.values).sum(axis=1)
    present = np.array([bool(count) and fitted.estimable(arm, baseline) for arm, count in enumerate(counts)])
    if present.sum() < FEWEST_ARMS or counts[baseline] < FEWEST_SEEDS or not fitted.sigma > 0:
        return None
    draws = _draws(fitted.effects[present], arm_variances(fitted)[present] / counts[present], fitted.nu)
    return _summary(draws, present, sign=1.0 if goal == "max" else -1.0, baseline=baseline)


def arm_variances(fitted: Fit) -> np.ndarray:
    """Residual variance per arm (k,): Grubbs' estimate, never below the pooled one."""
    k = int(np.isfinite(fitted.values).any(axis=1).sum())
    pooled = fitted.sigma**2
    counts = np.isfinite(fitted.values).sum(axis=1)
    squares = np.nansum(fitted.residuals**2, axis=1)
    own = (k * squares / np.maximum(counts - 1, 1) - pooled) / (k - 2) if k > 2 else np.full(len(counts), pooled)
    return np.maximum(pooled, np.where(counts > 1, own, pooled))


def _draws(means: np.ndarray, variances: np.ndarray, nu: int) -> np.ndarray:
    """Draws (_DRAWS, k) of the true arm means over a grid of tau and of the variance's scale."""
    from scipy.special import gammaincinv

    levels = (np.arange(_SCALES) + 0.5) / _SCALES
    scales = nu / (2 * gammaincinv(nu / 2, levels))
    widest = 5 * max(means.std(ddof=1), float(np.sqrt(variances.min())))
    taus = (np.arange(_TAUS) + 0.5) / _TAUS * widest  # never 0: arms that tie exactly would all lose to the first
    scale, tau = (axis.ravel() for axis in np.meshgrid(scales, taus, indexing="ij"))
    noise = scale[:, None] * variances  # (grid, k)
    precision = 1 / (noise + tau[:, None] ** 2)
    total = precision.sum(axis=1)
    centre = (precision * means).sum(axis=1) / total
    log_weight = 0.5 * (
        np.log(precision).sum(axis=1) - np.log(total) - (precision * (means - centre[:, None]) ** 2).sum(axis=1)
    )
    weight = np.exp(log_weight - log_weight.max())
    random = np.random.default_rng(_SEED)
    index = random.choice(len(weight), size=_DRAWS, p=weight / weight.sum())
    mu = centre[index] + random.standard_normal(_DRAWS) / np.sqrt(total[index])
    kept = (tau[:, None] ** 2 * precision)[index]  # share of an arm's own mean that survives
    location = kept * means + (1 - kept) * mu[:, None]
    return location + np.sqrt(kept * noise[index]) * random.standard_normal((_DRAWS, len(means)))


def _summary(draws: np.ndarray, present: np.ndarray, *, sign: float, baseline: int) -> Posterior:
    own = int(present[:baseline].sum())
    order = np.argsort(np.argsort(-sign * draws, axis=1), axis=1) + 1
    ranks = np.quantile(order, [0.025, 0.975], axis=0, method="nearest")
    averages = draws.mean(axis=0)

    def spread(values: np.ndarray) -> np.ndarray:
        whole = np.full(len(present), np.nan)
        whole[present] = values
        return whole

    return Posterior(
        shrunken=spread(averages - averages[own]),
        p_best=spread((order == 1).mean(axis=0)),
        p_beats=spread((sign * (draws - draws[:, [own]]) > 0).mean(axis=0)),
        rank_low=spread(ranks[0]),
        rank_high=spread(ranks[1]),
    )
