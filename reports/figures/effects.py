"""Factor effects with their simultaneous intervals: main effects, interactions and Shapley values."""

from __future__ import annotations

from reports import verdicts
from reports.figures.forest import percent_ticks
from reports.figures.style import BLUE, CLAIM_STYLES, GREY, OTHER_STYLE, axis_label, png, sheet, short
from reports.findings import Analysis, FactorEffect
from reports.load import Results

KINDS = {
    "main": ("main", "s"),
    "interaction": ("interaction", "X"),
    "in_full": ("in full", "v"),
    "alone": ("alone", "^"),
    "shapley": ("Shapley", "D"),
}
MOST = 40


def effects(results: Results, analysis: Analysis) -> bytes | None:
    """A bar an effect from 0, its interval over it; the kinds one below the other. None without effects."""
    shown = [effect for kind in KINDS for effect in analysis.factor_effects if effect.kind == kind][:MOST]
    if not shown:
        return None
    with sheet(1.1 + 0.27 * len(shown), layout="constrained") as figure:
        axes = figure.subplots()
        for row, effect in enumerate(shown):
            _draw(axes, row, effect)
        axes.axvline(0, color="black", linewidth=1)
        axes.set_yticks(range(len(shown)), [f"{short(e.label, 36)}  {KINDS[e.kind][0]}" for e in shown])
        for row in range(1, len(shown)):
            if shown[row].kind != shown[row - 1].kind:
                axes.axhline(row - 0.5, color=GREY, linewidth=0.6)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        _label(axes, results, analysis)
        _legend(figure, shown)
        return png(figure)


def _style(effect: FactorEffect) -> tuple[str, bool]:
    """Colour, and whether the interval excludes 0; an interaction is neither better nor worse."""
    resolved = effect.low is not None and not effect.low <= 0 <= effect.high
    if effect.kind == "interaction":
        return (BLUE if resolved else GREY), resolved
    return CLAIM_STYLES.get(effect.verdict, OTHER_STYLE)[0], resolved


def _draw(axes, row: int, effect: FactorEffect) -> None:
    colour, resolved = _style(effect)
    axes.barh(row, effect.difference, height=0.5, color=colour, alpha=0.35, linewidth=0)
    if effect.low is not None:
        axes.plot([effect.low, effect.high], [row, row], color=colour, linewidth=1.8, solid_capstyle="butt")
    face = colour if resolved else "white"
    axes.plot(effect.difference, row, marker=KINDS[effect.kind][1], color=colour, markersize=6, markerfacecolor=face)


def _label(axes, results: Results, analysis: Analysis) -> None:
    side = "right" if results.metric.goal == "max" else "left"
    if analysis.scale == "log":
        percent_ticks(axes)
        axes.set_xlabel(f"{results.metric.label}: change   (better to the {side})")
    else:
        axes.set_xlabel(f"{axis_label(results.metric.label, results.metric.unit)}: change   (better to the {side})")


def _legend(figure, shown: list[FactorEffect]) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=GREY, marker=marker, linestyle="none", markerfacecolor="white", label=name)
        for kind, (name, marker) in KINDS.items()
        if any(effect.kind == kind for effect in shown)
    ]
    entries.append(Line2D([], [], color=GREY, marker="o", linestyle="none", markerfacecolor="white",
                          label=f"hollow: {verdicts.UNRESOLVED}"))  # fmt: skip
    figure.legend(handles=entries, loc="outside upper center", ncols=4, frameon=False)
