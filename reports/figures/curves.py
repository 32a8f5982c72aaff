"""Learning curves: the primary metric of every seed of every arm against images seen, or hours of training."""

from __future__ import annotations

import math
from collections.abc import Callable

from reports.figures.style import VERMILION, axis_label, png, seed_style, sheet, short
from reports.load import Results, Run

COLUMNS, SEEDS = 4, 10  # panels in a row, and runs in a panel at most


def panels(figure, count: int):
    """`count` axes in rows of four with common scales; what is left of the last row stays empty."""
    rows, height = -(-count // COLUMNS), height_of(count)
    margins = {"left": 0.07, "right": 0.985, "top": 1 - 0.62 / height, "bottom": 0.52 / height}
    spacing = {"hspace": 0.26, "wspace": 0.08}
    grid = figure.subplots(
        rows, min(count, COLUMNS), sharex=True, sharey=True, squeeze=False, gridspec_kw=margins | spacing
    )
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, count - COLUMNS) : count]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    return grid.flat[:count]


def height_of(count: int) -> float:
    return 1.15 + 1.6 * -(-count // COLUMNS)


def panel_title(results: Results, arm: str) -> str:
    """The arm's name, with the count of runs that failed: crosses may cover each other."""
    runs = results.of(arm)
    failed = sum(run.failed_by_itself for run in runs)
    outcomes = failed + sum(run.done for run in runs)
    return short(arm, 17) + f" · {failed}/{outcomes} failed" if failed else short(arm, 28)


Points = Callable[[Results, Run], tuple[list[float], list[float]]]


def curves(results: Results, arms: tuple[str, ...]) -> bytes | None:
    """One panel an arm in the given order, the baseline's seeds in grey behind; None without data."""
    return _small_panels(results, arms, _by_images, "images that the generator was updated on")


def hours(results: Results, arms: tuple[str, ...]) -> bytes | None:
    """The same curves against hours of training; None where no times are known."""
    if not any(span > 0 for run in results.all_runs for span in run.elapsed.values()):
        return None
    return _small_panels(results, arms, _by_hours, "hours of training")


def _by_images(results: Results, run: Run) -> tuple[list[float], list[float]]:
    rows = _finite(results, run)
    return [images for _, images, _ in rows], [value for *_, value in rows]


def _by_hours(results: Results, run: Run) -> tuple[list[float], list[float]]:
    rows = [row for row in _finite(results, run) if row[0] in run.elapsed]
    return [run.elapsed[step] for step, *_ in rows], [value for *_, value in rows]


def _finite(results: Results, run: Run) -> list[tuple[int, int, float]]:
    return [row for row in run.curve(results.split, results.metric.name) if math.isfinite(row[2])]


def _small_panels(results: Results, arms: tuple[str, ...], points: Points, label: str) -> bytes | None:
    metric, split = results.metric, results.split
    arms = tuple(arm for arm in arms if any(points(results, run)[0] for run in results.of(arm)))
    if not arms:
        return None
    height = height_of(len(arms))
    with sheet(height) as figure:
        limits = _limits(results)
        for axes, arm in zip(panels(figure, len(arms)), arms, strict=True):
            axes.set_ylim(limits)
            for run in results.of(results.baseline)[:SEEDS]:
                axes.plot(*points(results, run), color="#bbbbbb", linewidth=1)
            _reference(axes, results)
            for run in results.of(arm)[:SEEDS]:
                _draw(axes, results, run, points)
            axes.set_title(panel_title(results, arm), loc="left")
            axes.grid(color="#eeeeee", linewidth=0.6)
            axes.locator_params(axis="x", nbins=4)
            axes.margins(x=0.08)
        figure.supxlabel(label, fontsize=8, y=0.08 / height)
        figure.supylabel(f"{axis_label(metric.label, metric.unit)}, {split}", fontsize=8, x=0.004)
        _legend(figure, results)
        return png(figure)


def _limits(results: Results) -> tuple[float | None, float | None]:
    """Scale of the later half of the finished runs: neither a diverged run nor a first reading may flatten the rest."""
    runs = [run for run in results.all_runs if run.done] or results.all_runs
    values = [value for run in runs for value in _late(*_by_images(results, run))]
    best = best_reference(results)
    values += [best[1]] if best else []
    if not values or min(values) == max(values):
        return None, None
    margin = 0.06 * (max(values) - min(values))
    return min(values) - margin, max(values) + margin


def _late(images: list[float], values: list[float]) -> list[float]:
    """The readings of the later half of a run."""
    return [value for seen, value in zip(images, values, strict=True) if 2 * seen >= images[-1]]


def _draw(axes, results: Results, run: Run, points: Points) -> None:
    at, values = points(results, run)
    if not at:
        return
    style = seed_style(results.seeds.index(run.seed))
    axes.plot(at, values, linewidth=1.2, markersize=3, **style)
    if run.failed_by_itself:
        low, high = axes.get_ylim()
        height = min(max(values[-1], low), high)
        axes.plot(at[-1], height, marker="x", color=VERMILION, markersize=8, markeredgewidth=2, clip_on=False)


def best_reference(results: Results) -> tuple[str, float] | None:
    """The strongest predictor without training on the primary metric."""
    metric = results.metric
    known = [(name, row[metric.name]) for name, row in results.references.items() if metric.name in row]
    known = [(name, value) for name, value in known if value == value]
    pick = max if metric.goal == "max" else min
    return pick(known, key=lambda pair: pair[1]) if known else None


def _reference(axes, results: Results) -> None:
    best = best_reference(results)
    if best:
        axes.axhline(best[1], color="black", linewidth=0.9, linestyle=(0, (1, 2)))


def _legend(figure, results: Results) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], markersize=4, label=f"seed {seed}", **seed_style(index))
        for index, seed in enumerate(results.seeds[:SEEDS])
    ]
    entries.append(Line2D([], [], color="#bbbbbb", label=f"{results.baseline}, all seeds"))
    best = best_reference(results)
    if best:
        entries.append(Line2D([], [], color="black", linestyle=(0, (1, 2)), label=best[0].replace("_", " ")))
    if any(run.failed_by_itself for run in results.all_runs):
        entries.append(
            Line2D([], [], color=VERMILION, marker="x", linestyle="none", markersize=7, markeredgewidth=2,
                   label="failed")
        )  # fmt: skip
    figure.legend(handles=entries, loc="upper center", ncols=min(len(entries), 7), frameon=False, columnspacing=1.2)
