"""Options that every data layout shares, and what a layout gives to the preparation (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, Protocol

from trainers.options import Bounds, Count, Positive, options
from trainers.pairs import DataError, Left, Pair, Window, some
from trainers.windows import HALO

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
Percent = Annotated[float, Bounds(low=0, high=100)]


@options
class Split:
    """Shares of the pairs, whole scenes only: neighbouring tiles of one scene show the same ground.

    Each of training, validation and test gets at least one scene; with two scenes there is no test.

    `guard` keeps images together that overlap or lie nearer than so many px, where files are georeferenced: their
    scenes share a split.
    """

    validation: Annotated[float, Bounds(above=0, below=1)] = 0.2
    test: Annotated[float, Bounds(low=0, below=1)] = 0.2
    seed: Annotated[int, Bounds(low=0)] = 0
    guard: Annotated[float, Bounds(low=0)] = 0.0  # px

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} + test {self.test} leave no scene for training; the sum must be below 1"
            )


@options
class Sar:
    """How SAR values become [-1, 1].

    `domain` is `db` (backscatter in dB), `linear` (intensity: 10 log10), `amplitude` (20 log10) or `display`
    (already stretched for viewing: taken as it is). `auto` recognises db and 8-bit display; the rest must be
    declared, since numbers alone don't tell intensity from amplitude or from data normalised by somebody.
    `bands` counts from 1; by default all bands but alpha.

    `scale` is what enters the networks: `db`, or `linear` intensity. `range` says what becomes -1 and +1; what lies
    beyond is clipped. `fixed`: `low` and `high`, one a band, in dB on either scale (an intensity is 10^(x/10)), by
    default -25..0 (VV) and -32.5..0 (VH); for display in the file's numbers, by default 0..255 for 8-bit files.
    `percentiles` and `standard` (mean -+ 3 standard deviations) are taken on the chosen scale, band by band, from the
    training scenes alone.

    `despeckle` filters intensity, whatever `domain` and `scale` are: `lee` in a square `window` of px, for speckle of
    that many equivalent `looks` (4.4: Sentinel-1 IW GRD). A window reaches no further than the 32 px that are read
    around a block.
    """

    domain: Literal["auto", "db", "display", "linear", "amplitude"] = "auto"
    bands: tuple[Count, ...] | None = None
    scale: Literal["db", "linear"] = "db"
    range: Literal["fixed", "percentiles", "standard"] = "fixed"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    despeckle: Literal["none", "lee"] = "none"
    window: Annotated[int, Bounds(low=3, high=2 * HALO + 1)] = 7  # px, odd
    looks: Annotated[float, Bounds(above=0, high=1000)] = 4.4

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high are given together, one number a band each")
        if self.low is not None and self.high is not None:
            if len(self.low) != len(self.high):
                raise ValueError(f"low has {len(self.low)} numbers and high {len(self.high)}; give one a band each")
            if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
                raise ValueError(f"low {list(self.low)} must lie below high {list(self.high)} in every band")
            if self.range != "fixed":
                raise ValueError(f"low and high belong to range fixed, not to {self.range} of training scenes")
        _refuse_percentiles(self.percentiles)
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} must be odd, so that it has a middle")
        if not 3 <= self.window <= 2 * HALO + 1:
            raise ValueError(f"window {self.window} must be 3 to {2 * HALO + 1} px: {HALO} px around a block are read")
        if self.domain == "display":
            refuse_display(self)


def refuse_display(sar: Sar, *, found: str = "domain display") -> None:
    """Raise ValueError for what needs backscatter, of which pictures stretched for viewing know nothing."""
    asked = "scale linear" if sar.scale == "linear" else "despeckle lee" if sar.despeckle == "lee" else None
    if asked:
        raise ValueError(
            f"{asked} with {found}: a picture stretched for viewing has no intensity; take backscatter (db, linear, "
            "amplitude), or leave it out"
        )


@options
class Optical:
    """How optical values become [-1, 1].

    `offset` is added to the stored values before anything else (-1000 for Sentinel-2 products from baseline 04.00
    unless harmonised), `scale` multiplies after it. Then `range` becomes -1..1, or the two `percentiles` of the
    training scenes, band by band; what lies beyond is clipped. Without either, 0..255 (8-bit) or 0..10000 (16-bit
    reflectance; synthetic scenes 0..2300). Zeros are nodata before the offset.

    `bands` counts from 1 and is in the order red, green, blue: by default the first three, the only one, or 4, 3, 2
    of a Sentinel-2 stack of ten bands or more (it starts at B1).
    """

    bands: tuple[Count, ...] | None = None
    offset: float = 0.0
    scale: Positive = 1.0
    range: tuple[float, float] | None = None
    percentiles: tuple[Percent, Percent] | None = None

    def __post_init__(self) -> None:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)} must be [low, high] with low below high")
        if self.percentiles is not None:
            _refuse_percentiles(self.percentiles)
            if self.range is not None:
                raise ValueError("range and percentiles both say what becomes -1 and 1; give one of them")
            if self.offset or self.scale != 1:
                raise ValueError("percentiles move with offset and scale, so that those change nothing; leave them out")
        if self.scale != 1 and self.range is None:
            raise ValueError(f"scale {self.scale:g} needs a range, in the unit that it gives")


def _refuse_percentiles(percentiles: tuple[float, float]) -> None:
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles {list(percentiles)} must be [low, high] in 0..100 with low below high")


@options
class Data:
    """What every layout has. `flip` mirrors training tiles left-right, half of them, drawn anew each epoch.

    `misregistration` moves the optical images of every training scene against their SAR by that many px, in a
    direction of the scene's own: a shift that all scenes share would be learnt with the translation. Validation and
    test scenes stay as they are. Whatever misregistration the data have of themselves comes on top.

    `resample` names the kernel by which optical images that lie on another grid are brought onto their SAR's; with
    `none` such pairs are refused.

    `allow_leak` goes on although images of two splits show the same ground, which is refused otherwise; the report
    says so.
    """

    tile: Annotated[int, Bounds(low=32, high=2048)] = 64  # px
    flip: Literal["none", "horizontal"] = "horizontal"
    misregistration: Annotated[float, Bounds(low=0, high=16)] = 0.0  # px
    resample: Literal["none", "nearest", "bilinear", "cubic", "average"] = "none"
    allow_leak: bool = False
    split: Split = field(default_factory=Split)
    sar: Sar = field(default_factory=Sar)
    optical: Optical = field(default_factory=Optical)


class Source(Protocol):
    """What a layout's `build` returns.

    `stride` is the step between training tiles in px (tile: no overlap). `left` is what could not be paired. `splits`
    gives every pair's split by name where the data set brings its own.
    `sar_domain` is what `auto` stands for where the layout knows it; None has it detected. `optical_range` replaces
    the default range; None keeps it.
    """

    pairs: Sequence[Pair]
    left: Sequence[Left]
    splits: Mapping[str, str] | None
    stride: int
    sar_domain: str | None
    optical_range: tuple[float, float] | None

    def identity(self) -> Any:
        """JSON-able value that changes where the pixels, names or scenes change."""

    def shape(self, pair: Pair) -> tuple[int, int]:
        """Rows and columns of a pair, without reading its pixels. Raises DataError."""

    def read(self, pair: Pair, window: Window | None = None, shrink: int = 1) -> tuple[Any, Any]:
        """The SAR and the optical `trainers.raster.Image` of a pair, on one grid. Raises DataError.

        Of a window of it, if one is given, and every `shrink`-th pixel.
        """


@dataclass(frozen=True)
class Files:
    """Pairs of image files. Implements `Source`."""

    pairs: Sequence[Pair]
    data: Data
    stride: int
    left: Sequence[Left] = ()
    splits: Mapping[str, str] | None = None
    sar_domain: str | None = None
    optical_range: tuple[float, float] | None = None

    def identity(self) -> Any:
        from trainers.raster import content_digest

        return [
            [pair.name, pair.scene, *([content_digest(path) for path in paths] for paths in (pair.sar, pair.optical)),
             *(asdict(window) for window in (pair.window, pair.optical_window) if window),
             *([self.splits[pair.name]] if self.splits else [])]
            for pair in self.pairs
        ]  # fmt: skip

    def shape(self, pair: Pair) -> tuple[int, int]:
        from trainers.raster import pair_shape

        return pair_shape(pair)

    def read(self, pair: Pair, window: Window | None = None, shrink: int = 1) -> tuple[Any, Any]:
        from trainers.raster import read_pair

        return read_pair(pair, sar_bands=self.data.sar.bands, optical_bands=self.data.optical.bands,
                         window=window, shrink=shrink, kernel=self.data.resample)  # fmt: skip


def refuse_left(source: Source) -> None:
    """Raise DataError where images were found that are no part of a pair."""
    if source.left:
        raise DataError(
            f"{len(source.left)} images can't be paired: {some([one.detail for one in source.left])}; "
            "take them away or bring their partners"
        )
