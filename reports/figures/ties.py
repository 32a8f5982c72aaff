"""Tie diagram: arms at their means on the metric's own scale; bars join those that cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping

from reports.figures.style import BLUE, GREY, axis_label, png, sheet, short
from reports.findings import Analysis
from reports.load import Results

MOST_BARS = 26
ROW, BAR = 0.2, 0.16  # inches


def ties(results: Results, analysis: Analysis, arms: tuple[str, ...]) -> bytes | None:
    """A dot an arm in the order of its mean, the best at the top; None without letters."""
    means = {arm: analysis.arms[arm].mean for arm in arms if analysis.letters.get(arm)}
    means = {arm: mean for arm, mean in means.items() if mean is not None}
    if len(means) < 2:
        return None
    arms = tuple(sorted(means, key=lambda arm: (means[arm] if analysis.goal == "min" else -means[arm], arm)))
    groups = groups_of(analysis.letters, arms)
    heights = [ROW * len(arms), BAR * max(len(groups), 1) + 0.1]
    with sheet(sum(heights) + 0.75, layout="constrained") as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=heights, gridspec_kw={"hspace": 0})
        _arms(upper, arms, means, analysis)
        _bars(lower, groups, means)
        side = "right" if results.metric.goal == "max" else "left"
        label = axis_label(results.metric.label, results.metric.unit)
        lower.set_xlabel(f"{label}, mean over finished runs   (better to the {side})")
        return png(figure)


def groups_of(letters: Mapping[str, str], arms: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Letter -> arms that bear it, where it joins at least two; in the order of the letters."""
    every = sorted({letter for arm in arms for letter in letters[arm]})
    groups = {letter: tuple(arm for arm in arms if letter in letters[arm]) for letter in every}
    return dict([(letter, members) for letter, members in groups.items() if len(members) > 1][:MOST_BARS])


def _arms(axes, arms: tuple[str, ...], means: Mapping[str, float], analysis: Analysis) -> None:
    for row, arm in enumerate(arms):
        base = arm == analysis.baseline
        axes.plot(means[arm], row, marker="D" if base else "o", color=GREY if base else BLUE, markersize=5)
        axes.annotate(analysis.letters[arm], (means[arm], row), xytext=(7, 0), textcoords="offset points",
                      va="center", fontsize=7)  # fmt: skip
    names = [short(arm, 34) + (" (base)" if arm == analysis.baseline != "base" else "") for arm in arms]
    axes.set_yticks(range(len(arms)), names)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="both", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.08)


def _bars(axes, groups: Mapping[str, tuple[str, ...]], means: Mapping[str, float]) -> None:
    """One bar a letter with a tick at each of its arms: an arm between them without a tick is not of the group."""
    for row, members in enumerate(groups.values()):
        at = sorted(means[arm] for arm in members)
        axes.plot([at[0], at[-1]], [row, row], color="black", linewidth=1.6, solid_capstyle="butt")
        axes.plot(at, [row] * len(at), linestyle="none", marker="|", markersize=6, color="black")
    axes.set_yticks(range(len(groups)), list(groups), fontsize=7)
    axes.set_ylim(max(len(groups), 1) - 0.3, -0.7)
    axes.set_ylabel("joined", fontsize=7.5)
    axes.grid(axis="x", color="#eeeeee", linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
