"""Synthetic scenes: SAR and optical images of a drawn landscape, as a satellite would have stored them.

Believable where ablations look: correlated speckle, several covers that share a backscatter but not a colour,
layover and shadow, misregistration, change between the dates, clouds, nodata. Figures are those of Sentinel-1
(VV and VH, gamma0 in dB) and Sentinel-2 (reflectance x 10000: red, green, blue) over temperate farmland.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.landscape import CROPS, WATER, Cover, Landscape, draw_landscape, smooth_noise
from trainers.pairs import DataError, Pair, Window
from trainers.raster import Image, optical_default
from trainers.streams import numpy_generator

if TYPE_CHECKING:
    from trainers.layouts.synthetic import Options

GENERATOR = 1  # raise when pixels change for equal options
MARGIN = 8  # px rendered around a scene, so that shifts and echoes have something to move in
PIXEL = 10.0  # m
CRS = "EPSG:32632"
OPTICAL_RANGE = (0.0, 2300.0)  # reflectance x 10000; puts the mean colour near 0, where networks start
SPECKLE_SIGMA = 1.5  # px, the system's low pass
LOOKS = 4
BAD_SHIFT = (2.0, 3.0)  # px, of the one badly registered scene


@dataclass(frozen=True)
class Look:
    """How a cover looks: mean VV in dB (range over parcels), VH below VV in dB, reflectance x 10000 (R, G, B)."""

    vv: tuple[float, float]
    vh: float
    colour: tuple[float, float, float]


# Backscatter: cereal, maize, beet, rape and meadow overlap in both polarisations and differ in colour.
LOOKS_OF: dict[Cover, Look] = {
    Cover.cereal: Look((-13.8, -12.2), 6.5, (1900, 1700, 1300)),
    Cover.maize: Look((-12.6, -10.4), 6.0, (1250, 1550, 900)),
    Cover.beet: Look((-12.2, -10.2), 5.6, (1150, 1550, 900)),
    Cover.rape: Look((-12.4, -10.4), 5.5, (1750, 1850, 950)),
    Cover.meadow: Look((-13.6, -11.8), 6.6, (1400, 1650, 1050)),
    Cover.bare: Look((-17.6, -16.4), 7.5, (1400, 1100, 900)),
    Cover.forest: Look((-10.2, -7.9), 5.0, (300, 500, 290)),
    Cover.lake: Look((-23.0, -18.5), 6.0, (180, 330, 480)),
    Cover.river: Look((-22.0, -18.0), 6.0, (330, 480, 480)),
    Cover.rough: Look((-16.5, -13.5), 7.0, (200, 380, 520)),
    Cover.village: Look((-11.6, -9.8), 6.5, (1800, 1700, 1500)),
    Cover.house: Look((-11.0, -9.4), 6.5, (2300, 1750, 1500)),
    Cover.road: Look((-17.5, -15.5), 7.0, (1300, 1250, 1200)),
}
WALL = (8.0, 15.0)  # dB above the ground in front of a wall that faces the radar
FOREST_EDGE = 2.0  # dB
SHADOW = (-23.0, -29.0)  # dB in VV and VH: what the receiver's noise leaves


@dataclass(frozen=True)
class Scene:
    """One generated scene and the truth behind it.

    sar (2, H, W) float32 dB (VV, VH), NaN in the nodata border; optical (3, H, W) uint16, 0 in its nodata border.
    Truth on the SAR's grid: cover (H, W), changed (H, W) where the optical date shows another crop, special (H, W)
    where wall, layover or shadow replace the cover's own backscatter; cloudy (H, W) on the optical's grid. `shift`
    is (dy, dx) in px: optical content lies that far below and right of the SAR's. `look` is +1 where the radar looks
    right, -1 where it looks left.
    """

    sar: np.ndarray
    optical: np.ndarray
    cover: np.ndarray
    changed: np.ndarray
    special: np.ndarray
    cloudy: np.ndarray
    shift: tuple[float, float]
    look: int


@dataclass(frozen=True)
class Roles:
    """Indices of the scenes with a defect or with wind on the lakes. With few scenes one may be several."""

    bad_shift: frozenset[int]
    cloud: frozenset[int]
    rough: frozenset[int]
    nodata: frozenset[int]


def roles(options: Options) -> Roles:
    """One badly registered scene (of eight or more), one in eight under a cloud, one in twelve with rough lakes and
    one in twelve with a nodata border."""
    order = numpy_generator(options.seed, "roles").permutation(options.scenes).tolist()
    cloudy, few = max(1, options.scenes // 8), max(1, options.scenes // 12)
    return Roles(
        bad_shift=frozenset(order[:1] if options.scenes >= 8 else ()),
        cloud=frozenset(order[1 : 1 + cloudy]),
        rough=frozenset(order[1 + cloudy : 1 + cloudy + few]),
        nodata=frozenset(order[-few:]),
    )


def render(options: Options, index: int) -> Scene:
    """Scene `index` of a synthetic data set: a pure function of its arguments."""
    rng = numpy_generator(options.seed, "scene", index)
    special = roles(options)
    size = options.pixels
    ground = draw_landscape(rng, size + 2 * MARGIN, rough=index in special.rough)
    look = int(rng.choice([-1, 1]))
    sar, replaced = _radar(rng, ground, look)
    seen, changed = _changed(rng, ground)
    optical = _daylight(rng, seen)
    cloudy = np.zeros(optical.shape[1:], bool)
    if index in special.cloud:
        optical, cloudy = _under_cloud(rng, optical)
    dy, dx = _shift(rng, bad=index in special.bad_shift)
    shift = (options.shifts * dy, options.shifts * dx)
    optical = _moved(optical, shift)
    inner = slice(MARGIN, MARGIN + size)
    sar, optical = sar[:, inner, inner].copy(), optical[:, inner, inner]
    optical = np.clip(np.rint(optical), 1, 65535).astype(np.uint16)
    if index in special.nodata:
        sar[:, _border(rng, size)] = np.nan
        optical[:, _border(rng, size)] = 0
    truth = [layer[inner, inner] for layer in (ground.cover, changed, replaced, cloudy)]
    return Scene(sar, optical, *truth, shift=shift, look=look)


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Multiplicative speckle with mean 1: four looks of complex Gaussian fields under the system's low pass."""
    from scipy import ndimage

    fields = rng.standard_normal((2 * LOOKS, *shape), np.float32)
    filtered = ndimage.gaussian_filter(fields, (0, SPECKLE_SIGMA, SPECKLE_SIGMA), mode="wrap", truncate=3.0)
    return (filtered**2).mean(axis=0) / (filtered**2).mean()


