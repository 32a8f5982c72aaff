"""Where images hold no data although no file says so: zeros, and black that reaches in from the border."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainers.pairs import Window

BACKSCATTER_ZEROS = ("linear", "amplitude")
DARK_BORDERS = ("db", "display")
FILL = -100.0  # dB: a receiver's noise lies near -30; -9999, -32768 and 10 log10 of a tiny constant are fill values
OVERVIEW = 1024  # px: the longer side of the overview in which a large image's borders are found


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


class Outside:
    """Where, in an image too large to be looked at whole, black reaches in from the border: seen in an overview.

    `overview(shrink)` gives every `shrink`-th pixel's values (B, h, w). A cell of the overview stands for its
    pixels and for those of its neighbours, so that a border's edge is found to the pixel by `has_data`. A border
    thinner than a cell escapes the overview: black within a cell's width of the image's edge counts as border.
    """

    def __init__(self, shape: tuple[int, int], overview: Callable[[int], np.ndarray]):
        from scipy import ndimage

        self._shrink = max(1, -(-max(shape) // OVERVIEW))
        dark = touching_border(is_dark(overview(self._shrink)))
        self._shape = shape
        self._near = ndimage.binary_dilation(dark, np.ones((3, 3), bool))

    def within(self, window: Window) -> np.ndarray:
        """The part (rows, columns) of a window."""
        rows, columns = (
            np.minimum(np.arange(start, start + size) // self._shrink, most - 1)
            for start, size, most in zip((window.row, window.column), window.shape, self._near.shape, strict=True)
        )
        return self._near[np.ix_(rows, columns)] | self._at_edge(window)

    def _at_edge(self, window: Window) -> np.ndarray:
        """Pixels nearer to the image's edge than a cell is wide; none where a cell is a pixel."""
        near = []
        for start, size, whole in zip((window.row, window.column), window.shape, self._shape, strict=True):
            at = np.arange(start, start + size)
            near.append(np.minimum(at, whole - 1 - at) < (self._shrink if self._shrink > 1 else 0))
        return near[0][:, None] | near[1][None, :]
