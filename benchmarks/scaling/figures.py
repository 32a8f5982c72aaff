"""Scaling curves as pictures, and the sentence that docs/speed.md says beside each; functions of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from reports.figures.style import BLUE, GREEN, GREY, VERMILION, png, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[Mapping[str, Any]]
HEIGHT = 2.6  # inches
COLOURS = {64: BLUE, 128: GREEN, 256: VERMILION}
MARGINS = {"left": 0.09, "right": 0.98, "bottom": 0.18, "top": 0.9, "wspace": 0.28}


def draw(part: str, points: Points) -> bytes:
    """The figure of a part as a PNG: two panels."""
    with sheet(HEIGHT) as figure:
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(**MARGINS)
        PARTS[part][0](left, right, points)
        for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,g}")  # the style takes no text for mathematics
            axis.set_minor_formatter(lambda value, _: "")
        return png(figure)


def sentence(part: str, points: Points) -> str:
    """What the figure shows."""
    return PARTS[part][1](points)


# -- the driver over the number of trials -------------------------------------------------------------------


def _ways(points: Points) -> dict[str, Points]:
    """The curves by their label, each in the order of trials."""
    ways = {
        "own path": [one for one in points if not one["projected"] and not one["readings"]],
        "with Optuna's storage and MLflow": [one for one in points if one["projected"]],
        "own path, with 50 readings each": [one for one in points if one["readings"] and not one["projected"]],
    }
    return {label: sorted(found, key=lambda one: one["trials"]) for label, found in ways.items() if found}


def _driver(left: Axes, right: Axes, points: Points) -> None:
    for (label, found), colour in zip(_ways(points).items(), (BLUE, VERMILION, GREEN), strict=False):
        trials = [one["trials"] for one in found]
        right.plot(trials, [one["after"] for one in found], "o-", color=colour, label=label, markersize=3.5)
        if not found[0]["readings"]:  # the time to write them is the jobs'
            left.plot(trials, [_milliseconds(one) for one in found], "o-", color=colour, markersize=3.5)
            left.plot(trials, [_of_processor(one) for one in found], "--", color=colour)
    own = [one for one in points if not one["projected"] and not one["readings"]]
    left.plot([one["trials"] for one in own], [1e3 * one["floor"] for one in own], ":", color=GREY, label="bare writes")
    left.set(xscale="log", yscale="log", xlabel="trials of the study", ylabel="ms a trial; dashed: of the processor")
    left.set_ylim(bottom=1)
    left.legend(frameon=False)
    right.set(xscale="log", xlabel="trials of the study", ylabel="driver's memory at the end, MB")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)


def _milliseconds(one: Mapping[str, Any]) -> float:
    return 1e3 * (one["planned"] + one["ran"]) / one["trials"]


def _of_processor(one: Mapping[str, Any]) -> float:
    return 1e3 * one["processor"] / one["trials"]


def _driver_said(points: Points) -> str:
    ways = _ways(points)
    own = ways.pop("own path")
    fewest, most = own[0], own[-1]
    others = [f", {_growth(found):.2g} kB {label.removeprefix('own path, ')}" for label, found in ways.items()]
    return (
        f"Planning, running and folding an empty trial costs the driver {_milliseconds(fewest):.3g} ms in a study of "
        f"{fewest['trials']} trials and {_milliseconds(most):.3g} ms in one of {most['trials']:,}, of these "
        f"{_of_processor(fewest):.2g} and {_of_processor(most):.2g} ms of the processor, while its durable writes "
        f"alone took {1e3 * fewest['floor']:.2g} and {1e3 * most['floor']:.2g} ms; each further trial "
        f"adds {_growth(own):.2g} kB to its memory{''.join(others)}."
    )


def _growth(found: Points) -> float:
    """kB of memory a further trial, between the smallest and the largest study."""
    fewest, most = found[0], found[-1]
    return 1e3 * (most["after"] - fewest["after"]) / (most["trials"] - fewest["trials"])


# -- the driver over the course of a study on many nodes -------------------------------------------------------


def _nodes(left: Axes, right: Axes, points: Points) -> None:
    trials = [one["trials"] for one in points]
    left.plot(trials, [one["milliseconds"] for one in points], "o-", color=BLUE, markersize=3.5)
    right.plot(trials, [one["memory"] for one in points], "o-", color=BLUE, markersize=3.5)
    left.set_ylabel("ms of the processor a trial")
    right.set_ylabel("driver's memory, MB")
    for axes in (left, right):
        axes.set_xlabel("trials that have ended")
        axes.set_ylim(bottom=0)


def _nodes_said(points: Points) -> str:
    half, last = len(points) // 2, points[-1]
    first, second = (_median([one["milliseconds"] for one in part]) for part in (points[:half], points[half:]))
    share = _median([one["share"] for one in points])
    return (
        f"One driver over a scripted cluster of {last['nodes']} nodes: {last['trials']:,} trials, {last['again']} of "
        f"them taken up again after their node was lost or their job pre-empted, cost it {first:.2g} ms of the "
        f"processor each in the first half and {second:.2g} in the second (medians), {share:.2g} % of a core by the "
        f"cluster's clock (trials of a minute), and {points[0]['memory']:.0f} to {last['memory']:.0f} MB. A second "
        f"driver, which took over half-way, found the jobs that ran in {last['came_back']:.2g} s of the processor."
    )


# -- slots ----------------------------------------------------------------------------------------------------


def _slots(left: Axes, right: Axes, points: Points) -> None:
    short = _short(points)
    slots = sorted({one["slots"] for one in short})
    middle = [_median([_an_hour(one) for one in short if one["slots"] == number]) for number in slots]
    left.plot([one["slots"] for one in short], [_an_hour(one) for one in short], "o", color=BLUE, markersize=4)
    left.plot(slots, middle, "-", color=BLUE)
    left.plot(slots, [middle[0] * number / slots[0] for number in slots], "--", color=GREY, label="in proportion")
    left.set(xlabel="trials side by side", ylabel="trials an hour", xticks=slots)
    left.legend(frameon=False)
    for number, colour in zip(slots, (BLUE, VERMILION), strict=False):
        found = [one for one in points if one["slots"] == number]
        right.plot([_length(one) for one in found], [100 * one["share"] for one in found], "o", color=colour,
                   label=f"{number} side by side", markersize=4)  # fmt: skip
    right.set(xscale="log", xlabel="seconds a trial", ylabel="driver, % of one core")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_ylim(bottom=0)


def _short(points: Points) -> Points:
    """Those of the shortest trials, which were made to compare slots."""
    return [one for one in points if one["updates"] == min(other["updates"] for other in points)]


def _an_hour(one: Mapping[str, Any]) -> float:
    return 3600 * one["trials"] / one["seconds"]


def _length(one: Mapping[str, Any]) -> float:
    """Seconds that a trial took."""
    return one["seconds"] * one["slots"] / one["trials"]


def _slots_said(points: Points) -> str:
    short, by_length = _short(points), sorted(points, key=_length)
    alone, both = (_median([_an_hour(one) for one in short if one["slots"] == slots]) for slots in (1, 2))
    shares = [f"{100 * one['share']:.2g} % of one core beside trials of {_length(one):.0f} s"
              for one in (by_length[0], by_length[-1])]  # fmt: skip
    driver, rank = (max(one[key] for one in points) for key in ("driver", "rank"))
    return (
        f"Two trials of one thread side by side end {both / alone:.3g} times as many an hour as one at a time "
        f"({both:,.0f} against {alone:,.0f}); the driver takes {shares[0]} (MLflow is being loaded "
        f"meanwhile), {shares[1]}, and at most {driver:.0f} MB, a rank {rank:.0f} MB."
    )


# -- a step ---------------------------------------------------------------------------------------------------


def _step(left: Axes, right: Axes, points: Points) -> None:
    for tile, found in _by_tile(points).items():
        batches = [one["batch"] for one in found]
        left.plot(batches, [1e3 * one["seconds"] / one["batch"] for one in found], "o-", color=COLOURS.get(tile, GREY),
                  label=f"{tile} px", markersize=3.5)  # fmt: skip
        right.plot(batches, [one["peak"] for one in found], "o-", color=COLOURS.get(tile, GREY), markersize=3.5)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="batch", xticks=sorted({one["batch"] for one in points}))
        axes.minorticks_off()
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    left.set_ylabel("an update, ms an image")
    right.set_ylabel("a rank's memory at most, MB")
    left.legend(frameon=False)


def _by_tile(points: Points) -> dict[int, list[Mapping[str, Any]]]:
    ordered = sorted(points, key=lambda one: (one["tile"], one["batch"]))
    return {tile: list(found) for tile, found in groupby(ordered, key=lambda one: one["tile"])}


def _step_said(points: Points) -> str:
    tiles = _by_tile(points)
    gains = [found[0]["seconds"] / found[0]["batch"] / (found[-1]["seconds"] / found[-1]["batch"])
             for found in tiles.values()]  # fmt: skip
    said = ", ".join(f"{gain:.2g} times at {tile} px" for tile, gain in zip(tiles, gains, strict=True))
    last = next(reversed(tiles.values()))[-1]
    return (
        f"An image costs less in a larger batch: from 1 to {last['batch']} {said} (width {last['width']}, one thread); "
        f"a rank takes {last['peak']:,.0f} MB at {last['tile']} px and batch {last['batch']}."
    )


def _median(values: Sequence[float]) -> float:
    import statistics

    return statistics.median(values)


PARTS = {"driver": (_driver, _driver_said), "nodes": (_nodes, _nodes_said), "slots": (_slots, _slots_said),
         "step": (_step, _step_said)}  # fmt: skip
