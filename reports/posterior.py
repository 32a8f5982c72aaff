"""Shrunken effects, P(best) and rank intervals from a hierarchical model with heavy tails.

m_a ~ N(mu_a, v_a); mu_a ~ 0.8 N(mu, tau^2) + 0.2 mean over j of N(mu, omega_j^2): most arms differ
little, one in five may lie far. Flat priors on mu and tau; v_a scaled by nu / chi2_nu for the
uncertainty of a variance estimated from few seeds.

A normal prior alone learns tau from the crowd of arms that hardly differ, and then explains an arm
that is 4 standard errors away as noise: its effect all but vanishes against the verdict. Student's t
with 4 degrees of freedom does the same, as its scale is tau too. The far part has its own, wide scales
omega_j, from a few standard errors up to the range of the data, so an arm that stands out keeps its effect.

Gelman et al., Bayesian Data Analysis, section 5.4; scale mixtures on a grid after Stephens, 2017,
https://doi.org/10.1093/biostatistics/kxw041; per-arm variances after Grubbs (`reports.fit`).

Where arms stand on two sides (beside the base, beside a full recipe) each side has its own mu, as
arms shrink towards their like; tau and the omegas are common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.fit import Fit, arm_variances

FEWEST_ARMS, FEWEST_SEEDS = 4, 3
FAR = 0.2  # prior share of arms that may lie far from the others
_NEAREST, _WIDEST = 3.0, 30.0  # smallest and at least the largest omega, in standard errors
_SEED, _DRAWS = 5, 6_000
_SCALES, _TAUS, _MUS, _OMEGAS = 8, 32, 49, 5


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


def posterior(fitted: Fit, *, goal: str, baseline: int = 0, sides: np.ndarray | None = None) -> Posterior | None:
    """The posterior, or None where the table is too small for it (4 arms, 3 seeds) or does not vary.

    `sides` (k,) numbers the groups of arms that have a mu each; all are on one side where it is None.
    """
    counts = np.isfinite(fitted.values).sum(axis=1)
    present = np.array([bool(count) and fitted.estimable(arm, baseline) for arm, count in enumerate(counts)])
    if present.sum() < FEWEST_ARMS or counts[baseline] < FEWEST_SEEDS or not fitted.sigma > 0:
        return None
    side = np.zeros(len(counts), int) if sides is None else sides
    side = np.unique(side[present], return_inverse=True)[1]  # a side without a run is none
    model = _Grid.of(fitted.effects[present], arm_variances(fitted)[present] / counts[present], fitted.nu, side)
    return _summary(model, present, sign=1.0 if goal == "max" else -1.0, baseline=baseline)


@dataclass(frozen=True)
class _Grid:
    """The posterior on a grid over the variances' scale (S,), tau (T,) and mu (M,), for k arms, G sides and J omegas.

    `side` (k,) says whose mu is an arm's; `mus` (M, k) are its candidates. `far` (S, M, k, J) are the
    prior-weighted densities of the arms' means under each omega. `weight` (S, T) sums to 1, and so does
    `weight_mu` (S, T, M, G) over M: given tau and the scale, sides are independent.
    """

    means: np.ndarray
    noise: np.ndarray  # (S, k) variances of the means
    side: np.ndarray
    taus: np.ndarray
    mus: np.ndarray
    omegas: np.ndarray
    far: np.ndarray
    weight: np.ndarray
    weight_mu: np.ndarray

    @classmethod
    def of(cls, means: np.ndarray, variances: np.ndarray, nu: int, side: np.ndarray) -> _Grid:
        from scipy.special import gammaincinv

        noise = nu / (2 * gammaincinv(nu / 2, (np.arange(_SCALES) + 0.5) / _SCALES))[:, None] * variances
        error = float(np.sqrt(variances.min()))
        widest = 5 * max(_spread(means, side), error)
        steps = (np.arange(_TAUS) + 0.5) / _TAUS
        taus = widest * steps**2  # dense near 0, never 0: arms that tie exactly would all lose to the first
        groups = [side == number for number in range(side.max() + 1)]
        candidates = np.column_stack([_candidates(means[group], error) for group in groups])  # (M, G)
        mus = candidates[:, side]
        omegas = np.geomspace(_NEAREST * error, max(widest, _WIDEST * error), _OMEGAS)
        squares = (means - mus) ** 2  # (M, k)
        far = FAR / _OMEGAS * _normal(squares[None, :, :, None], noise[:, None, :, None] + omegas**2)
        log_weight = np.empty((_SCALES, _TAUS, _MUS, len(groups)))
        for scale, (spread, away) in enumerate(zip(noise, far.sum(axis=-1), strict=True)):
            near = (1 - FAR) * _normal(squares, spread + taus[:, None, None] ** 2)  # (T, M, k)
            arms = np.log(near + away)
            for number, group in enumerate(groups):
                log_weight[scale, ..., number] = arms[..., group].sum(axis=-1)
        weight = np.exp(log_weight - log_weight.max(axis=(0, 1, 2))) * np.gradient(candidates, axis=0)
        totals = np.maximum(weight.sum(axis=2), 1e-300)
        joint = totals.prod(axis=-1) * steps
        return cls(means, noise, side, taus, mus, omegas, far, joint / joint.sum(), weight / totals[:, :, None])

    def locations(self) -> np.ndarray:
        """Posterior means (k,)."""
        away, total = self.means - self.mus, np.zeros(len(self.means))
        weight = self.weight[:, :, None, None] * self.weight_mu
        for scale, noise in enumerate(self.noise):
            near = (1 - FAR) * _normal(away**2, noise + self.taus[:, None, None] ** 2)  # (T, M, k)
            kept = self.taus[:, None] ** 2 / (self.taus[:, None] ** 2 + noise)  # (T, k)
            far, far_kept = self.far[scale], self.omegas**2 / (self.omegas**2 + noise[:, None])  # (M, k, J), (k, J)
            moved = (near * kept[:, None] + (far * far_kept).sum(axis=-1)) * away / (near + far.sum(axis=-1))
            total += (weight[scale][..., self.side] * (moved + self.mus)).sum(axis=(0, 1))
        return total

    def draws(self) -> np.ndarray:
        """True arm means (_DRAWS, k), from a fixed seed."""
        random = np.random.default_rng(_SEED)
        first = (self.weight[:, :, None] * self.weight_mu[..., 0]).cumsum()
        cell = np.searchsorted(first, (np.arange(_DRAWS) + random.random()) / _DRAWS)
        s, t, m = np.unravel_index(np.minimum(cell, first.size - 1), self.weight_mu.shape[:3])
        chosen = self._candidates_of_sides(s, t, m)
        noise, mu, tau = self.noise[s], self._of_arms([self.mus[row] for row in chosen]), self.taus[t, None]
        near = (1 - FAR) * _normal((self.means - mu) ** 2, noise + tau**2)
        ladder = np.cumsum(self.far, axis=-1)
        far = self._of_arms([ladder[s, row] for row in chosen])
        point = random.random(near.shape) * (near + far[..., -1]) - near  # negative: near
        rung = (point[..., None] > far[..., :-1]).sum(axis=-1)
        scales = np.where(point < 0, tau, self.omegas[rung]) ** 2
        kept = scales / (scales + noise)  # share of an arm's own mean that survives
        return mu + kept * (self.means - mu) + np.sqrt(kept * noise) * random.standard_normal(near.shape)

    def _candidates_of_sides(self, s: np.ndarray, t: np.ndarray, first: np.ndarray) -> list[np.ndarray]:
        """Places (_DRAWS,) of each side's mu among its candidates; the first side's are given."""
        random = np.random.default_rng(_SEED + 1)
        chosen = [first]
        for number in range(1, self.weight_mu.shape[-1]):
            climbs = self.weight_mu[..., number].cumsum(axis=-1)[s, t]  # (_DRAWS, M)
            chosen.append((climbs[:, :-1] < random.random((len(s), 1))).sum(axis=-1))
        return chosen

    def _of_arms(self, of_sides: list[np.ndarray]) -> np.ndarray:
        """Of arrays (_DRAWS, k, ...) one a side, the columns of the arms on that side."""
        whole = of_sides[0]
        for number, other in enumerate(of_sides[1:], start=1):
            whole[:, self.side == number] = other[:, self.side == number]
        return whole


def _spread(means: np.ndarray, side: np.ndarray) -> float:
    """Standard deviation of arms around the mean of their side."""
    counts = np.bincount(side)
    away = means - (np.bincount(side, means) / counts)[side]
    return float(np.sqrt(away @ away / max(len(means) - len(counts), 1)))


def _candidates(means: np.ndarray, error: float) -> np.ndarray:
    """Values of mu (M,), increasing: dense where arms are, whose common centre it is."""
    near = np.sort((means[:, None] + error * np.linspace(-3, 3, 13)).ravel())
    return np.interp(np.linspace(0, len(near) - 1, _MUS), np.arange(len(near)), near)


def _normal(squares: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * squares / variance) / np.sqrt(variance)


def _summary(model: _Grid, present: np.ndarray, *, sign: float, baseline: int) -> Posterior:
    own = int(present[:baseline].sum())
    draws, averages = sign * model.draws(), model.locations()
    order = np.empty(draws.shape, np.int16)
    np.put_along_axis(order, np.argsort(-draws, axis=1), np.arange(1, draws.shape[1] + 1, dtype=np.int16)[None], axis=1)
    ranks = np.sort(order, axis=0, kind="stable")[[round(level * (_DRAWS - 1)) for level in (0.025, 0.975)]]

    def spread(values: np.ndarray) -> np.ndarray:
        whole = np.full(len(present), np.nan)
        whole[present] = values
        return whole

    return Posterior(
        shrunken=spread(averages - averages[own]),
        p_best=spread((order == 1).mean(axis=0)),
        p_beats=spread((draws > draws[:, [own]]).mean(axis=0)),
        rank_low=spread(ranks[0]),
        rank_high=spread(ranks[1]),
    )
