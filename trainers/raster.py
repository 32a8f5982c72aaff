"""Reading image files through GDAL: three drivers, no remote files, never more than a window at a time."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any

import numpy as np

from trainers.formats import driver, refuse_broken_png, status
from trainers.grids import Grid, difference, refuse_other
from trainers.pairs import DataError, Pair, Window

PIXEL_LIMIT = 2**28  # samples in one file; beyond, it must be a TIFF and hold about as much as it declares
PACKED_LIMIT = 200  # times: a TIFF of 0.7 MB can declare 57 GB, no image packs like that
SENTINEL2_BANDS = 10  # a stack of this many bands or more starts at B1
GDAL = {
    "GDAL_PAM_ENABLED": "NO",  # never write .aux.xml beside somebody's data
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no side files: what is hashed is what is read
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # a truncated JPEG is an error, not grey rows
    "GDAL_CACHEMAX": 128 * 2**20,  # bytes of decoded blocks
}

Bands = tuple[int, ...] | Callable[[int], tuple[int, ...]] | None


@dataclass(frozen=True)
class Image:
    """Bands as stored: values (B, H, W) in the files' type, valid (H, W) False at declared nodata and NaN."""

    path: str  # of the first file, for messages
    values: np.ndarray
    valid: np.ndarray
    bands: tuple[int, ...]


@dataclass(frozen=True)
class Head:
    """What a file says of itself; `visible` are its bands but for alpha, counted from 1."""

    grid: Grid
    visible: tuple[int, ...]
    count: int


def pair_shape(pair: Pair) -> tuple[int, int]:
    """Rows and columns of a pair. Raises DataError where its files can't be opened."""
    return pair.window.shape if pair.window else head(pair.sar[0]).grid.shape


def read_pair(
    pair: Pair, *, sar_bands: tuple[int, ...] | None, optical_bands: tuple[int, ...] | None,
    window: Window | None = None, shrink: int = 1, kernel: str = "none",
) -> tuple[Image, Image]:  # fmt: skip
    """The SAR and the optical Image of a pair, or of a window of it, every `shrink`-th pixel.

    Raises DataError unless both lie on one grid, or `kernel` names how the optical image is brought onto the SAR's.
    """
    parts = [window.within(whole) if window else whole for whole in (pair.window, pair.optical_window or pair.window)]
    grid = head(pair.sar[0]).grid
    for path in pair.sar[1:]:
        refuse_other(grid, head(path).grid, remedy="the bands of one SAR image must lie on one grid")
    sar = read(pair.sar, bands=sar_bands, window=parts[0], shrink=shrink)
    usual = optical_default if len(pair.optical) == 1 else None
    optical = read(
        pair.optical, bands=optical_bands or usual, window=parts[1], shrink=shrink, onto=grid, kernel=kernel
    )  # fmt: skip
    return sar, optical


def optical_default(count: int) -> tuple[int, ...]:
    """Bands of red, green and blue, counted from 1, in a file of `count` bands (alpha not counted)."""
    if count >= SENTINEL2_BANDS:
        return 4, 3, 2
    return (1, 2, 3) if count >= 3 else (1,)


def read(
    paths: Sequence[str], *, bands: Bands = None, window: Window | None = None, shrink: int = 1,
    onto: Grid | None = None, kernel: str = "none",
) -> Image:  # fmt: skip
    """The files' bands, counted from 1 through all of them: a tuple, a function of their number, or all but alpha.

    Where `onto` is given, a file on another grid is refused, or resampled by `kernel`.
    Raises DataError, naming the file, for whatever can't be read in full.
    """
    chosen = _chosen(paths, bands)
    parts = [
        _read_file(path, indices, window, shrink, onto=onto, kernel=kernel) for path, indices in _by_file(paths, chosen)
    ]
    kinds = {values.dtype for values, _ in parts}
    if len(kinds) > 1:
        raise DataError(f"{paths[0]}: {' and '.join(sorted(map(str, kinds)))} values among the files of one image")
    values, masks = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    # A dark pixel of an 8-bit picture may hold the nodata value in one channel; elsewhere one gap spoils the pixel.
    valid = masks.any(axis=0) if values.dtype == np.uint8 else masks.all(axis=0)
    if values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=0)
    if window is None and not valid.any():
        raise DataError(f"{paths[0]}: no valid pixel; all {valid.size} are NaN or nodata")
    return Image(paths[0], values, valid, chosen)


def _chosen(paths: Sequence[str], bands: Bands) -> tuple[int, ...]:
    """Bands by their number through all files."""
    heads = [head(path) for path in paths]
    offsets = np.cumsum([0, *(found.count for found in heads)])
    visible = [int(offset) + band for offset, found in zip(offsets, heads, strict=False) for band in found.visible]
    chosen = bands(len(visible)) if callable(bands) else tuple(bands or visible)
    wrong = [band for band in chosen if not 1 <= band <= offsets[-1]]
    if wrong:
        raise DataError(f"{', '.join(paths)}: has no band {wrong[0]}; bands are 1 to {offsets[-1]}")
    return chosen


