"""What every section of a report is written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from reports.figures.curves import best_reference, curves, hours
from reports.figures.effects import effects
from reports.figures.forest import forest
from reports.figures.pareto import cost, objectives, pareto
from reports.figures.pictures import Grid, pictures
from reports.figures.search import expected, parallel
from reports.figures.slopes import slopes
from reports.figures.ties import ties
from reports.figures.worst import Worst, worst
from reports.findings import Analysis
from reports.load import PlannedArm, Results, Run
from reports.stability import Stability, stability
from reports.wording import NOTHING, Numbers, code, escape

ROWS, PANELS, FEW = 60, 24, 12  # arms that a table and a figure of small panels hold at most; of more than that, `FEW`

_MEASURES = {"l1": "mae", "perceptual": "lpips"}  # loss term -> the metric that measures the same
_PREDICTORS = {
    "linear_map": "the linear map",
    "mean_colour": "the mean colour",
    "random_partner": "the random partner",
}


@dataclass(frozen=True)
class Page:
    """Results, their analysis, and the figures by file name."""

    results: Results
    analysis: Analysis
    numbers: Numbers
    figures: dict[str, bytes] = field(default_factory=dict)
    grid: Grid | None = None
    worst: Worst | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """All arms: those with an outcome in the order of their score, then the others as planned."""
        rest = [arm.name for arm in self.results.arms if arm.name not in self.analysis.ranking]
        return (*self.analysis.ranking, *rest)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The arms that tables show: all, or of very many the first, the baseline and the last."""
        return excerpt(self.order, ROWS, keep=self.results.baseline)

    @cached_property
    def in_fit(self) -> tuple[str, ...]:
        """The arms of `rows` that stand in the ranking; those that were stopped on the way are a tier of their own."""
        return tuple(arm for arm in self.rows if arm not in self.analysis.stopped)

    @cached_property
    def scored(self) -> tuple[tuple[str, float], ...]:
        """Arms with a score over all outcomes that is not of a run cut short, best first."""
        scores = ((arm, self.analysis.arms[arm].score) for arm in self.order if arm not in self.analysis.stopped)
        return tuple((arm, score) for arm, score in scores if score is not None)

    @cached_property
    def due(self) -> tuple[Run, ...]:
        """The runs that ought to have an outcome: all but those that a race spared."""
        stopped = self.analysis.stopped
        return tuple(run for run in self.results.all_runs
                     if not (run.spared or (run.missing and run.arm in stopped)))  # fmt: skip

    @cached_property
    def lost(self) -> tuple[Run, ...]:
        """Runs without an outcome that ought to have one."""
        return tuple(run for run in self.due if run.missing)

    @cached_property
    def stability(self) -> Stability | None:
        return stability(self.results)

    def place(self, name: str) -> int | None:
        """Rank of an arm, 1 is best; arms with exactly equal scores share it. None without any outcome."""
        if name not in self.analysis.ranking:
            return None
        index = self.analysis.ranking.index(name)
        scores = [self.analysis.arms[arm].score for arm in self.analysis.ranking]
        while index and scores[index] == scores[index - 1]:
            index -= 1
        return index + 1

    def arm(self, name: str) -> PlannedArm:
        return next(arm for arm in self.results.arms if arm.name == name)

    def beaten_by(self, value: float) -> list[str]:
        """Arms whose score over all outcomes is better than `value`."""
        sign = 1 if self.analysis.goal == "max" else -1
        return [arm for arm, score in self.scored if sign * (score - value) > 0]

    @property
    def best_reference(self) -> tuple[str, float] | None:
        return best_reference(self.results)


def compose(results: Results, analysis: Analysis) -> Page:
    """The page of a study with all figures that its data allow."""
    many = len(analysis.ranking) > PANELS
    panels = excerpt(analysis.ranking, FEW if many else PANELS, keep=results.baseline)
    rows = excerpt(analysis.ranking, ROWS, keep=results.baseline)
    restless = stability(results)
    grid, failing = pictures(results, panels), worst(results, panels)
    drawn = {
        "forest.png": forest(results, analysis, rows),
        "ties.png": ties(results, analysis, rows),
        "slopes.png": slopes(results, panels),
        "curves.png": curves(results, panels),
        "effects.png": effects(results, analysis),
        "pareto.png": pareto(results, analysis, restless) if restless else None,
        "parallel.png": parallel(results, analysis),
        "expected.png": expected(results, analysis),
        "objectives.png": objectives(results, analysis),
        "pictures.png": grid.png if grid else None,
        "worst.png": failing.png if failing else None,
        "hours.png": hours(results, panels),
        "cost.png": cost(results, analysis),
    }
    figures = {name: data for name, data in drawn.items() if data}
    return Page(results, analysis, Numbers.of(results.metric, analysis), figures, grid, failing)


def excerpt(arms: Sequence[str], most: int, *, keep: str) -> tuple[str, ...]:
    """`arms` if they are at most `most`; else the first five sixths of that many, `keep`, and the last."""
    if len(arms) <= most:
        return tuple(arms)
    first = most * 5 // 6
    chosen = {*arms[:first], *arms[len(arms) - (most - first - 1) :], keep}
    return tuple(arm for arm in arms if arm in chosen)


def trained_on(arm: PlannedArm) -> set[str]:
    """Metrics that a loss term of the arm optimises, in any stage."""
    return {_MEASURES.get(term, term) for term in arm.terms}


def trained_mark(page: Page, arm: str, metric: str) -> str:
    """A dagger where this arm was trained on the metric and not every arm was."""
    if metric not in trained_on(page.arm(arm)):
        return ""
    return "" if all(metric in trained_on(other) for other in page.results.arms) else " †"


def predictor(name: str) -> str:
    """A reference predictor in a sentence."""
    return _PREDICTORS.get(name) or f"the predictor {escape(name.replace('_', ' '))}"


def change(arm: PlannedArm, arms: Sequence[PlannedArm]) -> str:
    """What the arm changes, in short.

    Options that come or go with a part are left out, unless they come and another of the `arms`
    gives the same option another value.
    """
    if not any(other.differences or other.changes for other in arms):
        return NOTHING
    if not arm.differences:
        return ", ".join(f"{code(factor)}: {code(level)}" for factor, level in arm.changes.items()) or "the base recipe"
    said = []
    for path, (old, new) in arm.differences.items():
        part, _, option = path.rpartition(".")
        elsewhere = [other.differences[path][1] for other in arms if path in other.differences]
        if _follows(arm, path) and (new is None or all(value in (None, new) for value in elsewhere)):
            continue
        title = part.removeprefix("terms.") if option in ("weight", "name") and part else path
        said.append(f"{code(title)}: {show(old)} → {show(new)}")
    return ", ".join(said)


def _follows(arm: PlannedArm, path: str) -> bool:
    """Is this an option that appears or vanishes with its part, which the arm adds, drops or swaps?"""
    part, _, option = path.rpartition(".")
    swapped = f"{part}.name" in arm.differences or None in arm.differences.get(f"{part}.weight", ())
    return swapped and option not in ("name", "weight") and None in arm.differences[path]


def show(value: object) -> str:
    """A recipe value in a few characters; None is a part that is absent."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return code(", ".join(f"{key} {item}" for key, item in value.items()))
    return code(f"{value:g}" if isinstance(value, float) else value)
