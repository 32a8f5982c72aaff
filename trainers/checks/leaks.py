"""Leakage between splits: tiles of different splits that show the same ground.

Here: what a leak is, and what scene keys and georeferenced bounds tell. What the pixels tell is in `borders`.
Every method looks at pairs of tiles from different splits only, and gives the same answer for any order of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

SIGNIFICANT = 0.01  # a split leaks when chance explains what was found with a smaller probability than this
CANDIDATES = 1_000_000  # pairs of bounds held at once


@dataclass(frozen=True)
class Tile:
    """One tile of a data set, or one image of it: a unique name, its scene and its split."""

    name: str
    scene: str
    split: str


@dataclass(frozen=True)
class Leak:
    """Two tiles of different splits, `one` before `other` by name, and what says that they share ground.

    `how` is the method's finding in words; `evidence` its numbers, each with the unit in its name.
    """

    method: str
    one: str
    other: str
    splits: tuple[str, str]
    how: str
    evidence: Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """What one method found between the splits.

    `leaks` are the strongest, at most one for each tile and side of it, by name; `found` counts all that the method
    saw. `compared` counts the pairs (of lines, of bounds) that were looked at. A method that can err states
    `expected_false`, the matches that chance gives in such a comparison, and `decoys`, those it gave where
    nothing can be real. `chance` is the probability of `found` or more without any leak: 0 or 1 where nothing is left
    to chance.
    """

    method: str
    leaks: tuple[Leak, ...]
    found: int
    compared: int
    expected_false: float = 0.0
    decoys: int = 0
    chance: float = 1.0

    @property
    def leaking(self) -> bool:
        return self.chance < SIGNIFICANT


@dataclass(frozen=True)
class Footprint:
    """Where an image lies: its CRS, the six numbers (a, b, c, d, e, f) and its shape (rows, columns).

    x = a * column + b * row + c and y = d * column + e * row + f, as in `raster.Image`.
    """

    crs: str
    transform: tuple[float, ...]
    shape: tuple[int, int]


def by_scene(tiles: Sequence[Tile]) -> Finding:
    """Scenes that have tiles in two splits; the tiles named are the first of each split.

    `evidence` counts the scene's tiles in both splits: tiles_one, tiles_other.
    """
    members: dict[str, dict[str, list[str]]] = {}
    for tile in sorted(tiles, key=lambda tile: tile.name):
        members.setdefault(tile.scene, {}).setdefault(tile.split, []).append(tile.name)
    leaks = [
        leak("scene", a[0], b[0], (s, t), f"scene {scene}", tiles_one=len(a), tiles_other=len(b))
        for scene, parts in members.items()
        for (s, a), (t, b) in combinations(sorted(parts.items(), key=lambda part: part[1][0]), 2)
    ]
    return certain("scene", leaks, found=len(leaks), compared=len(members))


def by_bounds(tiles: Sequence[Tile], footprints: Sequence[Footprint | None], *, guard: float) -> Finding:
    """Images that overlap, or whose gap is below `guard` px, across splits; None stands for one without a place.

    Bounds are parallelograms, so rotated grids are exact. The gap is the largest along the normals of their edges
    (for north-up images the larger of the gaps in x and y) in px of the coarser image; `evidence` holds gap_px,
    below 0 where they overlap by that many px. Images of different CRS are not compared.
    """
    order = sorted(range(len(tiles)), key=lambda index: tiles[index].name)
    by_crs: dict[str, list[int]] = {}
    for index in order:
        footprint = footprints[index]
        if footprint is not None:
            by_crs.setdefault(footprint.crs, []).append(index)
    leaks: list[Leak] = []
    found = compared = 0
    for members in by_crs.values():
        near = _near([tiles[i] for i in members], [footprints[i] for i in members], guard)
        found, compared = found + near[0], compared + len(members) * (len(members) - 1) // 2
        for one, other, gap in near[1]:
            a, b = tiles[members[one]], tiles[members[other]]
            how = "bounds overlap" if gap < 0 else "bounds lie within the guard band"
            leaks.append(leak("bounds", a.name, b.name, (a.split, b.split), how, gap_px=round(gap, 3)))
    return certain("bounds", leaks, found=found, compared=compared)


def leak(method: str, one: str, other: str, splits: tuple[str, str], how: str, **evidence: float) -> Leak:
    """A Leak with its tiles in order of their names."""
    if other < one:
        one, other, splits = other, one, splits[::-1]
    return Leak(method, one, other, splits, how, evidence)


def in_order(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    return tuple(sorted(leaks, key=lambda each: (each.one, each.other, each.how)))


def certain(method: str, leaks: Sequence[Leak], *, found: int, compared: int) -> Finding:
    """The Finding of a method that doesn't err: a single leak is enough."""
    return Finding(method, in_order(leaks), found, compared, chance=0.0 if found else 1.0)


def split_codes(tiles: Sequence[Tile]) -> np.ndarray:
    """The split of each tile as a number (N,)."""
    return np.unique([tile.split for tile in tiles], return_inverse=True)[1]


