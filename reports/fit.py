"""Two-way least squares `y ~ arm + seed`: the one model behind every claim of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ZERO = 1e-10  # relative size below which a spread is rounding error of identical values


@dataclass(frozen=True)
class Fit:
    """The fitted model of a (k arms, n seeds) table; NaN in `values` marks a missing cell.

    `effects` (k,) are arm coefficients; only differences of estimable pairs mean something.
    `inverse` (k, k) gives the variance of a contrast w of arms as w' inverse w, in units of sigma
    squared; `island` (k,) numbers the groups of arms that chains of shared seeds join, -1 without
    any cell. `sigma` is the residual sd within blocks, `nu` its degrees of freedom; `sigma` is NaN
    without degrees of freedom and exactly 0 where nothing varies.
    """

    values: np.ndarray
    residuals: np.ndarray
    effects: np.ndarray
    inverse: np.ndarray
    island: np.ndarray
    sigma: float
    nu: int

    @property
    def seen(self) -> np.ndarray:
        """Which cells (k, n) hold a value."""
        return np.isfinite(self.values)

    def difference(self, arm: int, other: int) -> float:
        """Fitted `arm` minus `other`; NaN where no chain of shared seeds joins the two."""
        return float(self.effects[arm] - self.effects[other]) if self.estimable(arm, other) else float("nan")

    def estimable(self, arm: int, other: int) -> bool:
        return bool(self.island[arm] == self.island[other] >= 0)

    def shared(self, arm: int, other: int) -> np.ndarray:
        """Per-seed differences over the blocks that hold both arms."""
        differences = self.values[arm] - self.values[other]
        return differences[np.isfinite(differences)]


def fit(values: np.ndarray, *, block: bool = True) -> Fit:
    """Ordinary least squares of the finite cells of `values` (k arms, n seeds).

    `block=False` leaves the seeds out of the model (`y ~ arm`). Arms are eliminated first, so that
    the cost grows with the number of seeds, not of cells.
    """
    seen = np.isfinite(values)
    runs = seen.sum(axis=1)
    centre = float(values[seen].mean()) if seen.any() else 0.0  # keeps rounding error small beside a large mean
    y = np.where(seen, values - centre, 0.0)
    share = np.divide(seen, runs[:, None], out=np.zeros(seen.shape), where=runs[:, None] > 0)  # (k, n)
    inverse = np.diag(np.divide(1.0, runs, out=np.zeros(len(runs)), where=runs > 0))
    island = _islands(seen, joined=not block)
    effects, blocks = (share * y).sum(axis=1), np.zeros(seen.shape[1])
    rank = int((runs > 0).sum())
    if block:
        reduced = np.diag(seen.sum(axis=0).astype(float)) - seen.T @ share
        inverse_blocks = np.linalg.pinv(reduced, rcond=1e-10, hermitian=True)
        blocks = inverse_blocks @ (y.sum(axis=0) - seen.T @ effects)
        effects = effects - share @ blocks
        inverse = inverse + share @ inverse_blocks @ share.T
        rank += int(seen.any(axis=0).sum()) - len(set(island[island >= 0].tolist()))
    residuals = np.where(seen, y - effects[:, None] - blocks, np.nan)
    nu = int(seen.sum()) - rank
    sigma = float(np.sqrt(np.nansum(residuals**2) / nu)) if nu > 0 else float("nan")
    if sigma <= _ZERO * max(float(np.abs(values[seen]).max(initial=0.0)), 1e-300):
        sigma = 0.0
    return Fit(values, residuals, effects, inverse, island, sigma, nu)


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


def arm_variances(fitted: Fit) -> np.ndarray:
    """Residual variance per arm (k,): Grubbs' estimate, never below the pooled one.

    Grubbs, 1948, https://doi.org/10.1080/01621459.1948.10483261.
    """
    counts = fitted.seen.sum(axis=1)
    k = int((counts > 0).sum())
    pooled = fitted.sigma**2
    squares = np.nansum(fitted.residuals**2, axis=1)
    own = (k * squares / np.maximum(counts - 1, 1) - pooled) / (k - 2) if k > 2 else np.full(len(counts), pooled)
    return np.maximum(pooled, np.where(counts > 1, own, pooled))


def removed_by_pairing(fitted: Fit) -> float:
    """Share of the variance within arms that the seeds explain, in [0, 1]; NaN where undefined."""
    plain = fit(fitted.values, block=False)
    if not plain.sigma > 0 or not np.isfinite(fitted.sigma):
        return float("nan")
    return float(np.clip(1 - fitted.sigma**2 / plain.sigma**2, 0.0, 1.0))
