"""Picture grid: fixed validation tiles as SAR, as the truth, and as each arm's median seed draws them."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass

import numpy as np

from reports.figures.style import WIDTH, png, sheet, short
from reports.load import Results, Run

TILES = 3
_GAP = 3  # pixels between tiles of a strip


@dataclass(frozen=True)
class Grid:
    """The picture and what a caption has to say about it."""

    png: bytes
    tiles: tuple[str, ...]
    seeds: dict[str, int]  # arm -> the seed that is shown


def pictures(results: Results, arms: tuple[str, ...]) -> Grid | None:
    """Strips of the first tiles, an arm after the other; None where no finished run kept pictures."""
    shown = {arm: run for arm in arms if (run := median_run(results, arm))}
    if not shown:
        return None
    loaded = {arm: arrays for arm, run in shown.items() if (arrays := read_sample(run))}
    if not loaded:
        return None
    first = loaded[next(iter(loaded))]
    grey = np.repeat(first["sar"][..., None], 3, axis=-1)
    strips = [("SAR (input)", grey), ("optical (truth)", first["real"])]
    strips += [(arm, arrays["fake"]) for arm, arrays in loaded.items()]
    names = tuple(str(name) for name in first["names"][:TILES])
    return Grid(_draw(strips), names, {arm: shown[arm].seed for arm in loaded})


def median_run(results: Results, arm: str) -> Run | None:
    """The finished run with the median score (the worse of the two middle ones) that kept pictures."""
    metric = results.metric
    runs = [run for run in results.of(arm) if run.samples and math.isfinite(run.score(metric.name))]
    sign = 1 if metric.goal == "max" else -1
    ordered = sorted(runs, key=lambda run: (sign * run.score(metric.name), run.seed))
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def read_sample(run: Run) -> dict[str, np.ndarray] | None:
    """The kept tiles: sar (N, H, W), fake and real (N, H, W, 3) uint8, names (N,).

    None where the file is damaged, or holds more than numbers and text.
    """
    try:
        with np.load(run.samples, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in ("sar", "fake", "real", "names")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _draw(strips: list[tuple[str, np.ndarray]]) -> bytes:
    """All strips on one pair of axes in inches: a pair for each would take most of the time of a report."""
    columns = 2 if len(strips) <= 8 else 3
    rows = -(-len(strips) // columns)
    tiles = min(TILES, len(strips[0][1]))
    gap, title = 0.08, 0.25  # inches
    wide = (WIDTH - gap * (columns - 1)) / columns
    high = wide / tiles
    with sheet(rows * (high + title)) as figure:
        axes = canvas(figure)
        for index, (name, images) in enumerate(strips):
            left, top = (index % columns) * (wide + gap), (index // columns) * (high + title) + title
            place(axes, _side_by_side(images[:tiles]), left, top, wide, high)
            axes.text(left, top - 0.05, short(name, 40 // columns + 12), fontsize=8, va="bottom")
        axes.set_xlim(0, WIDTH)  # an image moves the limits
        axes.set_ylim(figure.get_figheight(), 0)
        return png(figure)


def canvas(figure):
    """Axes over the whole sheet, measured in inches from its upper left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, figure.get_figwidth())
    axes.set_ylim(figure.get_figheight(), 0)
    axes.axis("off")
    return axes


def place(axes, image: np.ndarray, left: float, top: float, wide: float, high: float, **options):
    """An image with its upper left corner there, in inches."""
    return axes.imshow(image, extent=(left, left + wide, top + high, top), interpolation="nearest", aspect="auto",
                       **options)  # fmt: skip


def _side_by_side(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) -> (H, N W + gaps, 3) with white gaps."""
    gap = np.full((images.shape[1], _GAP, 3), 255, np.uint8)
    parts = [part for image in images for part in (image, gap)]
    return np.concatenate(parts[:-1], axis=1)
