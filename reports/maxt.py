"""Distribution of the largest of several correlated t statistics.

Genz and Bretz, 2009, https://doi.org/10.1007/978-3-642-01689-9. Quasi-random draws with a fixed
seed: the same study gives the same bytes, and quantile and p value come from the same draws,
so an interval and its p value cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS = 2**16
_SEED = 20261122


@dataclass(frozen=True)
class MaxT:
    """Sorted draws of the maximum."""

    draws: np.ndarray

    def quantile(self, level: float) -> float:
        return float(self.draws[int(np.ceil(level * len(self.draws))) - 1])

    def p(self, t: float) -> float:
        """Share of draws at least as large as `t`; never below one draw."""
        above = len(self.draws) - int(np.searchsorted(self.draws, t, side="left"))
        return max(above, 1) / len(self.draws)


def max_t(correlation: np.ndarray, nu: int, *, sides: int) -> MaxT:
    """Maximum of |T| (two sides) or of T (one side) with the given correlation (m, m) and df."""
    return _max_t(np.round(correlation, 9).tobytes(), len(correlation), nu, sides)


@lru_cache(maxsize=64)
def _max_t(correlation: bytes, size: int, nu: int, sides: int) -> MaxT:
    from scipy.special import gammaincinv

    matrix = np.frombuffer(correlation).reshape(size, size)
    uniform, normals = _points(size)
    weights, vectors = np.linalg.eigh(matrix)
    statistics = normals @ (vectors * np.sqrt(np.clip(weights, 0, None))).T
    largest = (np.abs(statistics) if sides == 2 else statistics).max(axis=1)
    return MaxT(np.sort(largest / np.sqrt(2 * gammaincinv(nu / 2, uniform) / nu)))


@lru_cache(maxsize=4)
def _points(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniforms (DRAWS,) and standard normals (DRAWS, size) of one scrambled Sobol sequence."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(size + 1, seed=_SEED).random(DRAWS)
    points = np.clip(points, 1e-12, 1 - 1e-12)
    return points[:, 0], ndtri(points[:, 1:])


def student_quantile(level: float, nu: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(nu, level))


def student_p(t: float, nu: int) -> float:
    """Two-sided p of a t statistic."""
    from scipy.special import stdtr

    return float(2 * stdtr(nu, -abs(t)))


def as_correlation(covariance: np.ndarray) -> np.ndarray:
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)
