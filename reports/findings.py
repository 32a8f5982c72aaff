"""What an analysis takes and what it may say: typed records, all on one metric of one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

FAMILIES = ("vs_baseline", "all_pairs", "factor_effects")  # what the confirmatory claims of a study are about


@dataclass(frozen=True)
class FactorPlan:
    """How the arms of a design come from factors: what effects of factors are computed from.

    `levels` maps a factor to its levels, the base's first. `combinations` gives each arm of the table its
    factor -> level, factors at their base level left out. `full` is the combination of the full recipe where the
    design has one. `aliases` groups effects that a fraction can't tell apart (`("a", "b:c")`). `same_as` maps a
    combination whose recipe is another arm's (a setting that is inert beside another) to that arm.
    """

    design: str
    levels: Mapping[str, tuple[str, ...]]
    combinations: Mapping[str, Mapping[str, str]]
    full: Mapping[str, str] | None = None
    resolution: int | None = None
    aliases: tuple[tuple[str, ...], ...] = ()
    same_as: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneScores:
    """Means over the tiles of a scene: `values` (k arms, n seeds, S scenes), NaN where there is none."""

    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class Stopped:
    """An arm that a race stopped: its mean over `after` whole seeds, biased by the stop; no interval, no verdict."""

    arm: str
    after: int
    mean: float | None
    why: str


@dataclass(frozen=True)
class Scores:
    """Final values of one metric: `values` (k arms, n seeds), NaN where no run finished.

    `failed` (k,) counts diverged and collapsed runs, `planned` (k,) all planned ones. The arms
    are distinct recipes; the first is the baseline.
    """

    metric: str
    goal: str  # max or min
    arms: tuple[str, ...]
    seeds: tuple[int | str, ...]
    values: np.ndarray
    failed: np.ndarray
    planned: np.ndarray
    penalty: float | None = None  # what a failed run is worth, on the metric's own scale
    smallest_effect: float | None = None
    family: str = "vs_baseline"
    plan: FactorPlan | None = None
    stopped: Mapping[str, Stopped] = field(default_factory=dict)  # arms that a race ended; not in the fit
    twin: np.ndarray | None = None  # (n,) the baseline again (A/A), NaN where it has no finished run
    scenes: SceneScores | None = None


@dataclass(frozen=True)
class Effect:
    """One arm minus the baseline; None where the data support no such number.

    On a log scale (`Analysis.scale`) differences are natural logarithms of ratios.
    """

    arm: str
    difference: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    verdict: str
    shrunken: float | None
    pairs: int


_BASELINE = Effect("", None, None, None, None, "baseline", None, 0)


@dataclass(frozen=True)
class FactorEffect:
    """A linear contrast of the arms' means; interval and p are simultaneous over all effects of the study's factors.

    `kind` is main (the factor on average over the others), interaction (how much the effect of one changes with the
    other), shapley (the factor's fair share of full minus base), in_full (full minus full without it) or alone (in the
    base). `label` is what tables and figures call it. `detectable` would have been found with 80 % power.
    """

    kind: str
    label: str  # `loss=ssim`, `loss=ssim : norm=spectral`
    factors: tuple[str, ...]
    difference: float
    low: float | None
    high: float | None
    p_adjusted: float | None
    verdict: str
    aliased: tuple[str, ...] = ()  # effects that it can't be told from
    detectable: float | None = None


@dataclass(frozen=True)
class FactorTest:
    """Type II analysis of variance of one term: exploratory. F with `df` and `df_error` degrees of freedom."""

    term: str  # `loss`, `loss : norm`
    f: float
    df: int
    df_error: int
    p: float


@dataclass(frozen=True)
class TwinCheck:
    """The baseline against its A/A twin, which must not differ. `differs` raises the alarm."""

    difference: float
    low: float | None
    high: float | None
    p: float | None
    pairs: int
    differs: bool


@dataclass(frozen=True)
class SceneEffect:
    """One arm minus the baseline with scenes as the units: an interval over scenes (df = scenes - 1)."""

    arm: str
    better_on: int
    scenes: int
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ArmSummary:
    """One arm by itself, on the metric's own scale; `sd` is over seeds."""

    arm: str
    n_ok: int
    n_failed: int
    n_planned: int
    mean: float | None
    sd: float | None
    worst: float | None
    score: float | None  # mean over all outcomes, failed runs at the penalty: what the table is sorted by
    p_best: float | None
    p_beats: float | None
    ranks: tuple[int, int] | None  # 95 % of the posterior


@dataclass(frozen=True)
class Analysis:
    """Everything that may be said about one metric of one study."""

    metric: str
    goal: str
    baseline: str
    scale: str  # raw or log
    alpha: float
    arms: Mapping[str, ArmSummary]  # in the order of the study
    effects: tuple[Effect, ...]  # every arm but the baseline, in the order of the study
    ranking: tuple[str, ...]  # best first; arms without any outcome are left out
    best_set: tuple[str, ...]  # empty below three paired seeds
    blocks: int  # seeds that hold the baseline and at least one other arm
    sigma: float | None  # residual sd within blocks, on the scale of the analysis
    df: int
    detectable: float | None  # difference found with 80 % power, on the scale of the analysis
    removed_by_pairing: float | None
    guard: float | None
    smallest_effect: float | None
    penalty: float | None
    penalty_matters: bool | None  # does half or double the penalty change the order of the table?
    notes: tuple[str, ...] = field(default=())
    family: str = "vs_baseline"  # what the claims are about; the rest is exploratory
    letters: Mapping[str, str] = field(default_factory=dict)  # arms that share one are not separated
    factor_effects: tuple[FactorEffect, ...] = ()
    stopped: Mapping[str, Stopped] = field(default_factory=dict)
    twin: TwinCheck | None = None
    scenes: Mapping[str, SceneEffect] = field(default_factory=dict)
    leader_matters: bool | None = None  # does half or double the penalty change the first of the ranking?
    anova: tuple[FactorTest, ...] = ()

    def effect(self, arm: str) -> Effect | None:
        return next((effect for effect in self.effects if effect.arm == arm), None)

    def to_frame(self) -> pandas.DataFrame:
        """The ranked table: a row per arm, best first, with what is known of it and of its effect."""
        import pandas

        rows = []
        for arm in [*self.ranking, *(arm for arm in self.arms if arm not in self.ranking)]:
            summary, effect = self.arms[arm], self.effect(arm)
            row = asdict(summary) | {key: value for key, value in asdict(effect or _BASELINE).items() if key != "arm"}
            rows.append(row | {"best_set": arm in self.best_set, "letters": self.letters.get(arm, "")})
        return pandas.DataFrame(rows)

    @property
    def k(self) -> int:
        return len(self.arms)
