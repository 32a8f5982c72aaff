"""Where images hold no data although no file says so: zeros, and black that reaches in from the border."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from trainers.pairs import Window

BACKSCATTER_ZEROS = ("linear", "amplitude")
DARK_BORDERS = ("db", "display")
FILL = -100.0  # dB: a receiver's noise lies near -30; -9999, -32768 and 10 log10 of a tiny constant are fill values
STRIP = 256  # rows of a large image that are looked at together to find its borders


def has_data(values: np.ndarray, domain: str, *, outside: np.ndarray | None = None) -> np.ndarray:
    """Where (H, W) zeros don't say nodata.

    In linear SAR and in reflectance a zero in any band is nodata. In dB and in 8-bit pictures zero is a value
    like any other, except in regions, zero in all bands, that touch the border of the image. Of a part of an
    image, `outside` (H, W) says what `Outside` found of the whole. In dB, what lies at or below FILL is nodata too.
    """
    if domain in BACKSCATTER_ZEROS:
        return (values > 0).all(axis=0)
    if domain == "reflectance":
        return (values != 0).all(axis=0)
    dark = is_dark(values)
    inside = ~(touching_border(dark) if outside is None else dark & outside)
    return inside & (values > FILL).all(axis=0) if domain == "db" else inside


def is_dark(values: np.ndarray) -> np.ndarray:
    return (values == 0).all(axis=0)


def touching_border(dark: np.ndarray) -> np.ndarray:
    """The part of a boolean image (H, W) whose connected regions (4 neighbours) reach the border."""
    edge = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    if not edge.any():
        return np.zeros_like(dark)
    from scipy import ndimage

    labels, _ = ndimage.label(dark)
    outer = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, outer[outer > 0])


def strips(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows of STRIP whole rows that make up an image, from top to bottom; the last may be lower."""
    rows, columns = shape
    return (Window(row, 0, min(STRIP, rows - row), columns) for row in range(0, rows, STRIP))


class Outside:
    """Where, in an image too large to be looked at whole, black reaches in from the border: found strip by strip.

    To the pixel what `touching_border` finds in the whole. `add` takes the strips from top to bottom, `close` ends
    them; kept are packed bits.
    """

    def __init__(self) -> None:
        self._strips: list[_Packed] = []
        self._edges: list[np.ndarray] = []  # regions (2, n) that touch; region 0 is what lies outside of the image
        self._counts = [0]  # regions of all strips above
        self._last = np.zeros(0, np.int64)  # the regions of the lowest row so far

    def add(self, dark: np.ndarray) -> None:
        """Take in the next strip (rows, columns) of what is black."""
        labels, count = _labelled(dark, self._counts[-1])
        above = self._last if self._strips else np.zeros_like(labels[0])  # above the first strip is the outside
        touching = dark[0] & ((above > 0) | (not self._strips))
        sides = np.concatenate([labels[:, 0], labels[:, -1]])
        self._join(above[touching], labels[0][touching])
        self._join(np.zeros_like(sides), sides)
        self._strips.append(_Packed(dark))
        self._counts.append(self._counts[-1] + count)
        self._last = labels[-1]

    def close(self) -> None:
        """Keep only what reaches in from the border, after the last strip."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        self._join(np.zeros_like(self._last), self._last)
        size, (one, other) = self._counts[-1] + 1, np.concatenate(self._edges, axis=1)
        _, groups = connected_components(coo_array((np.ones(one.size), (one, other)), (size, size)), directed=False)
        outer = groups == groups[0]
        outer[0] = False  # what is not black has no region
        self._strips = [
            _Packed(outer[_labelled(strip.array(), before)[0]])
            for strip, before in zip(self._strips, self._counts, strict=False)
        ]
        self._edges = []

    def _join(self, one: np.ndarray, other: np.ndarray) -> None:
        self._edges.append(np.unique(np.stack([one, other]), axis=1))

    def within(self, window: Window) -> np.ndarray:
        """The part (rows, columns) of a window."""
        first, last = window.row // STRIP, (window.row + window.rows - 1) // STRIP
        rows = np.concatenate([strip.array() for strip in self._strips[first : last + 1]])
        top = window.row - first * STRIP
        return rows[top : top + window.rows, window.column : window.column + window.columns]


class _Packed:
    """A boolean array in few bytes: nothing where all is False."""

    def __init__(self, array: np.ndarray):
        self._shape = array.shape
        self._bits = zlib.compress(np.packbits(array).tobytes(), 1) if array.any() else b""

    def array(self) -> np.ndarray:
        if not self._bits:
            return np.zeros(self._shape, bool)
        bits = np.frombuffer(zlib.decompress(self._bits), np.uint8)
        return np.unpackbits(bits, count=self._shape[0] * self._shape[1]).reshape(self._shape).view(bool)


def _labelled(dark: np.ndarray, before: int) -> tuple[np.ndarray, int]:
    """The region of every black pixel, counted on from `before`; 0 elsewhere; and how many regions there are."""
    if not dark.any():
        return np.zeros(dark.shape, np.int32), 0
    from scipy import ndimage

    labels, count = ndimage.label(dark)
    return np.where(dark, labels + before, 0), count
