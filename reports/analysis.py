"""From a table of scores to effects, verdicts, best set and ranking: the core of every report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reports.anova import type_two
from reports.bestset import best_set
from reports.contrasts import ALPHA
from reports.dunnett import Comparison, against_baseline, differences_only
from reports.effects import arm_effects, factor_effects, known
from reports.factors import sides
from reports.failures import penalised
from reports.findings import FAMILIES, Analysis, ArmSummary, Scores
from reports.fit import Fit, fit, removed_by_pairing
from reports.letters import letters
from reports.order import order, with_penalty
from reports.pairs import MOST_ARMS, AllPairs, all_pairs
from reports.posterior import Posterior, posterior
from reports.power import detectable
from reports.scenes import scene_effects
from reports.twin import twin_check

# Ratios matter for these, not differences; a metric that can be 0 or negative (KID) stays raw.
LOG_METRICS = frozenset({"lpips", "fid", "seconds", "time"})
FEWEST_SEEDS = 3  # paired seeds below which no claim is made


def analyse_scores(scores: Scores, *, alpha: float = ALPHA) -> Analysis:
    """The whole protocol on one table; the first arm is the baseline."""
    assert scores.family in FAMILIES, scores.family
    given = replace(scores, values=np.where(np.isfinite(scores.values), scores.values, np.nan))
    scores, notes = with_penalty(given)
    model = _model(scores)
    comparison, pairs, family_notes = _compare(scores, model, alpha)
    members = best_set(model.fitted, goal=scores.goal, alpha=alpha) if model.claims else ()
    found = order(scores, model.belief, model.scale)
    ranking = tuple(scores.arms[index] for index in found.ranking)
    by_factor, factor_notes = factor_effects(scores, model.fitted, model.joint, alpha=alpha)
    if scores.family == "factor_effects" and not by_factor:
        factor_notes = ("No effect of a factor can be estimated from these arms.", *factor_notes)
    twin = twin_check(model.fitted, model.rescaled(scores.twin), alpha=alpha) if scores.twin is not None else None
    return Analysis(
        metric=scores.metric,
        goal=scores.goal,
        baseline=scores.arms[0],
        scale=model.scale,
        alpha=alpha,
        arms={arm: _summary(scores, index, model.belief) for index, arm in enumerate(scores.arms)},
        effects=arm_effects(scores, comparison, model.belief, model.blocks),
        ranking=ranking,
        best_set=tuple(scores.arms[index] for index in members),
        blocks=model.blocks,
        sigma=known(model.fitted.sigma),
        df=model.fitted.nu,
        detectable=_detectable(model, scores.family if pairs else "vs_baseline", alpha),
        removed_by_pairing=known(removed_by_pairing(model.fitted)),
        guard=known(comparison.guard),
        smallest_effect=scores.smallest_effect,
        penalty=scores.penalty,
        penalty_matters=found.penalty_matters,
        notes=notes + model.notes + _imbalance(model.fitted, scores) + family_notes + factor_notes,
        family=scores.family,
        letters=_letters(scores, ranking, pairs),
        factor_effects=by_factor,
        stopped=scores.stopped,
        twin=twin,
        scenes=scene_effects(scores, scale=model.scale, alpha=alpha),
        leader_matters=found.leader_matters,
        anova=type_two(model.fitted.values, scores.arms, scores.plan) if model.joint >= FEWEST_SEEDS else (),
    )


@dataclass(frozen=True)
class Model:
    """The fit and the belief behind an analysis; arms that a race stopped are in neither."""

    fitted: Fit
    belief: Posterior | None
    scale: str
    blocks: int
    notes: tuple[str, ...]

    @property
    def claims(self) -> bool:
        return self.blocks >= FEWEST_SEEDS

    @property
    def joint(self) -> int:
        """Seeds that hold two arms: what effects of factors need, whichever arms lost a run."""
        return int((self.fitted.seen.sum(axis=0) > 1).sum())

    def rescaled(self, values: np.ndarray) -> np.ndarray:
        """Values of the metric on the scale of the analysis; NaN where it has none."""
        return np.log(np.where(values > 0, values, np.nan)) if self.scale == "log" else values


def _model(scores: Scores) -> Model:
    kept = np.array([arm not in scores.stopped for arm in scores.arms])
    values = np.where(kept[:, None], scores.values, np.nan)
    scale, notes = _scale(scores.metric, values)
    fitted = fit(np.log(values) if scale == "log" else values)
    blocks = int((fitted.seen[0] & fitted.seen[1:].any(axis=0)).sum())
    apart = sides(scores.plan, scores.arms)
    belief = posterior(fitted, goal=scores.goal, sides=apart) if blocks >= FEWEST_SEEDS else None
    return Model(fitted, belief, scale, blocks, notes)


def _scale(metric: str, values: np.ndarray) -> tuple[str, tuple[str, ...]]:
    if metric not in LOG_METRICS:
        return "raw", ()
    if (values[np.isfinite(values)] > 0).all():
        return "log", (f"{metric} is analysed on the log scale: a difference of 0.05 is a ratio of about 1.05.",)
    return "raw", (f"{metric} holds values that are not positive, so it is analysed on its own scale, not as ratios.",)


def _compare(scores: Scores, model: Model, alpha: float) -> tuple[Comparison, AllPairs | None, tuple[str, ...]]:
    """Differences from the baseline, all pairs where there are not too many, and what is to be said of the family."""
    fitted = model.fitted
    if not model.claims:
        return differences_only(fitted), None, ()
    joined = [index for index, island in enumerate(fitted.island) if island == fitted.island[0] >= 0]
    pairs = all_pairs(fitted, joined, alpha=alpha) if len(joined) <= MOST_ARMS else None
    if scores.family == "all_pairs" and pairs is not None:
        return pairs.against(0), pairs, ()
    note = f"More than {MOST_ARMS} arms: compared with the baseline only, not in all pairs."
    return against_baseline(fitted, alpha=alpha), pairs, (note,) if scores.family == "all_pairs" else ()


def _letters(scores: Scores, ranking: tuple[str, ...], pairs: AllPairs | None) -> Mapping[str, str]:
    if pairs is None or not pairs.pairs or not np.isfinite(pairs.family.critical):
        return {}
    joined = {scores.arms[arm] for pair in pairs.pairs for arm in pair}
    separated = [(scores.arms[one], scores.arms[other]) for one, other in pairs.separated()]
    return letters([arm for arm in ranking if arm in joined], separated)


def _detectable(model: Model, family: str, alpha: float) -> float | None:
    if not model.claims or not model.fitted.sigma > 0:
        return None
    in_fit = int(model.fitted.seen.any(axis=1).sum())
    return detectable(in_fit, model.blocks, alpha=alpha, family=family) * model.fitted.sigma


def _imbalance(fitted: Fit, scores: Scores) -> tuple[str, ...]:
    apart = [
        index for index in range(1, len(scores.arms)) if not fitted.estimable(index, 0) and fitted.seen[index].any()
    ]
    named = ", ".join(scores.arms[index] for index in apart)
    return (f"No chain of shared seeds joins {named} to {scores.arms[0]}: not comparable.",) if apart else ()


def _summary(scores: Scores, index: int, belief: Posterior | None) -> ArmSummary:
    row = scores.values[index][np.isfinite(scores.values[index])]
    failed = int(scores.failed[index])
    mean = float(row.mean()) if len(row) else None
    believed = belief is not None and bool(np.isfinite(belief.p_best[index]))
    return ArmSummary(
        arm=scores.arms[index],
        n_ok=len(row),
        n_failed=failed,
        n_planned=int(scores.planned[index]),
        mean=mean,
        sd=float(row.std(ddof=1)) if len(row) > 1 else None,
        worst=float(row.min() if scores.goal == "max" else row.max()) if len(row) else None,
        score=penalised(mean, len(row), failed, scores.penalty),
        p_best=float(belief.p_best[index]) if believed else None,
        p_beats=float(belief.p_beats[index]) if believed and index else None,
        ranks=(int(belief.rank_low[index]), int(belief.rank_high[index])) if believed else None,
    )
