"""Do two studies say the same of the arms that they share? Differences of differences, with their errors.

What is compared is each arm's difference from its own study's baseline, so that whatever moved every arm alike
cancels out. Where both studies used the same seeds on the same data, the change is taken seed by seed: the guarded
block Dunnett on the table of changes. Else the errors of both fits add up: Satterthwaite, 1946,
https://doi.org/10.2307/3002019, with the smallest of the contrasts' degrees of freedom for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.dunnett import ALPHA, Comparison, Contrast, against_baseline
from reports.findings import Scores
from reports.fit import Fit, fit
from reports.maxt import as_correlation, max_t, student_p, student_quantile

FEWEST = 3  # seeds from which a claim is made
_NOISY = 1.5  # mean own over pooled variance from which no multiplier may be smaller than a paired t's
DIFFERS, NOT_TOLD_APART, ESTIMATE, NO_VARIATION = "differs", "not told apart", "estimate only", "no variation"


@dataclass(frozen=True)
class Change:
    """One arm's difference from the baseline in the second study minus that in the first.

    On a log scale a change is the logarithm of a ratio of ratios. `low`, `high` and `p_adjusted` are None where the
    runs support no interval.
    """

    arm: str
    change: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    verdict: str


@dataclass(frozen=True)
class Changes:
    """All changes of the common arms, simultaneous at `alpha`; `seeds` are those of a comparison in pairs."""

    paired: bool
    seeds: tuple[int | str, ...]
    changes: tuple[Change, ...]
    baseline: Change  # of the baseline's own mean, with an interval by itself, outside the family
    alpha: float = ALPHA

    @property
    def claimed(self) -> tuple[str, ...]:
        return tuple(change.arm for change in self.changes if change.verdict == DIFFERS)


def changes(first: Scores, second: Scores, *, scale: str, same_data: bool, alpha: float = ALPHA) -> Changes:
    """How the common arms' differences from the baseline changed from the first study to the second.

    Both are on one metric and begin with their baseline; `scale` is raw or log, as both were analysed.
    """
    arms = [arm for arm in first.arms[1:] if arm in second.arms[1:]]
    tables = [_table(scores, arms, scale) for scores in (first, second)]
    seeds = tuple(seed for seed in first.seeds if seed in second.seeds)
    if same_data and len(seeds) >= FEWEST:
        columns = [[scores.seeds.index(seed) for seed in seeds] for scores in (first, second)]
        moved = tables[1][:, columns[1]] - tables[0][:, columns[0]]
        return Changes(True, seeds, _paired(arms, moved, alpha), _of_mean(first.arms[0], moved[0], None, alpha), alpha)
    own = _of_mean(first.arms[0], tables[1][0], tables[0][0], alpha)
    return Changes(False, seeds, _unpaired(arms, fit(tables[0]), fit(tables[1]), alpha), own, alpha)


def _table(scores: Scores, arms: Sequence[str], scale: str) -> np.ndarray:
    """Values (1 + arms, seeds) of the baseline and the given arms, on the scale of the analysis."""
    rows = [0, *(scores.arms.index(arm) for arm in arms)]
    values = np.where(np.isfinite(scores.values[rows]), scores.values[rows], np.nan)
    return np.log(values) if scale == "log" else values


def _of_mean(arm: str, values: np.ndarray, others: np.ndarray | None, alpha: float) -> Change:
    """Mean of `values`, or that less the mean of `others`, by Student's or Welch's t."""
    rows = [row[np.isfinite(row)] for row in (values, others) if row is not None]
    if any(len(row) == 0 for row in rows):
        return Change(arm, None, None, None, None, ESTIMATE)
    change = float(rows[0].mean() - (rows[1].mean() if len(rows) > 1 else 0.0))
    if any(len(row) < FEWEST for row in rows):
        return Change(arm, change, None, None, None, ESTIMATE)
    parts = np.array([row.var(ddof=1) / len(row) for row in rows])
    if not parts.sum() > 0:
        return Change(arm, change, None, None, None, NO_VARIATION)
    se = float(np.sqrt(parts.sum()))
    nu = float(parts.sum() ** 2 / sum(part**2 / (len(row) - 1) for part, row in zip(parts, rows, strict=True)))
    half = student_quantile(1 - alpha / 2, nu) * se
    return _claimed(arm, change, (change - half, change + half, float(student_p(change / se, nu))))


def _paired(arms: Sequence[str], moved: np.ndarray, alpha: float) -> tuple[Change, ...]:
    """From the table of every cell's own change: an arm minus the baseline is the change of their difference."""
    fitted = fit(moved)
    contrasts = _contrasts(fitted, against_baseline(fitted, alpha=alpha))
    sure = _blocks(fitted) >= FEWEST
    return tuple(_of_contrast(arm, contrasts.get(place), sure) for place, arm in enumerate(arms, 1))


