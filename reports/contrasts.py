"""Guarded max-t: linear contrasts of arm means with simultaneous intervals.

Hothorn, Bretz and Westfall, 2008, https://doi.org/10.1002/bimj.200810425, on the residuals of
`y ~ arm + seed`. The guard widens an interval where a contrast's own per-seed values, or those of
its family, spread more than the pooled model says: a baseline noisier than its remedies would
otherwise make false claims. One rule gives the interval and the p, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.fit import Fit, arm_variances
from reports.maxt import Maximum, as_correlation, max_t, max_t_of, student_p, student_quantile

ALPHA = 0.05
NOISY = 1.5  # guard from which no multiplier may be smaller than a paired t's
FEWEST_BLOCKS = 3  # complete blocks that a contrast of more than two arms needs for an own error


@dataclass(frozen=True)
class Contrast:
    """One linear contrast of arm means. `se` is NaN without degrees of freedom, 0 where nothing varies;
    low, high and p are NaN wherever `se` gives no interval. `pairs` counts complete blocks."""

    pairs: int
    difference: float
    se: float
    low: float
    high: float
    p_adjusted: float


@dataclass(frozen=True)
class Family:
    """Contrasts with simultaneous intervals; `guard` is the mean squared ratio of own to model error.

    `critical` is the multiplier before any contrast's own; both are NaN without an error estimate.
    """

    contrasts: tuple[Contrast, ...]
    guard: float
    critical: float


@dataclass(frozen=True)
class Estimates:
    """Of m contrasts: fitted values, model and own standard errors and complete blocks, each (m,)."""

    values: np.ndarray
    model: np.ndarray
    own: np.ndarray
    blocks: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        return self.own / self.model


def simultaneous(fitted: Fit, weights: np.ndarray, *, alpha: float = ALPHA, guarded: bool = True) -> Family:
    """The family of the contrasts `weights` (m, k): estimable, each row summing to 0.

    The own error of a contrast is the sd of its per-seed values over complete blocks / sqrt(blocks).
    """
    found = estimates(fitted, weights)
    if not len(weights) or not fitted.sigma > 0:
        return bare(fitted, found)
    if len(weights) < len(fitted.values):
        largest = max_t(as_correlation(weights @ fitted.inverse @ weights.T), fitted.nu, sides=2)
    else:
        largest = max_t_of(weights, fitted.inverse, fitted.nu, sides=2)
    return family(found, largest, alpha=alpha, guard=guard_of(found.ratios) if guarded else None)


def guard_of(ratios: np.ndarray) -> float:
    """Mean squared ratio of own to model error, over the contrasts that have an own error."""
    known = ratios[np.isfinite(ratios)]
    return float(np.mean(known**2)) if len(known) else 1.0


def family(found: Estimates, largest: Maximum, *, alpha: float, guard: float | np.ndarray | None) -> Family:
    """Intervals and p of estimated contrasts; `guard` for all or for each, None leaves it off."""
    guards = np.broadcast_to(1.0 if guard is None else guard, found.values.shape)
    widths = np.ones(len(guards)) if guard is None else np.fmax(np.fmax(1.0, found.ratios), np.sqrt(guards))
    se = found.model * widths
    t = np.abs(found.values) / se
    critical, p = np.full(len(t), largest.quantile(1 - alpha)), largest.p(t)
    paired = (guards > NOISY) & (found.blocks > 1)
    if paired.any():
        df = found.blocks[paired] - 1
        critical[paired] = np.maximum(critical[paired], [student_quantile(1 - alpha / 2, nu) for nu in df])
        p[paired] = np.maximum(p[paired], student_p(t[paired], df))
    columns = (found.blocks, found.values, se, found.values - critical * se, found.values + critical * se, p)
    contrasts = tuple(Contrast(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
    return Family(contrasts, 1.0 if guard is None else float(np.max(guard)), largest.quantile(1 - alpha))


def bare(fitted: Fit, found: Estimates) -> Family:
    """Differences for which this table supports no interval."""
    nan = float("nan")
    rows = zip(found.blocks.tolist(), found.values.tolist(), strict=True)
    return Family(tuple(Contrast(blocks, value, fitted.sigma, nan, nan, nan) for blocks, value in rows), nan, nan)


def estimates(fitted: Fit, weights: np.ndarray) -> Estimates:
    """Estimates and errors of the contrasts `weights` (m, k)."""
    centre = np.nanmean(fitted.values) if fitted.seen.any() else 0.0
    cells = np.where(fitted.seen, fitted.values - centre, 0.0)
    lacking = (weights != 0).astype(float) @ ~fitted.seen
    per_block = np.where(lacking == 0, weights @ cells, np.nan)
    model = fitted.sigma * np.sqrt(np.einsum("ma,ab,mb->m", weights, fitted.inverse, weights, optimize=True))
    own, blocks = own_errors(per_block)
    wide = ((weights != 0).sum(axis=1) > 2) & (blocks < FEWEST_BLOCKS)
    if wide.any():
        own[wide], blocks[wide] = _from_arms(fitted, weights[wide])
    return Estimates(weights @ fitted.effects, model, own, blocks)


def own_errors(per_block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors (m,) of means over the finite columns of `per_block` (m, n), NaN below two; and their counts."""
    seen = np.isfinite(per_block)
    counts = seen.sum(axis=1)
    means = np.where(seen, per_block, 0.0).sum(axis=1) / np.maximum(counts, 1)
    squares = np.where(seen, per_block - means[:, None], 0.0) ** 2
    variances = squares.sum(axis=1) / np.maximum(counts - 1, 1)
    return np.where(counts > 1, np.sqrt(variances / np.maximum(counts, 1)), np.nan), counts


def _from_arms(fitted: Fit, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Own errors of contrasts of many arms with too few complete blocks, from each arm's own variance.

    Their blocks are the arms' mean number of runs, weighted as in the variance and rounded down.
    """
    runs = fitted.seen.sum(axis=1)
    variances = arm_variances(fitted) / np.maximum(runs, 1)
    squares = weights**2
    return np.sqrt(squares @ variances), np.floor(squares @ runs / squares.sum(axis=1) + 1e-9).astype(int)


def pair_weights(pairs: Sequence[tuple[int, int]], k: int) -> np.ndarray:
    """Weights (m, k) of the first arm of each pair minus the second."""
    weights = np.zeros((len(pairs), k))
    if len(pairs):
        rows, (ones, others) = np.arange(len(pairs)), np.transpose(pairs)
        weights[rows, ones], weights[rows, others] = 1.0, -1.0
    return weights
