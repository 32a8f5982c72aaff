"""Whether a metric can be computed for a study's tiles on this machine, asked before anything runs (no torch).

A metric that needs something says so by a function `unavailable(*, tile, bands)` at its head, made of the reasons
below. Nothing is downloaded for a metric, neither here nor in a run: what a study measures is settled when it is
checked.
"""

from __future__ import annotations

from importlib.util import find_spec

from trainers.families import METRICS
from trainers.weightfiles import WeightsFile, damaged, found, missing


def unavailable(name: str, *, tile: int, bands: int | None = None) -> str | None:
    """Why the metric can't be computed for tiles of that side (px) and number of optical bands; None if it can.

    `bands` is None where it isn't known yet.
    """
    judge = getattr(METRICS.part(name), "unavailable", None)
    return judge(tile=tile, bands=bands) if judge else None


def caution(name: str, *, images: int) -> str | None:
    """What has to be known of a metric over that many images; None for most."""
    say = getattr(METRICS.part(name), "caution", None)
    return say(images) if say else None


def first(*reasons: str | None) -> str | None:
    return next(filter(None, reasons), None)


def too_small(tile: int, smallest: int) -> str | None:
    return None if tile >= smallest else f"it needs tiles of at least {smallest} px; the tile is {tile} px"


def colourless(bands: int | None) -> str | None:
    """Networks that saw photographs read red, green and blue; a single band stands for all three."""
    return "it reads three optical bands (or one as grey); the images have 2" if bands == 2 else None


def without_package(module: str, distribution: str) -> str | None:
    if find_spec(module) is not None:
        return None
    return f"the package {distribution} is not installed: pip install {distribution}"


def without_file(file: WeightsFile) -> str | None:
    path = found(file)
    if path is not None:
        return damaged(path, file)
    return f"{missing(file)} It is published at {file.url} and not downloaded by itself."
