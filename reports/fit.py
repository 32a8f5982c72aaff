"""Two-way least squares `y ~ arm + seed`: the one model behind every claim of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ZERO = 1e-10  # relative size below which a spread is rounding error of identical values


@dataclass(frozen=True)
class Fit:
    """The fitted model of a (k arms, n seeds) table; NaN in `values` marks a missing cell.

    `effects` (k,) are arm coefficients; only differences of estimable pairs mean something.
    `inverse` is the generalised inverse of the normal matrix; `island` (k,) numbers the groups of
    arms that chains of shared seeds join, -1 without any cell. `sigma` is the residual sd within
    blocks, `nu` its degrees of freedom; `sigma` is NaN without degrees of freedom and exactly 0
    where nothing varies.
    """

    values: np.ndarray
    residuals: np.ndarray
    effects: np.ndarray
    inverse: np.ndarray
    island: np.ndarray
    sigma: float
    nu: int

    def difference(self, arm: int, other: int) -> float:
        """Fitted `arm` minus `other`; NaN where no chain of shared seeds joins the two."""
        return float(self.effects[arm] - self.effects[other]) if self.estimable(arm, other) else float("nan")

    def estimable(self, arm: int, other: int) -> bool:
        return bool(self.island[arm] == self.island[other] >= 0)

    def contrast(self, arm: int, other: int) -> np.ndarray:
        weights = np.zeros(len(self.inverse))
        weights[arm] += 1.0
        weights[other] -= 1.0
        return weights

    def covariance(self, pairs: list[tuple[int, int]]) -> np.ndarray:
        """Covariance of the pairs' differences in units of sigma squared."""
        contrasts = np.array([self.contrast(*pair) for pair in pairs]).reshape(len(pairs), len(self.inverse))
        return contrasts @ self.inverse @ contrasts.T

    def shared(self, arm: int, other: int) -> np.ndarray:
        """Per-seed differences over the blocks that hold both arms."""
        differences = self.values[arm] - self.values[other]
        return differences[np.isfinite(differences)]

    def own_se(self, arm: int, other: int) -> float:
        """Standard error from this pair's own blocks; NaN below two of them."""
        differences = self.shared(arm, other)
        if len(differences) < 2:
            return float("nan")
        return float(differences.std(ddof=1) / np.sqrt(len(differences)))


def fit(values: np.ndarray, *, block: bool = True) -> Fit:
    """Ordinary least squares of the finite cells of `values` (k arms, n seeds).

    `block=False` leaves the seeds out of the model (`y ~ arm`).
    """
    k, n = values.shape
    arm, seed = np.nonzero(np.isfinite(values))
    y = values[arm, seed]
    design = np.zeros((len(y), k + n * block))
    design[np.arange(len(y)), arm] = 1.0
    if block:
        design[np.arange(len(y)), k + seed] = 1.0
    normal = design.T @ design
    inverse = np.linalg.pinv(normal, hermitian=True)
    centre = y.mean() if len(y) else 0.0  # keeps rounding error small beside a large mean
    coefficients = inverse @ (design.T @ (y - centre))
    rest = y - centre - design @ coefficients
    nu = len(y) - int(np.linalg.matrix_rank(normal, hermitian=True)) if len(y) else 0
    sigma = float(np.sqrt(rest @ rest / nu)) if nu > 0 else float("nan")
    if sigma <= _ZERO * max(np.abs(y).max(initial=0.0), 1e-300):
        sigma = 0.0
    residuals = np.full((k, n), np.nan)
    residuals[arm, seed] = rest
    island = _islands(np.isfinite(values), joined=not block)
    return Fit(values, residuals, coefficients[:k], inverse, island, sigma, nu)


def _islands(seen: np.ndarray, *, joined: bool) -> np.ndarray:
    """Group number of each row of `seen` (k, n): rows that share a column are together."""
    island = np.full(len(seen), -1)
    for start in np.flatnonzero(seen.any(axis=1)):
        if island[start] >= 0:
            continue
        members = seen.any(axis=1) if joined else np.arange(len(seen)) == start
        while (grown := seen[:, seen[members].any(axis=0)].any(axis=1)).sum() > members.sum():
            members = grown
        island[members] = start
    return island


def removed_by_pairing(fitted: Fit) -> float:
    """Share of the variance within arms that the seeds explain, in [0, 1]; NaN where undefined."""
    plain = fit(fitted.values, block=False)
    if not plain.sigma > 0 or not np.isfinite(fitted.sigma):
        return float("nan")
    return float(np.clip(1 - fitted.sigma**2 / plain.sigma**2, 0.0, 1.0))