def _radar(rng: np.random.Generator, ground: Landscape, look: int) -> tuple[np.ndarray, np.ndarray]:
    """VV and VH in dB (2, H, W), and where walls, layover and shadows replace the cover's backscatter."""
    parcel = rng.uniform(0, 1, (len(Cover), ground.parcels.max() + 1)).astype(np.float32)
    share = parcel[ground.cover, np.where(np.isin(ground.cover, WATER), 0, ground.parcels)]
    low, high, below = (
        np.array([value(LOOKS_OF[cover]) for cover in Cover], np.float32)[ground.cover]
        for value in (lambda look: look.vv[0], lambda look: look.vv[1], lambda look: look.vh)
    )
    vv = low + share * (high - low)
    mean = np.stack([vv, vv - below])
    mean, replaced = _with_relief(rng, mean, ground, look)
    intensity = 10 ** (mean / 10) * np.stack([speckle(rng, vv.shape) for _ in range(2)])
    return (10 * np.log10(intensity)).astype(np.float32), replaced


def _with_relief(rng: np.random.Generator, mean: np.ndarray, ground: Landscape, look: int):
    """The mean backscatter with radar-facing walls, roofs laid over towards the radar, and shadows behind."""
    heights = ground.heights if look > 0 else ground.heights[:, ::-1]
    facing = (mean if look > 0 else mean[:, :, ::-1]).copy()
    replaced = np.zeros(heights.shape, bool)
    built = (ground.cover == Cover.house) if look > 0 else (ground.cover == Cover.house)[:, ::-1]
    before = np.pad(heights, ((0, 0), (1, 0)))[:, :-1]
    wall = heights > before + 1  # the radar looks right: walls that face it are left edges
    gain = np.where(built, rng.uniform(*WALL, heights.shape), FOREST_EDGE).astype(np.float32)
    for step in (1, 2, 3):  # px of layover or shadow
        behind = np.pad(heights, ((0, 0), (step, 0)))[:, :-step]
        dark = (heights + step <= behind) & (heights == 0)
        facing[:, dark] = np.array(SHADOW, np.float32)[:, None]
        replaced |= dark
    for step in (0, 1, 2, 3):
        echo = np.pad(wall & (heights >= step), ((0, 0), (0, step)))[:, step:]
        strength = np.pad(gain, ((0, 0), (0, step)))[:, step:] - 3 * step
        lit = echo & (strength > 0) & ~(replaced & (step > 0))
        base = np.pad(facing, ((0, 0), (0, 0), (0, step)), mode="edge")[:, :, step:] if step else facing
        facing[:, lit] = (base + strength)[:, lit] if step == 0 else np.maximum(facing, base - 3 * step)[:, lit]
        replaced |= lit
    return (facing, replaced) if look > 0 else (facing[:, :, ::-1].copy(), replaced[:, ::-1].copy())


def _changed(rng: np.random.Generator, ground: Landscape) -> tuple[Landscape, np.ndarray]:
    """The landscape on the optical date: about 6 % of the fields carry another crop."""
    count = ground.parcels.max() + 1
    other = rng.choice(np.array(CROPS, np.uint8), count)[ground.parcels]
    changed = (rng.random(count) < 0.07)[ground.parcels] & (ground.cover <= max(CROPS)) & (other != ground.cover)
    cover = np.where(changed, other, ground.cover)
    return Landscape(cover, ground.parcels, ground.rows, ground.heights), changed


