"""Distribution of the largest of several correlated t statistics.

Genz and Bretz, 2009, https://doi.org/10.1007/978-3-642-01689-9. Quasi-random draws with a fixed
seed: the same study gives the same bytes, and quantile and p value come from the same draws,
so an interval and its p value cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

DRAWS, FEWER_DRAWS = 2**16, 2**14
MANY = 64  # dimensions above which fewer draws are made
_COLUMNS = 256  # contrasts whose draws are in memory at a time; above, fewer draws are made
_LARGEST = 4_000  # contrasts above which Bonferroni's bound takes the place of draws
_SEED = 20261122


class Maximum(Protocol):
    """Quantiles and p values of the largest statistic of a family."""

    def quantile(self, level: float) -> float: ...

    def p(self, t: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class MaxT:
    """Sorted draws of the maximum."""

    draws: np.ndarray

    def quantile(self, level: float) -> float:
        return float(self.draws[int(np.ceil(level * len(self.draws))) - 1])

    def p(self, t: np.ndarray) -> np.ndarray:
        """Share of draws at least as large as each `t`; never below one draw."""
        above = len(self.draws) - np.searchsorted(self.draws, t, side="left")
        return np.maximum(above, 1) / len(self.draws)


@dataclass(frozen=True)
class Bonferroni:
    """Bound on the largest of `size` statistics: conservative, for families too large for draws."""

    size: int
    nu: int
    sides: int

    def quantile(self, level: float) -> float:
        return student_quantile(1 - (1 - level) / self.size / self.sides, self.nu)

    def p(self, t: np.ndarray) -> np.ndarray:
        return np.minimum(student_p(t, self.nu) / 2 * self.sides * self.size, 1.0)


def max_t(correlation: np.ndarray, nu: int, *, sides: int) -> MaxT:
    """Maximum of |T| (two sides) or of T (one side) with the given correlation (m, m) and df."""
    return _of_correlation(np.round(correlation, 9).tobytes(), len(correlation), nu, sides)


@lru_cache(maxsize=64)
def _of_correlation(correlation: bytes, size: int, nu: int, sides: int) -> MaxT:
    weights, vectors = np.linalg.eigh(np.frombuffer(correlation).reshape(size, size))
    kept = weights > 1e-7 * weights.max()
    return _draw(vectors[:, kept] * np.sqrt(weights[kept]), nu, sides)


def max_t_of(weights: np.ndarray, covariance: np.ndarray, nu: int, *, sides: int) -> Maximum:
    """Maximum over contrasts `weights` (m, k) of means with `covariance` (k, k) up to a factor; m may exceed k."""
    if len(weights) > _LARGEST:
        return Bonferroni(len(weights), nu, sides)
    return _of_weights(weights.tobytes(), np.round(covariance, 9).tobytes(), len(covariance), nu, sides)


@lru_cache(maxsize=64)
def _of_weights(weights: bytes, covariance: bytes, k: int, nu: int, sides: int) -> MaxT:
    spread, vectors = np.linalg.eigh(np.frombuffer(covariance).reshape(k, k))
    loadings = np.frombuffer(weights).reshape(-1, k) @ (vectors * np.sqrt(np.clip(spread, 0, None)))
    return _draw(loadings / np.linalg.norm(loadings, axis=1, keepdims=True), nu, sides)


def _draw(loadings: np.ndarray, nu: int, sides: int) -> MaxT:
    """Draws for statistics that are `loadings` (m, r) of r independent normals, over one common chi."""
    size, rank = loadings.shape
    draws = DRAWS if rank <= MANY and size <= _COLUMNS else FEWER_DRAWS
    normals = _points(rank, draws)[1]
    largest = np.full(len(normals), -np.inf)
    for start in range(0, len(loadings), _COLUMNS):
        statistics = normals @ loadings[start : start + _COLUMNS].T
        np.maximum(largest, (np.abs(statistics) if sides == 2 else statistics).max(axis=1), out=largest)
    return MaxT(np.sort(largest / _chi(rank, draws, nu)))


@lru_cache(maxsize=256)
def max_t_bound(size: int, correlation: float, nu: int) -> MaxT:
    """One-sided maximum of `size` statistics that all correlate by `correlation` (>= 0).

    An upper bound for any family whose correlations are at least that (Slepian, 1962,
    https://doi.org/10.1002/j.1538-7305.1962.tb02419.x). The maximum of independent normals has the
    distribution Phi^size, so that three dimensions do.
    """
    from scipy.special import ndtr, ndtri

    normals = _points(2, DRAWS)[1]
    largest = ndtri(np.exp(np.log(ndtr(normals[:, 0])) / size))
    statistics = np.sqrt(1 - correlation) * largest + np.sqrt(correlation) * normals[:, 1]
    return MaxT(np.sort(statistics / _chi(2, DRAWS, nu)))


@lru_cache(maxsize=64)
def _chi(size: int, draws: int, nu: int) -> np.ndarray:
    """Draws of chi / sqrt(nu), of the same points."""
    from scipy.special import gammaincinv

    return np.sqrt(2 * gammaincinv(nu / 2, _points(size, draws)[0]) / nu)


@lru_cache(maxsize=4)
def _points(size: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniforms (draws,) and standard normals (draws, size) of one scrambled Sobol sequence."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(size + 1, seed=_SEED).random(draws)
    points = np.clip(points, 1e-12, 1 - 1e-12)
    return points[:, 0], ndtri(points[:, 1:])


def student_quantile(level: float, nu: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(nu, level))


def student_p(t: np.ndarray, nu: np.ndarray | float) -> np.ndarray:
    """Two-sided p of t statistics."""
    from scipy.special import stdtr

    return 2 * stdtr(nu, -np.abs(t))


def as_correlation(covariance: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)
