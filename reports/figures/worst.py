"""Where each arm fails: the worst of the tiles whose pictures are kept, with its error map."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reports.figures.pictures import canvas, median_run, place, read_sample
from reports.figures.style import WIDTH, png, sheet, short
from reports.load import Metric, Results, Run

_GAP = 3  # pixels


@dataclass(frozen=True)
class Failing:
    """The tile that is shown of an arm. `overall`: it is the worst of all `scored` tiles, not only of those kept."""

    tile: str
    value: float
    seed: int
    kept: int
    scored: int
    overall: bool


@dataclass(frozen=True)
class Worst:
    """The picture and, by arm, which tile it shows."""

    png: bytes
    tiles: Mapping[str, Failing]


def worst(results: Results, arms: tuple[str, ...]) -> Worst | None:
    """A strip an arm (SAR, truth, generated, error), from its median seed; None without pictures or tile scores."""
    strips, tiles = [], {}
    for arm in arms:
        run = median_run(results, arm)
        found = _failing(run, results.metric) if run else None
        if found:
            place, tiles[arm] = found
            strips.append((f"{short(arm, 26)}: {results.metric.label} {tiles[arm].value:.4g}", _strip(run, place)))
    return Worst(_draw(strips), tiles) if strips else None


def tile_scores(path: Path | None, metric: str) -> dict[str, float]:
    """Tile -> value of the metric; NaN where a tile has no valid pixel. Empty where nothing was kept of them."""
    if path is None:
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return {row["tile"]: float(row[metric]) for row in rows} if metric in (rows.fieldnames or ()) else {}


def _failing(run: Run, metric: Metric) -> tuple[int, Failing] | None:
    """The worst kept tile with a finite score, by its place among the kept."""
    scores = {tile: value for tile, value in tile_scores(run.scores, metric.name).items() if math.isfinite(value)}
    sample = read_sample(run)
    if sample is None:
        return None
    names = [str(name) for name in sample["names"]]
    kept = [name for name in names if name in scores]
    if not kept:
        return None
    pick = min if metric.goal == "max" else max
    tile = pick(kept, key=scores.__getitem__)
    overall = scores[tile] == pick(scores.values())
    return names.index(tile), Failing(tile, scores[tile], run.seed, len(kept), len(scores), overall)


def _strip(run: Run, place: int) -> tuple[np.ndarray, np.ndarray]:
    """The tile as SAR, truth and generated, side by side (H, 3 W + gaps, 3), and its error (H, W) in [0, 1]."""
    sample = read_sample(run)
    sar = np.repeat(sample["sar"][place][..., None], 3, axis=-1)
    real, fake = sample["real"][place], sample["fake"][place]
    gap = np.full((sar.shape[0], _GAP, 3), 255, np.uint8)
    error = np.abs(fake.astype(float) - real.astype(float)).mean(axis=-1) / 255
    return np.concatenate([sar, gap, real, gap, fake], axis=1), error


def _draw(strips: list[tuple[str, tuple[np.ndarray, np.ndarray]]]) -> bytes:
    columns = 2 if len(strips) > 1 else 1
    rows = -(-len(strips) // columns)
    side, title, foot = WIDTH / 8.4, 0.24, 0.5  # inches
    limit = max(float(np.quantile(error, 0.99)) for _, (_, error) in strips) or 1.0  # a cloud would darken the rest
    with sheet(rows * (side + title) + foot) as figure:
        axes = canvas(figure)
        for index, (name, (pictures, error)) in enumerate(strips):
            left, top = (index % columns) * WIDTH * 0.502 + 0.02, (index // columns) * (side + title) + title
            place(axes, pictures, left, top, 3 * side, side)
            shown = place(axes, error, left + 3.04 * side, top, side, side, cmap="cividis", vmin=0, vmax=limit)
            axes.text(left, top - 0.04, name, fontsize=8, va="bottom")
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(figure.get_figheight(), 0)
        _error_scale(figure, shown)
        return png(figure)


def _error_scale(figure, shown) -> None:
    bar = figure.add_axes((0.3, 0.3 / figure.get_figheight(), 0.4, 0.09 / figure.get_figheight()))
    figure.colorbar(shown, cax=bar, orientation="horizontal", extend="max")
    bar.set_xlabel("error: mean absolute difference over bands, share of the full range", fontsize=7, labelpad=1)
    bar.tick_params(labelsize=7, length=2)
