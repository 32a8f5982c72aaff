"""Signatures: what is kept of a tile, so that each is read once and the leaks are found without the images.

Lines are whitened: clipped differences along a line, transformed, with equal power in every octave. Unrelated lines
then correlate like noise with as many independent values as coefficients, however smooth the images are, and no
single road, cloud or nodata edge decides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

SMALLEST = 32  # px; lines of smaller tiles have too few coefficients
LOWEST = 2  # half waves; slower ones are the trend that all lines of a scene share
HIGHEST = 128  # half waves: tiles above 256 px are compared down to details of T / 128 px
CLIP = 3.0  # mean absolute differences; without it ombria's nodata edges make decoys of 7 sigma, with it of 4.5
TELLING = 0.25  # share of a line's differences that must be valid and not 0
THUMBNAIL = 16  # blocks a side
QUARTERS = (1, 2, 3)
BORDERS = ("left", "right", "top", "bottom")
LINES = (*BORDERS, *(f"{kind} {quarter}/4" for kind in ("column", "row") for quarter in QUARTERS))


@dataclass(frozen=True)
class Signature:
    """What is kept of a tile (T, T) px.

    lines (10, B, K) float16, in the order of LINES, and thumbnail (B, K') float16, over the B bands of SAR and
    optical: whitened, each of norm 1, or 0 where it says nothing; the root of the band's weight is in it, half of
    all for SAR and half for optical. The digests are those of the values; None where all are equal.
    """

    tile: int
    lines: np.ndarray
    thumbnail: np.ndarray
    sar: bytes | None
    optical: bytes | None


def signature(sar: np.ndarray, optical: np.ndarray, mask: np.ndarray) -> Signature:
    """The signature of a prepared tile: SAR and optical (C, T, T) in any linear scale, mask (T, T), 0 is nodata.

    Raises ValueError for tiles that are not square or below 32 px.
    """
    side = mask.shape[-1]
    mask = mask.reshape(-1, side) > 0
    if mask.shape[0] != side or side < SMALLEST:
        raise ValueError(f"a tile of {mask.shape[0]} x {side} px; leaks are found between squares from {SMALLEST} px")
    images = [np.where(mask, image, image.dtype.type(0)) for image in (sar, optical)]
    weights = np.repeat([0.5 / len(image) for image in images], [len(image) for image in images])
    bands = np.concatenate(images).astype(np.float32)
    root = np.sqrt(weights)[:, None].astype(np.float32)
    lines = _line_features(_lines(bands), _lines(mask[None]))
    thumbnail = _thumbnail_features(bands, mask)
    digests = [_digest(image) for image in images]
    return Signature(side, (lines * root).astype(np.float16), (thumbnail * root).astype(np.float16), *digests)


def _lines(bands: np.ndarray) -> np.ndarray:
    """The lines (10, B, T) of a tile (B, T, T), in the order of LINES, each downwards or rightwards."""
    inner = [quarter * bands.shape[-1] // 4 for quarter in QUARTERS]
    columns, rows = bands.transpose(2, 0, 1), bands.transpose(1, 0, 2)
    return np.concatenate([columns[[0, -1]], rows[[0, -1]], columns[inner], rows[inner]])


def _line_features(lines: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Whitened cosine transforms (10, B, K) of the lines' differences, clipped and 0 beside nodata."""
    from scipy import fft

    steps = np.diff(lines, axis=-1)
    known = valid[..., 1:] & valid[..., :-1]
    steps = np.where(known, steps, 0)
    limit = CLIP * np.abs(steps).sum(axis=-1, keepdims=True) / np.maximum(known.sum(axis=-1, keepdims=True), 1)
    steps = np.clip(steps, -limit, limit)
    telling = (steps != 0).mean(axis=-1, keepdims=True) >= TELLING
    waves = np.arange(LOWEST, min(HIGHEST, lines.shape[-1] // 2))
    return _whitened(fft.dct(steps, norm="ortho", axis=-1)[..., waves], waves) * telling


def _thumbnail_features(bands: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whitened cosine transform (B, K') of THUMBNAIL x THUMBNAIL means over valid pixels; invalid ones are 0."""
    from scipy import fft

    edges = np.linspace(0, mask.shape[0], THUMBNAIL, endpoint=False).astype(int)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(image, edges, axis=-2), edges, axis=-1)
        for image in (bands, mask.astype(np.float32))
    )
    mean = sums.sum(axis=(1, 2), keepdims=True) / max(1, counts.sum())
    blocks = np.where(counts > 0, sums / np.maximum(counts, 1) - mean, 0)
    radius = _thumbnail_radius()
    waves = radius >= LOWEST
    return _whitened(fft.dctn(blocks, norm="ortho", axes=(1, 2))[:, waves], radius[waves])


def _thumbnail_radius() -> np.ndarray:
    row, column = np.ogrid[:THUMBNAIL, :THUMBNAIL]
    return np.hypot(row, column)


def even(kind: str, count: int) -> np.ndarray:
    """Which of the `count` coefficients of a line or thumbnail are even (count,), the others being odd.

    When a line is mirrored, its differences' even coefficients change sign; when a thumbnail is turned by 180
    degrees, its odd ones do.
    """
    if kind != "thumbnail":
        return np.arange(LOWEST, LOWEST + count) % 2 == 0
    row, column = np.ogrid[:THUMBNAIL, :THUMBNAIL]
    return ((row + column) % 2 == 0)[_thumbnail_radius() >= LOWEST]


def _whitened(waves: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Coefficients (..., K) with equal mean power in every octave of frequency and norm 1; 0 where all are."""
    octave = np.maximum(np.floor(np.log2(frequency / LOWEST)), 1)  # the lowest two are one: they are few
    total = np.sqrt((waves**2).mean(axis=-1, keepdims=True))
    white = np.zeros_like(waves)
    for each in np.unique(octave):
        part = waves[..., octave == each]
        power = np.sqrt((part**2).mean(axis=-1, keepdims=True))
        white[..., octave == each] = np.where(power > 1e-4 * total, part / np.maximum(power, 1e-12), 0)
    norm = np.linalg.norm(white, axis=-1, keepdims=True)
    return np.where(total > 1e-6, white / np.maximum(norm, 1e-12), 0)


def _digest(image: np.ndarray) -> bytes | None:
    """Digest of an image's values; None where all are equal."""
    values = np.ascontiguousarray(image)
    return None if (values == values[:, :1, :1]).all() else hashlib.blake2b(values.tobytes(), digest_size=16).digest()
