"""Forest plot: every arm's difference from the baseline with its simultaneous interval."""

from __future__ import annotations

import math

from reports.figures.style import CLAIM_STYLES, GREY, OTHER_STYLE, axis_label, png, seed_style, sheet, short
from reports.findings import Analysis, Effect
from reports.load import Results

SEEDS = 10  # whose own differences are drawn


def forest(results: Results, analysis: Analysis, arms: tuple[str, ...]) -> bytes | None:
    """The given arms in their order; None where no arm has a difference to show."""
    ranked = [effect for arm in arms if (effect := analysis.effect(arm))]
    shown = [effect for effect in ranked if effect.difference is not None]
    if not shown:
        return None
    with sheet(1.5 + 0.27 * len(ranked), layout="constrained") as figure:
        axes = figure.subplots()
        _mark_detectable(axes, analysis)
        axes.axvline(0, color="black", linewidth=1)
        for row, effect in enumerate(ranked):
            _draw(axes, row, effect)
        for index in range(len(results.seeds[:SEEDS])):
            _draw_seed(axes, index, results, analysis, [effect.arm for effect in ranked])
        _note_failures(axes, analysis, ranked)
        axes.set_yticks(range(len(ranked)), [short(effect.arm, 34) for effect in ranked])
        axes.set_ylim(len(ranked) - 0.35, -0.6)
        axes.set_xlabel(_label(results, analysis))
        if analysis.scale == "log":
            percent_ticks(axes)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        _legend(figure, shown, results, analysis)
        return png(figure)


def percent_ticks(axes) -> None:
    """Round percentages along a log scale."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    steps = MaxNLocator(7).tick_values(100 * math.expm1(low), 100 * math.expm1(high))
    inside = [step for step in steps if step > -100 and low <= math.log1p(step / 100) <= high]
    axes.set_xticks([math.log1p(step / 100) for step in inside], [f"{step:+g} %" for step in inside])
    axes.set_xlim(low, high)


def _draw(axes, row: int, effect: Effect) -> None:
    colour, marker = CLAIM_STYLES.get(effect.verdict, OTHER_STYLE)
    if effect.difference is None:
        axes.text(0, row, " no finished run to compare", va="center", fontsize=7.5, color=GREY)
        return
    if effect.low is not None:
        axes.plot([effect.low, effect.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
    hollow = effect.low is None or effect.verdict not in CLAIM_STYLES
    axes.plot(
        effect.difference, row, marker=marker, color=colour, markersize=6, markerfacecolor="white" if hollow else colour
    )


def _draw_seed(axes, index: int, results: Results, analysis: Analysis, arms: list[str]) -> None:
    """A seed's own differences, below the estimates."""
    worth = math.log if analysis.scale == "log" else float
    at, rows = [], []
    for row, arm in enumerate(arms):
        pair = [results.runs.get((name, results.seeds[index])) for name in (arm, analysis.baseline)]
        scores = [run.score(results.metric.name) if run else math.nan for run in pair]
        if all(map(math.isfinite, scores)):
            at.append(worth(scores[0]) - worth(scores[1]))
            rows.append(row + 0.3)
    axes.plot(at, rows, linestyle="none", markersize=3, **seed_style(index))


def _mark_detectable(axes, analysis: Analysis) -> None:
    if analysis.detectable is None:
        return
    axes.axvspan(-analysis.detectable, analysis.detectable, color="#f0f0f0", zorder=0)
    for side in (-1, 1):
        axes.axvline(side * analysis.detectable, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))


def _note_failures(axes, analysis: Analysis, effects: list[Effect]) -> None:
    for row, effect in enumerate(effects):
        arm = analysis.arms[effect.arm]
        if arm.n_failed:
            text = f"{arm.n_failed} of {arm.n_ok + arm.n_failed} failed"
            axes.annotate(
                text, (1, row), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=7.5, annotation_clip=False,
            )  # fmt: skip


def _label(results: Results, analysis: Analysis) -> str:
    metric = results.metric
    side = "right" if metric.goal == "max" else "left"
    if analysis.scale == "log":
        return f"{metric.label}: change from {analysis.baseline}   (better to the {side})"
    return f"{axis_label(metric.label, metric.unit)}: arm minus {analysis.baseline}   (better to the {side})"


def _legend(figure, shown: list[Effect], results: Results, analysis: Analysis) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for verdict in dict.fromkeys(effect.verdict for effect in shown):
        colour, marker = CLAIM_STYLES.get(verdict, OTHER_STYLE)
        hollow = verdict not in CLAIM_STYLES
        face = "white" if hollow else colour
        entries.append(
            Line2D([], [], color=colour, marker=marker, linestyle="none", markerfacecolor=face, label=verdict)
        )
    if analysis.detectable is not None:
        size = f"{analysis.detectable:.2g}"
        if analysis.scale == "log":
            size = f"{100 * math.expm1(analysis.detectable):.2g} %"
        entries.append(
            Patch(facecolor="#f0f0f0", edgecolor=GREY, linestyle="--",
                  label=f"below the detectable difference ({size}, 80 % power)")
        )  # fmt: skip
    entries += [
        Line2D([], [], linestyle="none", markersize=4, label=f"seed {seed}", **seed_style(index))
        for index, seed in enumerate(results.seeds[:SEEDS])
    ]
    figure.legend(handles=entries, loc="outside upper center", ncols=3, frameon=False)
