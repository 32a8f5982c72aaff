"""Picture grid: fixed validation tiles as SAR, as the truth, and as each arm's median seed draws them."""

from __future__ import annotations

import math
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
    loaded = {arm: read_sample(run) for arm, run in shown.items()}
    first = loaded[next(iter(loaded))]
    grey = np.repeat(first["sar"][..., None], 3, axis=-1)
    strips = [("SAR (input)", grey), ("optical (truth)", first["real"])]
    strips += [(arm, arrays["fake"]) for arm, arrays in loaded.items()]
    names = tuple(str(name) for name in first["names"][:TILES])
    return Grid(_draw(strips), names, {arm: run.seed for arm, run in shown.items()})


def median_run(results: Results, arm: str) -> Run | None:
    """The finished run with the median score (the worse of the two middle ones) that kept pictures."""
    metric = results.metric
    runs = [run for run in results.of(arm) if run.samples and math.isfinite(run.score(metric.name))]
    sign = 1 if metric.goal == "max" else -1
    ordered = sorted(runs, key=lambda run: (sign * run.score(metric.name), run.seed))
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def read_sample(run: Run) -> dict[str, np.ndarray]:
    """The kept tiles: sar (N, H, W), fake and real (N, H, W, 3) uint8, names (N,)."""
    with np.load(run.samples, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in ("sar", "fake", "real", "names")}


def _draw(strips: list[tuple[str, np.ndarray]]) -> bytes:
    columns = 2 if len(strips) <= 8 else 3
    rows = -(-len(strips) // columns)
    tiles = min(TILES, len(strips[0][1]))
    picture, title = WIDTH / columns / tiles, 0.27  # inches
    height = rows * (picture + title)
    margins = {"left": 0.003, "right": 0.997, "top": 1 - title / height, "bottom": 0.003}
    with sheet(height) as figure:
        grid = figure.subplots(
            rows, columns, squeeze=False, gridspec_kw=margins | {"wspace": 0.02, "hspace": title / picture}
        )
        for axes in grid.flat:
            axes.axis("off")
        for axes, (name, images) in zip(grid.flat, strips, strict=False):
            axes.imshow(_side_by_side(images[:tiles]), interpolation="nearest")
            axes.set_title(short(name, 40 // columns + 12), loc="left", fontsize=8, pad=3)
        return png(figure)


def _side_by_side(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) -> (H, N W + gaps, 3) with white gaps."""
    gap = np.full((images.shape[1], _GAP, 3), 255, np.uint8)
    parts = [part for image in images for part in (image, gap)]
    return np.concatenate(parts[:-1], axis=1)