def _contrasts(fitted: Fit, compared: Comparison) -> dict[int, Contrast]:
    """Contrasts by the row of their arm."""
    rows = [row for row in range(1, len(fitted.values)) if fitted.estimable(row, 0)]
    return dict(zip(rows, compared.contrasts, strict=True))


def _of_contrast(arm: str, contrast: Contrast | None, sure: bool) -> Change:
    if contrast is None:
        return Change(arm, None, None, None, None, ESTIMATE)
    if contrast.se == 0:
        return Change(arm, contrast.difference, None, None, None, NO_VARIATION)
    if not sure or contrast.pairs < 2 or not math.isfinite(contrast.low):
        return Change(arm, contrast.difference, None, None, None, ESTIMATE)
    return _claimed(arm, contrast.difference, (contrast.low, contrast.high, float(contrast.p_adjusted)))


def _unpaired(arms: Sequence[str], one: Fit, other: Fit, alpha: float) -> tuple[Change, ...]:
    usable = [place for place in range(1, len(arms) + 1) if one.estimable(place, 0) and other.estimable(place, 0)]
    value = {place: other.difference(place, 0) - one.difference(place, 0) for place in usable}
    blocks = min(_blocks(one), _blocks(other))
    if blocks < FEWEST or not (one.sigma > 0 and other.sigma > 0) or not usable:
        return tuple(Change(arm, value.get(place), None, None, None, ESTIMATE) for place, arm in enumerate(arms, 1))
    errors, guard = zip(*(_errors(fitted, usable) for fitted in (one, other)), strict=True)
    se = np.hypot(*errors)
    shares = [errors[0] ** 4 / one.nu, errors[1] ** 4 / other.nu]
    nu = int(np.floor((se**4 / (shares[0] + shares[1])).min()))
    covariance = sum(_covariance(fitted, usable) for fitted in (one, other))
    largest = max_t(as_correlation(covariance), nu, sides=2)
    df = blocks - 1 if max(guard) > _NOISY else None
    intervals = {
        place: _interval(value[place], se[index], largest, df, alpha) for index, place in enumerate(usable)
    }  # fmt: skip
    return tuple(_claimed(arm, value.get(place), intervals.get(place)) for place, arm in enumerate(arms, 1))


def _blocks(fitted: Fit) -> int:
    """Seeds that hold the baseline and another arm."""
    seen = np.isfinite(fitted.values)
    return int((seen[0] & seen[1:].any(axis=0)).sum())


def _errors(fitted: Fit, places: Sequence[int]) -> tuple[np.ndarray, float]:
    """Guarded standard errors of arm minus baseline, and the guard, as in the study's own report."""
    compared = against_baseline(fitted)
    contrasts = _contrasts(fitted, compared)
    return np.array([contrasts[place].se for place in places]), compared.guard


def _covariance(fitted: Fit, places: Sequence[int]) -> np.ndarray:
    """Model covariance (m, m) of arm minus baseline."""
    k = len(fitted.values)
    weights = np.zeros((len(places), k))
    weights[np.arange(len(places)), places], weights[:, 0] = 1.0, -1.0
    return fitted.sigma**2 * weights @ fitted.inverse[:k, :k] @ weights.T


def _interval(value: float, se: float, largest, df: int | None, alpha: float) -> tuple[float, float, float]:
    """Low, high and p by one rule."""
    critical, p = largest.quantile(1 - alpha), float(largest.p(abs(value) / se))
    if df:
        critical = max(critical, student_quantile(1 - alpha / 2, df))
        p = max(p, float(student_p(value / se, df)))
    return value - critical * se, value + critical * se, p


def _claimed(arm: str, value: float | None, interval: tuple[float, float, float] | None) -> Change:
    if interval is None:
        return Change(arm, value, None, None, None, ESTIMATE)
    low, high, p = interval
    return Change(arm, value, low, high, p, DIFFERS if low > 0 or high < 0 else NOT_TOLD_APART)