def _daylight(rng: np.random.Generator, ground: Landscape) -> np.ndarray:
    """Reflectance x 10000 (3, H, W): class colours with the scene's palette, parcels, texture, sun and haze."""
    from scipy import ndimage

    size = ground.cover.shape[0]
    colours = np.array([LOOKS_OF[cover].colour for cover in Cover], np.float32)
    palette = colours * np.exp(rng.normal(0, 0.08, (len(Cover), 3))) * np.exp(rng.normal(0, 0.04))
    image = palette.astype(np.float32)[ground.cover].transpose(2, 0, 1)
    image = image * np.exp(rng.normal(0, 0.08, ground.parcels.max() + 1)).astype(np.float32)[ground.parcels]
    fields = ground.cover <= max(CROPS)
    furrows = np.where(fields, 0.05 * np.sin(ground.rows), 0)
    texture = 0.05 * smooth_noise(rng, size, scale=3) + 0.04 * smooth_noise(rng, size, scale=12) + furrows
    crowns = np.where(ground.cover == Cover.forest, rng.normal(0, 0.18, (size, size)), 0)
    water = np.isin(ground.cover, WATER)
    image = image * (1 + np.where(water, 0.3, 1) * (texture + crowns)).astype(np.float32)
    image = image * np.where(_sun_shadow(ground.heights), 0.45, 1).astype(np.float32)
    image = ndimage.gaussian_filter(image, (0, 0.6, 0.6))  # the optics
    haze = rng.uniform(0, 120) * (1 + 0.4 * smooth_noise(rng, size, scale=40)).clip(min=0)
    return image + haze * np.array([0.8, 1.0, 1.4], np.float32)[:, None, None] + rng.normal(0, 15, image.shape)


def _sun_shadow(heights: np.ndarray) -> np.ndarray:
    """Ground north-west of woods and houses: the sun stands in the south-east at the hour of overpass."""
    dark = np.zeros(heights.shape, bool)
    for step in (1, 2):
        dark[:-step, :-step] |= (heights[step:, step:] >= step) & (heights[:-step, :-step] == 0)
    return dark


def _under_cloud(rng: np.random.Generator, optical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image with one cloud of about 25 px, and where it is (opacity above one half)."""
    size = optical.shape[-1]
    y, x = np.mgrid[:size, :size]
    row, col = rng.uniform(0.25, 0.75, 2) * size
    distance = np.hypot(y - row, x - col) + 5 * smooth_noise(rng, size, scale=8)
    opacity = 1 / (1 + np.exp((distance - rng.uniform(10, 16)) / 2.5))
    return optical * (1 - opacity) + 6000 * opacity, opacity > 0.5


def _shift(rng: np.random.Generator, *, bad: bool) -> tuple[float, float]:
    usual = rng.normal(0, 0.5, 2)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*BAD_SHIFT)
    dy, dx = (length * np.sin(angle), length * np.cos(angle)) if bad else usual
    return float(dy), float(dx)


def _moved(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    from scipy import ndimage

    return ndimage.shift(image.astype(np.float32), (0, *shift), order=1, mode="nearest")


def _border(rng: np.random.Generator, size: int) -> np.ndarray:
    """A slanted strip at the left edge, as a swath's end leaves it."""
    top, bottom = rng.uniform(4, 24, 2)
    return np.arange(size) < np.linspace(top, bottom, size)[:, None]


class Synthetic:
    """The synthetic data set as a source of pairs. Implements `layouts._common.Source`."""

    sar_domain = "db"
    optical_range = OPTICAL_RANGE
    left = ()
    splits = None

    def __init__(self, options: Options):
        self._options = options
        self.pairs = [Pair(name, name) for name in (f"scene-{index:02d}" for index in range(options.scenes))]
        self.stride = options.stride or max(1, options.tile // 2)

    def identity(self) -> Any:
        return GENERATOR

    def shape(self, pair: Pair) -> tuple[int, int]:
        return self._options.pixels, self._options.pixels

    def read(self, pair: Pair, window: Window | None = None, shrink: int = 1) -> tuple[Image, Image]:
        scene = render_cached(self._options, self.pairs.index(pair))
        images = (scene.sar, self._options.sar.bands), (scene.optical, self._options.optical.bands)
        count = len(scene.optical)
        sar, optical = (
            _image(
                pair.name, _part(values, window, shrink),
                bands or (optical_default(count) if values is scene.optical else (1, 2)),
            )
            for values, bands in images
        )
        return sar, optical


@lru_cache(maxsize=2)
def render_cached(options: Options, index: int) -> Scene:
    return render(options, index)


def _part(values: np.ndarray, window: Window | None, shrink: int) -> np.ndarray:
    if window is not None:
        values = values[:, window.row : window.row + window.rows, window.column : window.column + window.columns]
    return values[:, ::shrink, ::shrink]


def _image(name: str, values: np.ndarray, bands: tuple[int, ...]) -> Image:
    wrong = [band for band in bands if band > len(values)]
    if wrong:
        raise DataError(f"{name}: has no band {wrong[0]}; bands are 1 to {len(values)}")
    chosen = values[[band - 1 for band in bands]]
    return Image(name, chosen, np.isfinite(chosen).all(axis=0), bands)
