"""Options that every data layout shares, and what a layout gives to the preparation (standard library only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from trainers.options import Bounds, Count, options
from trainers.pairs import Pair

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


@options
class Split:
    """Shares of the pairs, whole scenes only: neighbouring tiles of one scene show the same ground.

    Each of training, validation and test gets at least one scene; with two scenes there is no test.
    """

    validation: Annotated[float, Bounds(above=0, below=1)] = 0.2
    test: Annotated[float, Bounds(low=0, below=1)] = 0.2
    seed: Annotated[int, Bounds(low=0)] = 0

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} + test {self.test} leave no scene for training; the sum must be below 1"
            )


@options
class Sar:
    """How SAR values are read. `low` and `high`, one a band, become -1 and +1.

    `domain` is `db` (backscatter in dB), `linear` (intensity: 10 log10), `amplitude` (20 log10) or `display`
    (already stretched for viewing: taken as it is). `auto` recognises db and 8-bit display; the rest must be
    declared, since numbers alone don't tell intensity from amplitude or from data normalised by somebody.
    Ranges are in dB, by default -25..0 (VV) and -32.5..0 (VH); for display in the file's numbers, by default
    0..255 for 8-bit files. `bands` counts from 1; by default all bands but alpha.
    """

    domain: Literal["auto", "db", "display", "linear", "amplitude"] = "auto"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    bands: tuple[Count, ...] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high are given together, one number a band each")
        if self.low is not None and self.high is not None:
            if len(self.low) != len(self.high):
                raise ValueError(f"low has {len(self.low)} numbers and high {len(self.high)}; give one a band each")
            if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
                raise ValueError(f"low {list(self.low)} must lie below high {list(self.high)} in every band")


@options
class Optical:
    """How optical values are read: `range` becomes -1..1, by default 0..255 (8-bit) or 0..10000 (16-bit reflectance;
    synthetic scenes 0..2300).

    `bands` counts from 1 and is in the order red, green, blue: by default the first three, the only one, or 4, 3, 2
    of a Sentinel-2 stack of ten bands or more (it starts at B1).
    """

    bands: tuple[Count, ...] | None = None
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} must be [low, high] with low below high")


@options
class Data:
    """What every layout has. `flip` mirrors training tiles left-right, half of them, drawn anew each epoch.

    `misregistration` moves the optical images of every training scene against their SAR by that many px, in a
    direction of the scene's own: a shift that all scenes share would be learnt with the translation. Validation and
    test scenes stay as they are. Whatever misregistration the data have of themselves comes on top.
    """

    tile: Annotated[int, Bounds(low=32, high=2048)] = 64  # px
    flip: Literal["none", "horizontal"] = "horizontal"
    misregistration: Annotated[float, Bounds(low=0, high=16)] = 0.0  # px
    split: Split = field(default_factory=Split)
    sar: Sar = field(default_factory=Sar)
    optical: Optical = field(default_factory=Optical)


class Source(Protocol):
    """What a layout's `build` returns.

    `stride` is the step between training tiles in px (tile: no overlap). `sar_domain` is what `auto` stands for where
    the layout knows it; None has it detected. `optical_range` replaces the default range; None keeps it.
    """

    pairs: Sequence[Pair]
    stride: int
    sar_domain: str | None
    optical_range: tuple[float, float] | None

    def identity(self) -> Any:
        """JSON-able value that changes where the pixels, names or scenes change."""

    def read(self, pair: Pair) -> tuple[Any, Any]:
        """The SAR and the optical `trainers.raster.Image` of a pair, on one grid. Raises DataError."""


@dataclass(frozen=True)
class Files:
    """Pairs of image files. Implements `Source`."""

    pairs: Sequence[Pair]
    sar: Sar
    optical: Optical
    stride: int
    sar_domain: str | None = None
    optical_range: tuple[float, float] | None = None

    def identity(self) -> Any:
        from trainers.raster import content_digest

        return [[pair.name, pair.scene, content_digest(pair.sar), content_digest(pair.optical)] for pair in self.pairs]

    def read(self, pair: Pair) -> tuple[Any, Any]:
        from trainers.raster import read_pair

        return read_pair(pair, sar_bands=self.sar.bands, optical_bands=self.optical.bands)
