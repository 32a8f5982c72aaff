"""A data check in plain words: a table of what there is, what is wrong, and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.datacheck import document
from ablate.datachecked import Checked
from ablate.datafaults import Fault, faults

WIDTH = 110
REFERENCES = (("mean_colour", "mean colour"), ("linear_map", "linear map"), ("random_partner", "random partner"))


def describe(found: Checked) -> str:
    """What `ablate data check` prints."""
    facts = document(found)
    rows = [
        ("data", f"{facts['layout']} {facts['from']}: {_pairs(facts)}".replace(" :", ":")),
        *(("assumed", text) for text in facts["assumed"]),
        ("tiles", _tiles(facts["tiles"])),
        ("scenes", _scenes(facts["scenes"])),
        ("SAR", _domain(facts["domains"]["sar"], _unit(facts["domains"]["sar"]))),
        ("optical", _domain(facts["domains"]["optical"], "")),
        ("nodata", f"{facts['domains']['masked']:.1%} of the pixels"),
        ("grid", _grid(facts["grid"])),
        ("shift", _shift(facts["misregistration"])),
        ("G_L1", _references(facts["references"])),
        ("leaks", _leaks(facts["leaks"], facts["scenes"])),
    ]
    lines = [line for name, text in rows for line in _row(name, text)]
    return "\n".join([*lines, "", *_verdict(list(faults(found)))])


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<9}", subsequent_indent=" " * 9, break_on_hyphens=False)


def _pairs(facts: Mapping[str, Any]) -> str:
    left = facts["dropped"]["counts"]
    said = ", ".join(f"{count} {reason}" for reason, count in left.items())
    return f"{facts['pairs']} pairs" + (f"; left out: {said}" if said else "")


def _tiles(facts: Mapping[str, Any]) -> str:
    dropped = facts["dropped_for_nodata"]
    return f"{facts['whole']} of {facts['side']} px" + (f"; {dropped} dropped for nodata" if dropped else "")


def _scenes(facts: Mapping[str, Any]) -> str:
    if facts["unsplit"]:
        return f"{facts['count']}; no split"
    split = ", ".join(f"{count} {name}" for name, count in facts["splits"].items())
    name, size = next(iter(facts["largest"].items()))
    return f"{facts['count']} ({split}); the largest, {name}, has {size} pairs"


def _unit(facts: Mapping[str, Any]) -> str:
    return "dB" if facts["domain"] != "display" and facts["scale"] == "db" else ""


def _domain(facts: Mapping[str, Any], unit: str) -> str:
    bands = [
        f"{low:g}..{high:g}{' ' + unit if unit else ''} ({share:.1%} outside)"
        for low, high, share in zip(facts["low"], facts["high"], facts["clipped"], strict=True)
    ]
    said = f"{bands[0]} each" if len(bands) > 1 == len(set(bands)) else ", ".join(bands)
    return f"{facts['domain']}, {facts['storage']} values; {said}"


def _grid(facts: Mapping[str, Any]) -> str:
    shapes = ", ".join(f"{count} of {shape}" for shape, count in list(facts["shapes"].items())[:4])
    more = "" if len(facts["shapes"]) <= 4 else f" and {len(facts['shapes']) - 4} other shapes"
    place = f"georeferenced ({', '.join(facts['crs'][:3])})" if facts["georeferenced"] else "not georeferenced"
    resampled = "" if facts["resample"] == "none" else f"; optical resampled where grids differ ({facts['resample']})"
    return f"{shapes}{more} px; {place}{resampled}"


def _shift(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "no pair to measure it on"
    against = f"peak {facts['peak']:.3f}" if facts["peak"] is not None else "no edges"
    if facts["shuffled_peak"] is not None:
        against += f", of shuffled pairs {facts['shuffled_peak']:.3f}"
    if facts["median_dx"] is None:
        return f"{facts['verdict']} ({against})"
    spread = "" if facts["spread"] is None else f", {facts['spread']:.2f} px within a scene"
    return (
        f"{facts['verdict']}: dx {facts['median_dx']:+.2f}, dy {facts['median_dy']:+.2f} px (median), "
        f"{facts['share_beyond_2px']:.0%} beyond 2 px{spread} ({against})"
    )


def _references(facts: Mapping[str, float] | None) -> str:
    if not facts:
        return "no pair to measure references on"
    named = ", ".join(f"{words} {facts[name]:.1f}" for name, words in REFERENCES if name in facts)
    return f"{named}: what predictors without training cost at lambda 100; a generator has to get below"


def _leaks(found: Sequence[Mapping[str, Any]], scenes: Mapping[str, Any]) -> str:
    if scenes["unsplit"]:
        return "not looked for: there is no split"
    methods = ", ".join(f"{one['method']} {one['found']}{' (leaking)' if one['leaking'] else ''}" for one in found)
    return f"between splits by {methods}"


def _verdict(found: Sequence[Fault]) -> list[str]:
    """The closing paragraph."""
    if not found:
        return ["Nothing wrong was found."]
    lines = [f"{len(found)} thing{'s' if len(found) > 1 else ''} to look at:"]
    for number, fault in enumerate(found, start=1):
        said = f"{fault.what}."
        said += f" Cost: {fault.cost}." if fault.cost else ""
        said += f" To do: {fault.remedy}." if fault.remedy else ""
        lines += textwrap.wrap(said, WIDTH, initial_indent=f"{number:>2}. ", subsequent_indent="    ",
                               break_on_hyphens=False, break_long_words=False)  # fmt: skip
    return lines
