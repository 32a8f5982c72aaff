"""A search: every sampled recipe across its parameters, and the best score that a budget can expect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.style import BLUE, GREY, VERMILION, axis_label, png, sheet, short
from reports.findings import Analysis
from reports.load import Results
from reports.sampling import INDEPENDENT, Sampled, best_so_far, expected_best, sampled

BEST = 0.1  # share of the recipes that is drawn as the best
_PLATE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}  # so that lines do not cross words
ABSENT = -0.12  # where a parameter that does not apply stands, below its axis


def parallel(results: Results, analysis: Analysis) -> bytes | None:
    """One line a recipe over an axis a parameter, the score at the right; None but for a search of two recipes."""
    recipes = [recipe for recipe in sampled(results, analysis) if recipe.score is not None] if results.search else []
    space = results.search.get("space", {})
    if len(recipes) < 2 or not space:
        return None
    sign = 1 if analysis.goal == "max" else -1
    recipes.sort(key=lambda recipe: (sign * recipe.score, recipe.arm))  # the best are drawn last, on top
    scales = [_scale(space[name], [recipe.values[name] for recipe in recipes]) for name in space]
    best = max(1, round(BEST * len(recipes)))
    with sheet(3.4) as figure:
        axes = figure.add_axes((0.05, 0.24, 0.86, 0.64))
        for place, recipe in enumerate(recipes):
            _draw(axes, recipe, scales, _heights([recipe.score], recipes)[0], best=place >= len(recipes) - best)
        for place, (name, scale) in enumerate(zip(space, scales, strict=True)):
            _axis(axes, place, name, scale)
        _score_axis(axes, len(space), recipes, axis_label(results.metric.label, results.metric.unit))
        axes.set_xlim(-0.25, len(space) + 0.35)
        axes.set_ylim(ABSENT - 0.06, 1.06)
        axes.axis("off")
        _legend(figure, best, len(recipes))
        return png(figure)


Scale = Mapping[str, Any]  # kind (log, linear or levels), low and high, or the levels


def _scale(declared: Any, values: Sequence[Any]) -> Scale:
    """How an axis is laid out: a range by its ends, everything else by its levels."""
    if isinstance(declared, Mapping) and "low" in declared:
        kind = "log" if declared.get("log") and declared["low"] > 0 else "linear"
        return {"kind": kind, "low": float(declared["low"]), "high": float(declared["high"])}
    levels = declared.get("values", ()) if isinstance(declared, Mapping) else declared
    levels = list(levels) or sorted({value for value in values if value is not None}, key=str)
    return {"kind": "levels", "levels": [_text(level) for level in levels]}


def _text(value: Any) -> str:
    """A level as it is compared and shown, however it was written."""
    try:
        return str(value).lower() if isinstance(value, bool) else f"{float(value):g}"
    except (TypeError, ValueError):
        return str(value)


def _height(value: Any, scale: Scale) -> float:
    """Place of a value along its axis, in [0, 1]; `ABSENT` where it does not apply."""
    if value is None:
        return ABSENT
    if scale["kind"] == "levels":
        levels = scale["levels"]
        return levels.index(_text(value)) / max(len(levels) - 1, 1) if _text(value) in levels else ABSENT
    bend = (lambda number: math.log(float(number))) if scale["kind"] == "log" else float
    low, high = bend(scale["low"]), bend(scale["high"])
    return (bend(value) - low) / (high - low) if high > low else 0.5


def _heights(scores: Sequence[float], recipes: Sequence[Sampled]) -> list[float]:
    low, high = (pick(recipe.score for recipe in recipes) for pick in (min, max))
    return [(score - low) / (high - low) if high > low else 0.5 for score in scores]


def _draw(axes, recipe: Sampled, scales: Sequence[Scale], score: float, *, best: bool) -> None:
    heights = [_height(value, scale) for value, scale in zip(recipe.values.values(), scales, strict=True)]
    style = {"color": BLUE, "linewidth": 1.6, "marker": "s", "markersize": 3.5} if best else {
        "color": GREY, "linewidth": 0.6, "alpha": 0.45}  # fmt: skip
    axes.plot(range(len(heights) + 1), [*heights, score], **style)


def _axis(axes, place: int, name: str, scale: Scale) -> None:
    axes.plot([place, place], [0, 1], color="black", linewidth=1)
    if scale["kind"] == "levels":
        count = max(len(scale["levels"]) - 1, 1)
        marks = [(index / count, short(level, 12)) for index, level in enumerate(scale["levels"])]
    else:
        marks = [(0.0, f"{scale['low']:g}"), (1.0, f"{scale['high']:g}")]
    for height, text in marks:
        axes.text(place + 0.03, height, text, fontsize=7, va="center", bbox=_PLATE, zorder=5)
    log = ", log" if scale["kind"] == "log" else ""
    axes.text(place, ABSENT - 0.1 - 0.09 * (place % 2), short(name, 24) + log, fontsize=7.5, ha="center", va="top")


def _score_axis(axes, place: int, recipes: Sequence[Sampled], label: str) -> None:
    axes.plot([place, place], [0, 1], color="black", linewidth=2)
    scores = sorted(recipe.score for recipe in recipes)
    for score in (scores[0], scores[-1]):
        axes.text(place + 0.05, _heights([score], recipes)[0], f"{score:.4g}", fontsize=7, va="center")
    axes.text(place, ABSENT - 0.1 - 0.09 * (place % 2), label, fontsize=7.5, ha="center", va="top", fontweight="bold")


def _legend(figure, best: int, count: int) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=BLUE, linewidth=1.6, marker="s", markersize=3.5, label=f"the best {best} of {count}"),
        Line2D([], [], color=GREY, linewidth=0.8, label="the others"),
    ]
    figure.legend(handles=entries, loc="upper center", ncols=2, frameon=False)


def expected(results: Results, analysis: Analysis) -> bytes | None:
    """Expected best against the number of recipes for independent samples; else the best so far. None but for a search.

    Failed runs count in a recipe's score at their penalty.
    """
    recipes = sampled(results, analysis) if results.search else ()
    scores = [recipe.score for recipe in recipes]
    known = [score for score in scores if score is not None]
    if len(known) < 2:
        return None
    with sheet(3.0, layout="constrained") as figure:
        axes = figure.subplots()
        trials = [place for place, score in enumerate(scores, start=1) if score is not None]
        axes.plot(trials, known, linestyle="none", marker="o", markersize=3.5, color=GREY, markerfacecolor="white",
                  label="each recipe, in the order of sampling")  # fmt: skip
        if results.search.get("sampler") in INDEPENDENT:
            curve, label = expected_best(known, analysis.goal), "expected best of that many recipes"
        else:
            curve, label = best_so_far(scores, analysis.goal), "best so far"
        axes.plot(range(1, len(curve) + 1), curve, color=BLUE, linewidth=1.8, label=label)
        base = analysis.arms[analysis.baseline].score
        if base is not None:
            axes.axhline(base, color=VERMILION, linestyle=(0, (4, 2)), linewidth=1, label=f"{analysis.baseline}")
        axes.set_xlabel(f"sampled recipes, {len(results.seeds)} seed{'s' * (len(results.seeds) > 1)} each")
        axes.set_ylabel(axis_label(results.metric.label, results.metric.unit))
        axes.grid(color="#eeeeee", linewidth=0.6)
        axes.legend(frameon=False, loc="best")
        return png(figure)
