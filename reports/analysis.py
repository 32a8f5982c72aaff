"""From a table of scores to effects, verdicts, best set and ranking: the core of every report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from reports.bestset import best_set
from reports.dunnett import ALPHA, Comparison, against_baseline
from reports.failures import penalised
from reports.findings import Analysis, ArmSummary, Effect, Scores
from reports.fit import Fit, fit, removed_by_pairing
from reports.posterior import Posterior, posterior
from reports.power import detectable
from reports.verdicts import NO_COMPARISON, judge

if TYPE_CHECKING:
    import pandas

# Ratios matter for these, not differences; a metric that can be 0 or negative (KID) stays raw.
LOG_METRICS = frozenset({"lpips", "fid", "seconds", "time"})
OUTCOMES = frozenset({"done", "diverged", "collapsed", "stopped", "failed"})


def analyse(
    frame: pandas.DataFrame,
    *,
    metric: str,
    goal: str,
    baseline: str,
    smallest_effect: float | None = None,
    penalty: float | None = None,
) -> Analysis:
    """Analyse anyone's results: one row per run with columns `arm`, `seed`, the metric, perhaps `status`.

    `status` is done, diverged, collapsed, stopped or failed (done where the column is missing).
    Diverged and collapsed runs are outcomes: counted, and worth `penalty` in the ranking if given.
    Raises ValueError for a missing column, an unknown baseline or goal, or a run listed twice.
    """
    if goal not in ("max", "min"):
        raise ValueError(f"goal: {goal!r} is neither 'max' nor 'min'")
    missing = [column for column in ("arm", "seed", metric) if column not in frame.columns]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}; there are {', '.join(map(str, frame.columns))}")
    rows = frame.assign(arm=frame["arm"].astype(str))
    arms = list(dict.fromkeys(rows["arm"]))
    if baseline not in arms:
        raise ValueError(f"baseline: no arm {baseline!r}; there are {', '.join(sorted(arms))}")
    twice = rows[rows.duplicated(["arm", "seed"])]
    if len(twice):
        raise ValueError(f"arm {twice['arm'].iloc[0]!r} with seed {twice['seed'].iloc[0]!r} is listed more than once")
    arms = [baseline, *sorted(arm for arm in arms if arm != baseline)]
    scores = _scores_of_frame(rows, arms, metric=metric, goal=goal, penalty=penalty, smallest_effect=smallest_effect)
    return analyse_scores(scores)


def _scores_of_frame(rows, arms: list[str], *, metric, goal, penalty, smallest_effect) -> Scores:
    status = rows["status"].astype(str) if "status" in rows.columns else rows["arm"].map(lambda _: "done")
    unknown = sorted(set(status) - OUTCOMES)
    if unknown:
        raise ValueError(f"status: {unknown[0]!r} is unknown; there are {', '.join(sorted(OUTCOMES))}")
    seeds = sorted(set(rows["seed"]))
    values, outcome = np.full((len(arms), len(seeds)), np.nan), np.zeros((len(arms), len(seeds)), bool)
    planned = np.zeros(len(arms), int)
    for arm, seed, value, end in zip(rows["arm"], rows["seed"], rows[metric], status, strict=True):
        cell = arms.index(arm), seeds.index(seed)
        planned[cell[0]] += 1
        outcome[cell] = end in ("diverged", "collapsed")
        if end == "done":
            values[cell] = value
    return Scores(
        metric, goal, tuple(arms), tuple(seeds), values, outcome.sum(axis=1), planned, penalty, smallest_effect
    )


def analyse_scores(scores: Scores, *, alpha: float = ALPHA) -> Analysis:
    """The whole protocol on one table; the first arm is the baseline."""
    values = np.where(np.isfinite(scores.values), scores.values, np.nan)
    scores, notes = _with_penalty(scores, values)
    scale, scale_notes = _scale(scores.metric, values)
    fitted = fit(np.log(values) if scale == "log" else values)
    paired = np.isfinite(values[0]) & np.isfinite(values[1:]).any(axis=0)
    blocks = int(paired.sum())
    belief = posterior(fitted, goal=scores.goal) if blocks >= 3 else None
    comparison = against_baseline(fitted, alpha=alpha)
    members = best_set(fitted, goal=scores.goal, alpha=alpha) if blocks >= 3 else ()
    order, matters = _order(scores, values, belief, scale)
    in_fit = int(np.isfinite(values).any(axis=1).sum())
    found = detectable(in_fit, blocks) * fitted.sigma if blocks >= 3 and fitted.sigma > 0 else None
    return Analysis(
        metric=scores.metric,
        goal=scores.goal,
        baseline=scores.arms[0],
        scale=scale,
        alpha=alpha,
        arms={arm: _summary(scores, values, index, belief) for index, arm in enumerate(scores.arms)},
        effects=_effects(scores, comparison, belief, blocks),
        ranking=tuple(scores.arms[index] for index in order),
        best_set=tuple(scores.arms[index] for index in members),
        blocks=blocks,
        sigma=_known(fitted.sigma),
        df=fitted.nu,
        detectable=found,
        removed_by_pairing=_known(removed_by_pairing(fitted)),
        guard=_known(comparison.guard),
        smallest_effect=scores.smallest_effect,
        penalty=scores.penalty,
        penalty_matters=matters,
        notes=notes + scale_notes + _imbalance(fitted, scores.arms),
    )


def _with_penalty(scores: Scores, values: np.ndarray) -> tuple[Scores, tuple[str, ...]]:
    """Where no worth of a failed run is declared, it is worth as little as the worst finished run."""
    if scores.penalty is not None or not scores.failed.any() or not np.isfinite(values).any():
        return scores, ()
    worst = float(np.nanmin(values) if scores.goal == "max" else np.nanmax(values))
    note = "No score was declared for failed runs, or it is unknown: each counts as the worst finished run."
    return replace(scores, penalty=worst), (note,)


def _scale(metric: str, values: np.ndarray) -> tuple[str, tuple[str, ...]]:
    if metric not in LOG_METRICS:
        return "raw", ()
    if (values[np.isfinite(values)] > 0).all():
        return "log", (f"{metric} is analysed on the log scale: a difference of 0.05 is a ratio of about 1.05.",)
    return "raw", (f"{metric} holds values that are not positive, so it is analysed on its own scale, not as ratios.",)


def _imbalance(fitted: Fit, arms: Sequence[str]) -> tuple[str, ...]:
    apart = [arms[index] for index in range(1, len(arms)) if not fitted.estimable(index, 0)]
    seen = [arm for arm in apart if np.isfinite(fitted.values[arms.index(arm)]).any()]
    return (f"No chain of shared seeds joins {', '.join(seen)} to {arms[0]}: not comparable.",) if seen else ()


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _effects(scores: Scores, comparison: Comparison, belief: Posterior | None, blocks: int) -> tuple[Effect, ...]:
    found = {contrast.arm: contrast for contrast in comparison.contrasts}
    effects = []
    for index, arm in enumerate(scores.arms[1:], start=1):
        contrast = found.get(index)
        if contrast is None:
            effects.append(Effect(arm, None, None, None, None, NO_COMPARISON, None, 0))
            continue
        verdict = judge(
            contrast,
            goal=scores.goal,
            blocks=blocks,
            smallest_effect=scores.smallest_effect,
            fails_more=bool(scores.failed[index] > scores.failed[0]),
        )
        sure = blocks >= 3 and contrast.pairs >= 2
        low, high, p = (_known(x) if sure else None for x in (contrast.low, contrast.high, contrast.p_adjusted))
        shrunken = _known(belief.shrunken[index]) if belief else None
        effects.append(Effect(arm, _known(contrast.difference), low, high, p, verdict, shrunken, contrast.pairs))
    return tuple(effects)


def _summary(scores: Scores, values: np.ndarray, index: int, belief: Posterior | None) -> ArmSummary:
    row = values[index][np.isfinite(values[index])]
    failed = int(scores.failed[index])
    mean = float(row.mean()) if len(row) else None
    known = belief is not None and math.isfinite(belief.p_best[index])
    return ArmSummary(
        arm=scores.arms[index],
        n_ok=len(row),
        n_failed=failed,
        n_planned=int(scores.planned[index]),
        mean=mean,
        sd=float(row.std(ddof=1)) if len(row) > 1 else None,
        worst=float(row.min() if scores.goal == "max" else row.max()) if len(row) else None,
        score=penalised(mean, len(row), failed, scores.penalty),
        p_best=float(belief.p_best[index]) if known else None,
        p_beats=float(belief.p_beats[index]) if known and index else None,
        ranks=(int(belief.rank_low[index]), int(belief.rank_high[index])) if known else None,
    )


def _order(scores: Scores, values: np.ndarray, belief: Posterior | None, scale: str) -> tuple[list[int], bool | None]:
    """Arms from best to worst, and whether half or double the penalty would change that order.

    The trained part of an arm's score is its shrunken mean where there is a posterior (an arm
    that cannot be compared keeps its plain mean); failed runs enter unshrunken, at the penalty.
    """
    sign = 1.0 if scores.goal == "max" else -1.0
    plain = [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else None for row in values]
    trained = list(plain)
    if belief is not None:
        base = math.log(plain[0]) if scale == "log" else plain[0]
        shrunken = [base + shift if math.isfinite(shift) else None for shift in belief.shrunken]
        trained = [_unlog(own, scale) if own is not None else mean for own, mean in zip(shrunken, plain, strict=True)]

    def order(penalty: float | None) -> list[int]:
        worth = {}
        for index, mean in enumerate(trained):
            n_ok, failed = int(np.isfinite(values[index]).sum()), int(scores.failed[index])
            score = penalised(mean, n_ok, failed, penalty)
            if score is not None or failed:
                worth[index] = -math.inf if score is None else sign * score
        return sorted(worth, key=lambda index: (-worth[index], index))

    if scores.penalty is None or not scores.failed.any() or plain[0] is None:
        return order(scores.penalty), None
    changed = [order(plain[0] + share * (scores.penalty - plain[0])) for share in (0.5, 2.0)]
    return order(scores.penalty), any(other != order(scores.penalty) for other in changed)


def _unlog(value: float, scale: str) -> float:
    return math.exp(value) if scale == "log" else value
