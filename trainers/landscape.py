"""The ground of a synthetic scene: land cover, parcels, heights. Pixels are 10 m, as Sentinel-1 and -2 give them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Cover(IntEnum):
    cereal = 0
    maize = 1
    beet = 2
    rape = 3
    meadow = 4
    bare = 5
    forest = 6
    lake = 7
    river = 8
    rough = 9  # wind-roughened open water
    village = 10  # gardens and yards between houses
    house = 11
    road = 12


CROPS = (Cover.cereal, Cover.maize, Cover.beet, Cover.rape, Cover.meadow, Cover.bare)
CROP_SHARES = (0.28, 0.17, 0.13, 0.10, 0.17, 0.15)
WATER = (Cover.lake, Cover.river, Cover.rough)


@dataclass(frozen=True)
class Landscape:
    """Maps (H, W) of one scene.

    `parcels` numbers the areas that share their jitter, `rows` is the ploughing phase in radians, `heights` is in
    px of radar displacement (about 10 m).
    """

    cover: np.ndarray
    parcels: np.ndarray
    rows: np.ndarray
    heights: np.ndarray


def draw_landscape(rng: np.random.Generator, size: int, *, rough: bool = False) -> Landscape:
    """A landscape of `size` px: fields in their own grain and direction, woods, lakes, a river, villages, roads.

    `rough`: the wind is on the lakes. It is a lake district: most 64-px tiles hold both land and water, so that
    networks with instance norm, which forget a tile's level, can learn from one tile what is dark and what bright.
    """
    angle = rng.uniform(0, np.pi)
    grain = rng.uniform(12, 24)  # px across a field
    y, x = np.mgrid[:size, :size].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    parcels = _parcels(rng, along / rng.uniform(1.3, 2.2), across, grain)
    shares = np.array(CROP_SHARES) * rng.uniform(0.6, 1.4, len(CROPS))
    crops = rng.choice(len(CROPS), size=parcels.max() + 1, p=shares / shares.sum()).astype(np.uint8)
    cover = np.array(CROPS, np.uint8)[crops][parcels]
    wild = smooth_noise(rng, size, scale=rng.uniform(7, 11))
    cover[wild > np.quantile(wild, 1 - rng.uniform(0.07, 0.16))] = Cover.forest
    heights = np.where(cover == Cover.forest, 2.0, 0.0).astype(np.float32)
    _draw_roads(rng, cover, heights, along, across)
    for _ in range(max(1, round((size / 192) ** 2 * rng.uniform(0.6, 2.4)))):
        _draw_village(rng, cover, heights, along, across, size)
    _draw_lakes(rng, cover, heights, size, Cover.rough if rough else Cover.lake)
    if rng.random() < 0.6:
        _draw_river(rng, cover, heights, along, across, size)
    return Landscape(cover, parcels, across * rng.uniform(1.2, 1.8), heights)


def smooth_noise(rng: np.random.Generator, size: int, *, scale: float) -> np.ndarray:
    """Gaussian noise (size, size) with unit variance and structures of about `scale` px."""
    from scipy import ndimage

    coarse = max(1, int(scale // 3))  # smooth at low resolution: the same field for a tenth of the time
    cells = size // coarse + 6
    field = ndimage.gaussian_filter(rng.standard_normal((cells, cells), np.float32), scale / coarse, mode="wrap")
    field = ndimage.zoom(field, coarse, order=1)[:size, :size] if coarse > 1 else field[:size, :size]
    return (field - field.mean()) / field.std()


def _parcels(rng: np.random.Generator, along: np.ndarray, across: np.ndarray, grain: float) -> np.ndarray:
    """Voronoi cells of a jittered grid in field coordinates: number of the cell of each pixel."""
    from scipy.spatial import cKDTree

    points = np.stack([along.ravel(), across.ravel()], 1) / grain
    low, high = np.floor(points.min(0)).astype(int) - 1, np.ceil(points.max(0)).astype(int) + 1
    seeds = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij"), -1)
    seeds = seeds.reshape(-1, 2) + rng.uniform(-0.35, 0.35, (seeds.shape[0] * seeds.shape[1], 2))
    return cKDTree(seeds).query(points, k=1, p=np.inf)[1].reshape(along.shape).astype(np.int32)


def _draw_roads(rng, cover, heights, along, across) -> None:
    for axis, bend in ((along, across), (across, along)):
        middle = rng.uniform(axis.min(), axis.max())
        road = np.abs(axis - middle - 4 * np.sin(bend / rng.uniform(20, 40))) < 1.0
        cover[road], heights[road] = Cover.road, 0


def _draw_village(rng, cover, heights, along, across, size) -> None:
    """Streets on a grid along the fields, houses of 3 to 6 px beside them."""
    row, col = rng.integers(size // 8, size - size // 8, 2)
    middle_along, middle_across = along[row, col], across[row, col]
    u, v = along - middle_along, across - middle_across
    radius = rng.uniform(14, 26)
    inside = u**2 + (v * rng.uniform(0.8, 1.4)) ** 2 < radius**2
    cover[inside], heights[inside] = Cover.village, 0
    block = rng.uniform(9, 12)
    within_u, within_v = np.mod(u, block), np.mod(v, block)
    cell = (np.floor(u / block) + 50 * np.floor(v / block)).astype(int) % 997
    length, width = (rng.uniform(3.0, 6.0, 997) for _ in range(2))
    house = inside & (within_u > 2.5) & (within_v > 2.5) & (within_u < 2.5 + length[cell])
    house &= within_v < 2.5 + width[cell]
    street = inside & ((within_u < 1.2) | (within_v < 1.2))
    cover[street] = Cover.road
    cover[house] = Cover.house
    heights[house] = rng.uniform(1.5, 3.5, 997)[cell][house]


def _draw_lakes(rng, cover, heights, size, water) -> None:
    shore = smooth_noise(rng, size, scale=rng.uniform(8, 13))
    lake = shore > np.quantile(shore, 1 - rng.uniform(0.22, 0.32))
    cover[lake] = water
    heights[lake] = 0


def _draw_river(rng, cover, heights, along, across, size) -> None:
    wave, swing = rng.uniform(25, 50), rng.uniform(6, 16)
    middle = across[size // 2, size // 2] + rng.uniform(-0.25, 0.25) * size
    river = np.abs(across - middle - swing * np.sin(along / wave + rng.uniform(0, 6))) < rng.uniform(2.5, 5.5)
    cover[river], heights[river] = Cover.river, 0
