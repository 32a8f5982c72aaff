"""What every section of a report is written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.figures.curves import best_reference, curves
from reports.figures.forest import forest
from reports.figures.pictures import Grid, pictures
from reports.figures.slopes import slopes
from reports.findings import Analysis
from reports.load import PlannedArm, Results
from reports.wording import NOTHING, Numbers, code, escape

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

    @property
    def order(self) -> tuple[str, ...]:
        """All arms: those with an outcome in the order of their score, then the others as planned."""
        rest = [arm.name for arm in self.results.arms if arm.name not in self.analysis.ranking]
        return (*self.analysis.ranking, *rest)

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
        scored = [(arm.arm, arm.score) for arm in self.analysis.arms.values()]
        return [arm for arm, score in scored if score is not None and sign * (score - value) > 0]

    @property
    def best_reference(self) -> tuple[str, float] | None:
        return best_reference(self.results)


def compose(results: Results, analysis: Analysis) -> Page:
    """The page of a study with all figures that its data allow."""
    grid = pictures(results, analysis.ranking)
    drawn = {
        "forest.png": forest(results, analysis),
        "slopes.png": slopes(results, analysis.ranking),
        "curves.png": curves(results, analysis.ranking),
        "pictures.png": grid.png if grid else None,
    }
    figures = {name: data for name, data in drawn.items() if data}
    return Page(results, analysis, Numbers.of(results.metric, analysis), figures, grid)


def trained_on(arm: PlannedArm) -> set[str]:
    """Metrics that a loss term of the arm optimises, in any stage."""
    return {_MEASURES.get(term, term) for term in arm.terms}


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
