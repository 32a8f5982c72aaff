"""Per-seed slope plot: from the baseline to the arm, one line a seed, failed runs shown."""

from __future__ import annotations

import math

from reports.figures.curves import SEEDS, height_of, panel_title, panels
from reports.figures.style import VERMILION, axis_label, png, seed_style, sheet
from reports.load import Results, Run


def slopes(results: Results, arms: tuple[str, ...]) -> bytes | None:
    """One panel an arm, its first ten seeds; a run without a value stands as a cross at the worse end.

    None without a finished run.
    """
    arms = [arm for arm in arms if arm != results.baseline]
    values = [value for run in results.all_runs if math.isfinite(value := run.score(results.metric.name))]
    if not arms or not values:
        return None
    low, high = min(values), max(values)
    margin = 0.12 * (high - low or abs(high) or 1.0)
    failed = any(run.failed_by_itself for run in results.all_runs)
    aside = 1.5 * margin * failed  # room for crosses where there are any
    floor = low - aside if results.metric.goal == "max" else high + aside
    with sheet(height_of(len(arms))) as figure:
        for axes, arm in zip(panels(figure, len(arms)), arms, strict=True):
            for index, seed in enumerate(results.seeds[:SEEDS]):
                ends = [results.runs.get((name, seed)) for name in (results.baseline, arm)]
                _line(axes, [_height(run, results.metric.name, floor) for run in ends], ends, index)
            axes.set_title(panel_title(results, arm), loc="left")
            axes.set_xticks([0, 1], [results.baseline, "arm"])
            axes.set_xlim(-0.35, 1.35)
            axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
            axes.set_ylim(min(low, floor) - margin, max(high, floor) + margin)
        figure.supylabel(f"{axis_label(results.metric.label, results.metric.unit)}, final", fontsize=8, x=0.004)
        _legend(figure, results)
        return png(figure)


def _height(run: Run | None, metric: str, floor: float) -> float:
    """Where a run is drawn; NaN if it has no outcome yet."""
    if run is None:
        return math.nan
    return floor if run.failed_by_itself else run.score(metric)


def _line(axes, heights: list[float], ends: list[Run | None], index: int) -> None:
    style = seed_style(index)
    failed = [run is not None and run.failed_by_itself for run in ends]
    aside = 0.08 * (index % 5 - 1)  # so that two failed seeds are two crosses
    places = [x + aside * fails for x, fails in zip((0, 1), failed, strict=True)]
    if any(failed):
        if all(math.isfinite(height) for height in heights):
            axes.plot(places, heights, linewidth=0.8, linestyle=(0, (2, 2)), color=style["color"])
    else:
        axes.plot(places, heights, linewidth=1.2, markersize=3.5, **style)
    for x, height, fails in zip(places, heights, failed, strict=True):
        if fails:
            axes.plot(x, height, marker="x", color=VERMILION, markersize=7, markeredgewidth=2)
        elif math.isfinite(height) and any(failed):
            axes.plot(x, height, markersize=4, **style)


def _legend(figure, results: Results) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], markersize=4, label=f"seed {seed}", **seed_style(index))
        for index, seed in enumerate(results.seeds[:SEEDS])
    ]
    if any(run.failed_by_itself for run in results.all_runs):
        entries.append(
            Line2D([], [], color=VERMILION, marker="x", linestyle="none", markersize=7, markeredgewidth=2,
                   label="failed (no value)")
        )  # fmt: skip
    figure.legend(handles=entries, loc="upper center", ncols=min(len(entries), 7), frameon=False, columnspacing=1.2)