def _by_file(paths: Sequence[str], chosen: tuple[int, ...]) -> Iterator[tuple[str, list[int]]]:
    """Each run of chosen bands that stand in one file."""
    offsets = np.cumsum([0, *(head(path).count for path in paths)])
    runs: list[tuple[int, list[int]]] = []
    for band in chosen:
        file = int(np.searchsorted(offsets, band)) - 1
        if not runs or runs[-1][0] != file:
            runs.append((file, []))
        runs[-1][1].append(band - int(offsets[file]))
    return ((paths[file], indices) for file, indices in runs)


def _read_file(
    path: str, indices: list[int], window: Window | None, shrink: int, *, onto: Grid | None, kernel: str
) -> tuple[np.ndarray, np.ndarray]:
    """Values and validity (B, H, W) of some bands."""
    if onto is not None and kernel == "none":
        refuse_other(onto, head(path).grid)
    with _opened(path) as file, _on_grid(file, path, onto, kernel) as warped:
        rows, columns = window.shape if window else (warped.height, warped.width)
        part = window and ((window.row, window.row + rows), (window.column, window.column + columns))
        shape = (len(indices), -(-rows // shrink), -(-columns // shrink))
        values = warped.read(indices, window=part, out_shape=shape)
        return values, warped.read_masks(indices, window=part, out_shape=shape) > 0


@contextmanager
def _opened(path: str, *, for_pixels: bool = True) -> Iterator[Any]:
    """An open rasterio file whose errors, also while it is read, become DataError."""
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    kind = driver(path)
    if kind == "PNG" and for_pixels:
        refuse_broken_png(path)
    try:
        with rasterio.Env(**GDAL), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a PNG has no place on Earth
            with rasterio.open(PurePath(path), driver=kind) as file:  # a str with # or ! would be taken apart
                _refuse_unusable(path, file)
                yield file
    except (RasterioError, CPLE_BaseError, UnicodeDecodeError, MemoryError) as error:  # damaged keys raise any of these
        raise DataError(f"{path}: can't be read as {kind}: {error.__cause__ or error}") from None


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What GDAL warns of meanwhile."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("rasterio._env")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _on_grid(file: Any, path: str, onto: Grid | None, kernel: str) -> Any:
    """The file itself where it lies on the grid, or is not asked to; else the file resampled."""
    grid = head(path).grid
    if onto is None or difference(onto, grid) is None:
        return nullcontext(file)
    if not (onto.crs and grid.crs):
        refuse_other(onto, grid)
    from rasterio import Affine
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    has_alpha = any(band.name == "alpha" for band in file.colorinterp)
    if file.nodata is not None or has_alpha:
        gaps = {}
    elif file.dtypes[0] == "uint8":
        gaps = {"add_alpha": True}  # black is a value but at the border, whose rim is blended with it
    else:
        # A zero in any band says nodata here: it must not be blended into its neighbours, band by band.
        gaps = {"src_nodata": 0, "nodata": 0, "UNIFIED_SRC_NODATA": "NO"}
    return WarpedVRT(
        file, crs=onto.crs, transform=Affine(*onto.transform), height=onto.shape[0], width=onto.shape[1],
        resampling=Resampling[kernel], **gaps,
    )  # fmt: skip


def head(path: str) -> Head:
    """The head of a file; read again only when its size or time of change differs. Raises DataError."""
    driver(path)  # says what is wrong with a path that is no image
    found = status(path)
    return _head(path, found.st_size, found.st_mtime_ns)


@cache
def _head(path: str, size: int, mtime_ns: int) -> Head:
    with _complaints() as said, _opened(path, for_pixels=False) as file:
        corrupt = [message for message in said if "corrupt" in message]
        if corrupt:  # GDAL would go on without the georeference
            raise DataError(f"{path}: {corrupt[0]}")
        placed = file.crs is not None or not file.transform.is_identity
        grid = Grid(
            path, (file.height, file.width), file.crs.to_string() if file.crs is not None else None,
            tuple(file.transform)[:6] if placed else None,
        )  # fmt: skip
        visible = tuple(index for index, band in enumerate(file.colorinterp, 1) if band.name != "alpha")
        return Head(grid, visible, file.count)


def _refuse_unusable(path: str, file: Any) -> None:
    samples = file.width * file.height * file.count
    if samples > PIXEL_LIMIT:
        size = samples * np.dtype(file.dtypes[0]).itemsize
        if file.driver != "GTiff" or size > PACKED_LIMIT * os.path.getsize(path):
            declared = f"{file.width} x {file.height} x {file.count} values"
            raise DataError(f"{path}: declares {declared}; at most {PIXEL_LIMIT}")
    if any(np.dtype(kind).kind not in "uif" for kind in file.dtypes):
        raise DataError(f"{path}: holds {file.dtypes[0]} values; allowed are real numbers (detect and multilook first)")
    if any(band.name == "palette" for band in file.colorinterp):
        raise DataError(f"{path}: holds palette indices, not values; convert it to RGB or grey")
    if len(file.subdatasets) > 1:
        raise DataError(f"{path}: holds {len(file.subdatasets)} images (pages); one a file")
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
    if bits and int(bits) < 8:
        raise DataError(f"{path}: holds {bits}-bit values: a mask, not an image; allowed are 8 bits or more")


def content_digest(path: str) -> str:
    """sha256 of a file's bytes; read again only when its size or time of change differs. Raises DataError."""
    found = status(path)
    try:
        return _content_digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


@cache
def _content_digest(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
