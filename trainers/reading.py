"""Pairs as networks see them: read window by window, scaled to [-1, 1], masked where either image has no data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainers import misregistration
from trainers.domains import Scaling, storage
from trainers.layouts._common import Source
from trainers.nodata import BACKSCATTER_ZEROS, DARK_BORDERS, Outside, has_data, is_dark, strips
from trainers.pairs import DataError, Pair, Window


@dataclass(frozen=True)
class Scaled:
    """SAR and optical (B, H, W) in [-1, 1], 0 where masked; where each was clipped; the mask (H, W)."""

    sar: np.ndarray
    optical: np.ndarray
    clipped: tuple[np.ndarray, np.ndarray]
    mask: np.ndarray


class Reader:
    """Reads the pairs of a source by the scalings of SAR and optical."""

    def __init__(self, source: Source, scalings: tuple[Scaling, Scaling]):
        self.source, self.scalings = source, scalings
        self._outside: tuple[Pair | None, tuple[Outside | None, ...]] = (None, (None, None))

    def read(self, pair: Pair, window: Window | None = None, *, shift: misregistration.Shift | None = None) -> Scaled:
        """A window of a pair, or all of it. With a `shift` the optical image and its nodata are moved; clipped
        pixels are those of the file. Raises DataError.
        """
        raw, valid = self._raw(pair, window)
        (sar, optical), clipped = zip(
            *(
                scaling.apply(image.values, where)
                for image, scaling, where in zip(raw, self.scalings, valid, strict=True)
            ),
            strict=True,
        )
        if shift is not None:
            optical, valid[1] = misregistration.moved(optical, valid[1], shift)
        mask = valid[0] & valid[1]
        return Scaled(
            np.where(mask, sar, 0), np.where(mask, optical, 0), tuple(where & mask for where in clipped), mask
        )  # fmt: skip

    def physical(self, pair: Pair, window: Window | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """SAR and optical (B, H, W) before their limits are applied, and where both are valid (H, W)."""
        raw, valid = self._raw(pair, window)
        sar, optical = (
            scaling.physical(image.values, where)
            for image, scaling, where in zip(raw, self.scalings, valid, strict=True)
        )  # fmt: skip
        return sar, optical, valid[0] & valid[1]

    def _raw(self, pair: Pair, window: Window | None) -> tuple[tuple[Any, Any], list[np.ndarray]]:
        """Both images as stored, and where each is valid."""
        raw = self.source.read(pair, window)
        valid = []
        for image, scaling, outside in zip(raw, self.scalings, self._outsides(pair, window), strict=True):
            _refuse_other_kind(image, scaling)
            valid.append(image.valid & has_data(image.values, scaling.domain, outside=outside))
        return raw, valid

    def _outsides(self, pair: Pair, window: Window | None) -> tuple[np.ndarray | None, ...]:
        """What of a window reaches in from the borders of the images; None where the window is all of them."""
        image, shape = whole_image(pair), self.source.shape(pair)
        if image == pair and (window is None or window.shape == shape):
            return None, None
        if self._outside[0] != image:
            self._outside = image, self._walked(image)
        part = (window or Window(0, 0, *shape)).within(None if image == pair else pair.window)
        return tuple(outside and outside.within(part) for outside in self._outside[1])

    def _walked(self, image: Pair) -> tuple[Outside | None, ...]:
        """What is found in one walk through an image; kept for the windows that follow."""
        found = tuple(Outside() if scaling.domain in DARK_BORDERS else None for scaling in self.scalings)
        for window in strips(self.source.shape(image)) if any(found) else ():
            for outside, side in zip(found, self.source.read(image, window), strict=True):
                if outside:
                    outside.add(is_dark(side.values))
        for outside in filter(None, found):
            outside.close()
        return found


def whole_image(pair: Pair) -> Pair:
    """The image that a pair is a block of: an inner border of it is no border of the image. Halves of a strip are
    images of their own.
    """
    if pair.window is None or pair.optical_window is not None:
        return pair
    return replace(pair, name="", scene="", window=None)


def _refuse_other_kind(image: Any, scaling: Scaling) -> None:
    """Raise DataError where a file differs from those that the scaling was made for."""
    bands, kind = len(image.values), image.values.dtype
    if bands != len(scaling.low):
        raise DataError(f"{image.path}: {bands} bands are read, but {len(scaling.low)} of other files")
    if storage(kind) != scaling.storage:
        raise DataError(f"{image.path}: {storage(kind)} values ({kind}), but other files hold {scaling.storage} values")
    if scaling.domain not in ("db", *BACKSCATTER_ZEROS):
        return
    values = image.values[:, image.valid]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if scaling.domain == "db" and low >= 0 and high > 0:
        raise DataError(f"{image.path}: values {low:.4g} to {high:.4g} are not dB, as other files' are")
    if scaling.domain != "db" and high <= 0 and low < 0:
        raise DataError(f"{image.path}: values {low:.4g} to {high:.4g} are no {scaling.domain} backscatter; is it dB?")
