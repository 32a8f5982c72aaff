"""Guarded block Dunnett: every arm against the baseline with simultaneous intervals.

Dunnett, 1955, https://doi.org/10.1080/01621459.1955.10501294, as the guarded max-t of the
contrasts with one arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.contrasts import ALPHA, Contrast, Family, bare, estimates, pair_weights, simultaneous
from reports.fit import Fit


@dataclass(frozen=True)
class Comparison:
    """One contrast for each arm that can be compared with the baseline, and the family's guard and multiplier."""

    arms: tuple[int, ...]
    family: Family

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        return self.family.contrasts

    @property
    def guard(self) -> float:
        return self.family.guard

    @property
    def critical(self) -> float:
        return self.family.critical

    @property
    def of_arm(self) -> Mapping[int, Contrast]:
        return dict(zip(self.arms, self.contrasts, strict=True))


def against_baseline(fitted: Fit, baseline: int = 0, *, alpha: float = ALPHA, guarded: bool = True) -> Comparison:
    """Simultaneous comparison of every arm that shares a chain of seeds with the baseline."""
    others = tuple(arm for arm in range(len(fitted.values)) if arm != baseline and fitted.estimable(arm, baseline))
    weights = pair_weights([(arm, baseline) for arm in others], len(fitted.values))
    return Comparison(others, simultaneous(fitted, weights, alpha=alpha, guarded=guarded))


def differences_only(fitted: Fit, baseline: int = 0) -> Comparison:
    """The same arms without intervals: for tables that support none, or too few seeds for a claim."""
    others = tuple(arm for arm in range(len(fitted.values)) if arm != baseline and fitted.estimable(arm, baseline))
    return Comparison(
        others, bare(fitted, estimates(fitted, pair_weights([(a, baseline) for a in others], len(fitted.values))))
    )