def _near(tiles: Sequence[Tile], footprints: Sequence[Footprint], guard: float):
    """How many pairs are nearer than the guard, and each image's nearest: (one, other, gap in px), one < other."""
    corners, pixels = _corners(footprints), _pixels(footprints)
    codes = split_codes(tiles)
    nearest, partner = np.full(len(tiles), np.inf), np.zeros(len(tiles), int)
    found = 0
    for one, other in _candidates(corners, guard * pixels.max()):
        apart = codes[one] != codes[other]
        one, other = one[apart], other[apart]
        gaps = _gaps(corners[one], corners[other]) / np.maximum(pixels[one], pixels[other])
        gaps = np.round(gaps, 6)  # edges that touch don't overlap by the last bit of a coordinate
        close = (gaps < 0) | (gaps < guard)
        one, other, gaps = one[close], other[close], gaps[close]
        found += len(gaps)
        _keep_nearest(nearest, partner, np.r_[one, other], np.r_[other, one], np.r_[gaps, gaps])
    images = np.flatnonzero(np.isfinite(nearest)).tolist()
    pairs = {(min(i, partner[i]), max(i, partner[i]), float(nearest[i])) for i in images}
    return found, sorted(pairs)


def near_pairs(footprints: Sequence[Footprint | None], guard: float) -> list[tuple[int, int]]:
    """All pairs of images that overlap, or whose gap is below `guard` px, whatever their splits are."""
    by_crs: dict[str, list[int]] = {}
    for index, footprint in enumerate(footprints):
        if footprint is not None:
            by_crs.setdefault(footprint.crs, []).append(index)
    found: list[tuple[int, int]] = []
    for members in by_crs.values():
        chosen = [footprints[index] for index in members]
        corners, pixels = _corners(chosen), _pixels(chosen)
        for one, other in _candidates(corners, guard * pixels.max()):
            gaps = np.round(_gaps(corners[one], corners[other]) / np.maximum(pixels[one], pixels[other]), 6)
            close = (gaps < 0) | (gaps < guard)
            found += [(members[i], members[j]) for i, j in zip(one[close], other[close], strict=True)]
    return found


def _keep_nearest(
    nearest: np.ndarray, partner: np.ndarray, images: np.ndarray, others: np.ndarray, gaps: np.ndarray
) -> None:
    """Lower each image's nearest gap, and set its partner to the first of those at that gap, in place."""
    before = nearest.copy()
    np.minimum.at(nearest, images, gaps)
    partner[nearest < before] = len(partner)
    hits = gaps == nearest[images]
    np.minimum.at(partner, images[hits], others[hits])


def _corners(footprints: Sequence[Footprint]) -> np.ndarray:
    """Corners (N, 4, 2) in map units, round the image."""
    a, b, c, d, e, f = np.array([footprint.transform for footprint in footprints], float).T[:, :, None]
    rows, columns = np.array([footprint.shape for footprint in footprints], float).T[:, :, None]
    row, column = rows * [0, 0, 1, 1], columns * [0, 1, 1, 0]
    return np.stack([a * column + b * row + c, d * column + e * row + f], axis=-1)


def _pixels(footprints: Sequence[Footprint]) -> np.ndarray:
    """Side of a pixel (N,) in map units, the longer one."""
    a, b, _, d, e, _ = np.array([footprint.transform for footprint in footprints], float).T
    return np.maximum(np.hypot(a, d), np.hypot(b, e))


def _candidates(corners: np.ndarray, reach: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs whose boxes come within reach of each other: a sweep along the axis that leaves fewer."""
    low, high = corners.min(axis=1) - reach / 2, corners.max(axis=1) + reach / 2
    sweeps = []
    for axis in (0, 1):
        order = np.argsort(low[:, axis], kind="stable")
        ends = np.searchsorted(low[order, axis], high[order, axis], side="right")
        sweeps.append((int((ends - np.arange(len(order)) - 1).sum()), axis, order, ends))
    _, axis, order, ends = min(sweeps, key=lambda sweep: sweep[0])
    first = np.arange(len(order))
    counts = ends - first - 1
    start = 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(np.cumsum(counts[start:]), CANDIDATES)) + start)
        part = counts[start:stop]
        one = np.repeat(first[start:stop], part)
        other = one + 1 + np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        one, other = order[one], order[other]
        across = 1 - axis
        meet = (low[one, across] <= high[other, across]) & (low[other, across] <= high[one, across])
        yield one[meet], other[meet]
        start = stop


def _gaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Gaps (P,) between parallelograms (P, 4, 2) along the normal that separates them most; below 0: they overlap.

    Separating axis theorem: two convex shapes are apart if and only if they are along a normal of an edge.
    """
    gaps = np.full(len(one), -np.inf)
    for shape in (one, other):
        for edge in (shape[:, 1] - shape[:, 0], shape[:, 3] - shape[:, 0]):
            normal = np.stack([-edge[:, 1], edge[:, 0]], axis=-1) / np.linalg.norm(edge, axis=1, keepdims=True)
            a, b = (np.einsum("pcx,px->pc", corners, normal) for corners in (one, other))
            gap = np.maximum(a.min(axis=1) - b.max(axis=1), b.min(axis=1) - a.max(axis=1))
            gaps = np.maximum(gaps, gap)
    return gaps
