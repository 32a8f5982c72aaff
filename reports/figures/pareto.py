"""Fronts: arms that no other arm beats in quality and in a second thing (stability, or hours of training)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from reports.figures.style import BLUE, GREY, VERMILION, axis_label, png, sheet, short
from reports.findings import Analysis
from reports.load import Results
from reports.scoring import mean_of
from reports.stability import Stability

NAMED = 14  # arms that are named where all are


def pareto(results: Results, analysis: Analysis, stability: Stability) -> bytes | None:
    """Quality against the sd of the last readings; None below three arms with both."""
    unit = f" ({stability.unit})" if stability.unit else ""
    return _front(results, analysis, stability.arms, f"sd of the last readings of {stability.reading}{unit}")


def cost(results: Results, analysis: Analysis) -> bytes | None:
    """Quality against the hours that a finished run takes by itself; None where no times are known."""
    spent = {}
    for arm in results.arms:
        seconds = [run.result.seconds_alone for run in results.of(arm.name) if run.done and run.result]
        if seconds and (mean := statistics.fmean(seconds)) > 0:
            spent[arm.name] = mean / 3600
    return _front(results, analysis, spent, "training of one run (hours)")


def objectives(results: Results, analysis: Analysis) -> bytes | None:
    """The first two objectives of a search against each other; None where it has one."""
    names = [name for name in results.search.get("objectives", ()) if name != results.metric.name]
    second = next((metric for metric in results.also if metric.name in names), None)
    if second is None:
        return None
    sign = 1 if second.goal == "min" else -1
    means = {arm.name: mean_of(results, arm.name, second.name) for arm in results.arms}
    prices = {arm: sign * mean for arm, mean in means.items() if mean is not None}
    return _front(results, analysis, prices, axis_label(second.label, second.unit), sign=sign)


def front(points: Mapping[str, tuple[float, float]], goal: str) -> tuple[str, ...]:
    """Names of the points that no other equals or beats in both: quality by `goal`, second coordinate small."""
    sign = 1 if goal == "max" else -1

    def beaten(name: str) -> bool:
        quality, price = points[name]
        return any(
            sign * (other - quality) >= 0 and less <= price and (other, less) != (quality, price)
            for other, less in points.values()
        )

    return tuple(sorted((name for name in points if not beaten(name)), key=lambda name: (points[name][1], name)))


def _front(
    results: Results, analysis: Analysis, second: Mapping[str, float], label: str, *, sign: int = 1
) -> bytes | None:
    means = {name: arm.mean for name, arm in analysis.arms.items() if arm.mean is not None}
    points = {arm: (means[arm], second[arm]) for arm in means if arm in second}
    if len(points) < 3:
        return None
    best = front(points, analysis.goal)
    points = {name: (quality, sign * price) for name, (quality, price) in points.items()}
    with sheet(3.6, layout="constrained") as figure:
        axes = figure.subplots()
        _line(axes, [points[name] for name in best])
        _draw(axes, [point for name, point in points.items() if name not in best], GREY, "o", "white")
        _draw(axes, [points[name] for name in best], BLUE, "s", BLUE)
        if analysis.baseline in points:
            _draw(axes, [points[analysis.baseline]], VERMILION, "o", "none", size=11)
        _names(axes, points, best, analysis.baseline)
        side = "right" if results.metric.goal == "max" else "left"
        axes.set_xlabel(f"{axis_label(results.metric.label, results.metric.unit)}, mean   (better to the {side})")
        axes.set_ylabel(f"{label}\n({'lower' if sign > 0 else 'higher'} is better)")
        axes.grid(color="#eeeeee", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.12, y=0.1)
        _legend(figure)
        return png(figure)


def _line(axes, points: list[tuple[float, float]]) -> None:
    """From one member of the front to the next, by steps: nothing between them has been run."""
    axes.plot([q for q, _ in points], [p for _, p in points], color=BLUE, linewidth=1, linestyle=(0, (3, 2)),
              drawstyle="steps-pre", zorder=1)  # fmt: skip


def _draw(axes, points: list[tuple[float, float]], colour: str, marker: str, face: str, *, size: float = 6) -> None:
    axes.plot([q for q, _ in points], [p for _, p in points], linestyle="none", marker=marker, color=colour,
              markersize=size, markerfacecolor=face)  # fmt: skip


def _names(axes, points: Mapping[str, tuple[float, float]], best: tuple[str, ...], baseline: str) -> None:
    """All arms where they are few; else those of the front and the baseline."""
    named = points if len(points) <= NAMED else {name: points[name] for name in (*best, baseline) if name in points}
    middle = statistics.median(quality for quality, _ in points.values())
    for place, (name, (quality, price)) in enumerate(sorted(named.items(), key=lambda item: (item[1], item[0]))):
        left = quality > middle
        shift = (-7 if left else 7, 3 if place % 2 else -9)  # neighbours above and below their points
        axes.annotate(short(name, 24), (quality, price), xytext=shift, textcoords="offset points",
                      ha="right" if left else "left", fontsize=7)  # fmt: skip


def _legend(figure) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=BLUE, marker="s", linestyle=(0, (3, 2)), label="not beaten in both"),
        Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="none", label="beaten by another"),
        Line2D([], [], color=VERMILION, marker="o", markerfacecolor="none", markersize=9, linestyle="none",
               label="the baseline"),
    ]  # fmt: skip
    figure.legend(handles=entries, loc="outside upper center", ncols=3, frameon=False)
