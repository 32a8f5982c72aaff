"""Estimated contrasts as what may be said of arms and of factors."""

from __future__ import annotations

import math

import numpy as np

from reports.contrasts import Contrast, simultaneous
from reports.dunnett import Comparison
from reports.factors import ALONE, INTERACTION, FactorContrast, factor_contrasts
from reports.findings import Effect, FactorEffect, Scores
from reports.fit import Fit
from reports.posterior import Posterior
from reports.power import detectable_contrasts
from reports.verdicts import NO_COMPARISON, STOPPED, judge, judge_interaction


def known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def arm_effects(scores: Scores, comparison: Comparison, belief: Posterior | None, blocks: int) -> tuple[Effect, ...]:
    """Every arm but the baseline, in the order of the study."""
    found = comparison.of_arm
    return tuple(_effect(scores, index, found.get(index), belief, blocks) for index in range(1, len(scores.arms)))


def _effect(scores: Scores, index: int, contrast: Contrast | None, belief: Posterior | None, blocks: int) -> Effect:
    arm = scores.arms[index]
    if contrast is None:
        return Effect(arm, None, None, None, None, STOPPED if arm in scores.stopped else NO_COMPARISON, None, 0)
    verdict = judge(
        contrast,
        goal=scores.goal,
        blocks=blocks,
        smallest_effect=scores.smallest_effect,
        fails_more=bool(scores.failed[index] > scores.failed[0]),
    )
    shrunken = known(belief.shrunken[index]) if belief else None
    return Effect(arm, known(contrast.difference), *_interval(contrast, blocks), verdict, shrunken, contrast.pairs)


def factor_effects(
    scores: Scores, fitted: Fit, blocks: int, *, alpha: float
) -> tuple[tuple[FactorEffect, ...], tuple[str, ...]]:
    """Effects of the design's factors, simultaneous over all of them, and what of it can't be estimated."""
    plan = scores.plan
    if plan is None or blocks == 0:
        return (), ()
    home = fitted.island[0]
    present = [bool(island == home >= 0) for island in fitted.island]
    named, notes = factor_contrasts(plan, scores.arms, present)
    if all(effect.kind == ALONE for effect in named) and scores.family != "factor_effects":
        return (), notes  # the same differences as the arms'
    weights = np.array([effect.weights for effect in named]).reshape(len(named), len(scores.arms))
    contrasts = simultaneous(fitted, weights, alpha=alpha).contrasts
    found = _detectable(weights, fitted, blocks, alpha)
    effects = [_factor_effect(scores, *each, blocks) for each in zip(named, contrasts, found, strict=True)]
    return tuple(effects), notes


def _factor_effect(
    scores: Scores, named: FactorContrast, contrast: Contrast, detectable: float | None, blocks: int
) -> FactorEffect:
    said = {"goal": scores.goal, "blocks": blocks, "smallest_effect": scores.smallest_effect}
    if named.kind == INTERACTION:
        verdict = judge_interaction(contrast, **said)
    else:
        share = scores.failed / np.maximum(scores.planned, 1)
        verdict = judge(contrast, **said, fails_more=bool(named.weights @ share > 1e-9))
    return FactorEffect(
        named.kind, named.label, named.factors, contrast.difference, *_interval(contrast, blocks), verdict,
        named.aliased, detectable,
    )  # fmt: skip


def _interval(contrast: Contrast, blocks: int) -> tuple[float | None, float | None, float | None]:
    """(low, high, adjusted p), None where too few seeds support them."""
    sure = blocks >= 3 and contrast.pairs >= 2
    low, high, p = (known(x) if sure else None for x in (contrast.low, contrast.high, contrast.p_adjusted))
    return low, high, p


def _detectable(weights: np.ndarray, fitted: Fit, blocks: int, alpha: float) -> list[float | None]:
    if blocks < 3 or not fitted.sigma > 0:
        return [None] * len(weights)
    return [float(size * fitted.sigma) for size in detectable_contrasts(weights, blocks, alpha=alpha)]
