"""Ranges that data give themselves: percentiles, or mean and spread, of the training scenes alone.

A sample of bounded size, always the same one, stands for all pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from trainers.domains import Limits
from trainers.layouts._common import Source
from trainers.pairs import DataError, Pair, Window
from trainers.reading import Reader
from trainers.windows import BLOCK

PAIRS = 64  # training pairs that are looked at
PIXELS = 2**14  # valid pixels of each
PARTS, PART = 4, BLOCK // 4  # of a side longer than a block, so many parts of so many px are read
SPREAD = 3  # standard deviations on either side of the mean; the result then has a standard deviation of 1/3

Find = Callable[[np.ndarray], Limits]


def percentiles(low: float, high: float) -> Find:
    """Finds two percentiles of pixels (B, N), band by band."""

    def find(pixels: np.ndarray) -> Limits:
        lows, highs = np.percentile(pixels, [low, high], axis=1)
        return tuple(lows.tolist()), tuple(highs.tolist()), f"percentiles {low:g} and {high:g}"

    return find


def standard(pixels: np.ndarray) -> Limits:
    """Mean -+ SPREAD standard deviations of pixels (B, N), band by band."""
    mean, spread = pixels.mean(axis=1), SPREAD * pixels.std(axis=1)
    return tuple((mean - spread).tolist()), tuple((mean + spread).tolist()), f"mean -+ {SPREAD} standard deviations"


def found(pixels: np.ndarray, find: Find, *, side: str, num_pairs: int) -> Limits:
    """Limits of one side, and the sentence that says of what. Raises DataError where a band does not vary."""
    if not pixels.shape[1]:
        raise DataError(f"the range of the {side} images can't be found: no valid pixel in {num_pairs} training pairs")
    low, high, said = find(pixels.astype(np.float64))
    for band, limits in enumerate(zip(low, high, strict=True), 1):
        if not limits[0] < limits[1]:
            raise DataError(
                f"{said} of {side} band {band} are {limits[0]:g} and {limits[1]:g} over {num_pairs} training pairs: it "
                f"does not vary, so it has no range; give a fixed one, or leave the band out"
            )
    return low, high, f"{said} of {pixels.shape[1]} pixels in {num_pairs} training pairs"


def sample(reader: Reader, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, int]:
    """Values before limits of valid pixels, SAR and optical (B, N), of up to PAIRS pairs, and of how many."""
    chosen = pairs[:: -(-len(pairs) // PAIRS)]
    parts = [part for pair in chosen for part in _of_pair(reader, pair)]
    sar, optical = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    return sar, optical, len(chosen)


def _of_pair(reader: Reader, pair: Pair) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    windows = list(_windows(reader.source, pair))
    for window in windows:
        sar, optical, mask = reader.physical(pair, window)
        places = np.flatnonzero(mask)
        places = places[:: -(-len(places) * len(windows) // PIXELS) | 1]  # odd: no step along the columns of a tile
        yield sar.reshape(len(sar), -1)[:, places], optical.reshape(len(optical), -1)[:, places]


def _windows(source: Source, pair: Pair) -> Iterator[Window]:
    """The whole of a pair, or parts spread evenly over it, at full resolution, since filters look at neighbours."""
    rows, columns = (
        [(0, size)] if size <= BLOCK else [(int(start), PART) for start in np.linspace(0, size - PART, PARTS)]
        for size in source.shape(pair)
    )  # fmt: skip
    for top, height in rows:
        for left, width in columns:
            yield Window(top, left, height, width)
