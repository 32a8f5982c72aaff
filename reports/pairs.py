"""All pairs of arms with simultaneous intervals: the guarded max-t in the place of Tukey's range.

Tukey's honest differences, for any correlation: Hothorn, Bretz and Westfall, 2008,
https://doi.org/10.1002/bimj.200810425.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reports.contrasts import ALPHA, Contrast, Family, bare, estimates, family, pair_weights
from reports.dunnett import Comparison
from reports.fit import Fit
from reports.maxt import max_t_of

MOST_ARMS = 90  # beyond, pairs by the thousand say nothing that a table of arms does not


@dataclass(frozen=True)
class AllPairs:
    """`family.contrasts[i]` is the second arm of `pairs[i]` minus the first."""

    pairs: tuple[tuple[int, int], ...]
    family: Family

    def against(self, baseline: int) -> Comparison:
        """The contrasts that hold the baseline, as differences from it, in the order of the arms."""
        mine = [(pair, c) for pair, c in zip(self.pairs, self.family.contrasts, strict=True) if baseline in pair]
        turned = {sum(pair) - baseline: c if pair[0] == baseline else turn(c) for pair, c in mine}
        arms = tuple(sorted(turned))
        contrasts = tuple(turned[arm] for arm in arms)
        return Comparison(arms, Family(contrasts, self.family.guard, self.family.critical))

    def separated(self, *, fewest: int = 2) -> frozenset[tuple[int, int]]:
        """Pairs whose interval excludes 0, with at least so many shared seeds."""
        return frozenset(
            pair
            for pair, contrast in zip(self.pairs, self.family.contrasts, strict=True)
            if contrast.pairs >= fewest and (contrast.low > 0 or contrast.high < 0)
        )


def turn(contrast: Contrast) -> Contrast:
    """The same contrast the other way round."""
    return Contrast(
        contrast.pairs, -contrast.difference, contrast.se, -contrast.high, -contrast.low, contrast.p_adjusted
    )


def all_pairs(fitted: Fit, arms: Sequence[int], *, alpha: float = ALPHA, guarded: bool = True) -> AllPairs:
    """Simultaneous comparison of every two of `arms` that a chain of shared seeds joins.

    The guard of a pair is the larger of its two arms' means over all pairs with that arm: an arm
    noisier than the rest hides in the mean over all pairs.
    """
    pairs = tuple(pair for pair in combinations(arms, 2) if fitted.estimable(*pair))
    weights = pair_weights([(second, first) for first, second in pairs], len(fitted.values))
    found = estimates(fitted, weights)
    if not pairs or not fitted.sigma > 0:
        return AllPairs(pairs, bare(fitted, found))
    largest = max_t_of(weights, fitted.inverse, fitted.nu, sides=2)
    guard = _guards(pairs, found.ratios, len(fitted.values)) if guarded else None
    return AllPairs(pairs, family(found, largest, alpha=alpha, guard=guard))


def _guards(pairs: Sequence[tuple[int, int]], ratios: np.ndarray, k: int) -> np.ndarray:
    """The guard (m,) of each pair."""
    known = np.isfinite(ratios)
    squares = np.where(known, ratios, 0.0) ** 2
    ones, others = np.transpose(pairs)
    sums = np.bincount(ones, squares, k) + np.bincount(others, squares, k)
    counts = np.bincount(ones, known, k) + np.bincount(others, known, k)
    means = np.divide(sums, counts, out=np.ones(k), where=counts > 0)
    return np.maximum(means[ones], means[others])
