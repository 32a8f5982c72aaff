"""Reading image files through GDAL: three drivers, no remote files, a limit on pixels."""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from trainers.pairs import DataError, Pair

# GDAL drivers by the first bytes of a file: a VRT that calls itself .tif could name any file or address.
DRIVERS = {
    b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff",
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG",
}  # fmt: skip
PIXEL_LIMIT = 2**28  # samples in one file: a TIFF of 0.7 MB can declare 57 GB
SENTINEL2_BANDS = 10  # a stack of this many bands or more starts at B1
GDAL = {
    "GDAL_PAM_ENABLED": "NO",  # never write .aux.xml beside somebody's data
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no side files: what is hashed is what is read
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # a truncated JPEG is an error, not grey rows
}


@dataclass(frozen=True)
class Image:
    """Bands of one file as stored: values (B, H, W) in the file's type, valid (H, W) False at declared nodata and NaN.

    `transform` holds GDAL's six numbers; None, like `crs`, where the file is not georeferenced.
    """

    path: str
    values: np.ndarray
    valid: np.ndarray
    bands: tuple[int, ...]
    crs: str | None = None
    transform: tuple[float, ...] | None = None


def read_pair(pair: Pair, *, sar_bands: tuple[int, ...] | None, optical_bands: tuple[int, ...] | None):
    """The SAR and the optical Image of a pair. Raises DataError unless both lie on one grid."""
    sar = read(pair.sar, bands=sar_bands)
    optical = read(pair.optical, bands=optical_bands or optical_default)
    refuse_other_grid(sar, optical)
    return sar, optical


def optical_default(count: int) -> tuple[int, ...]:
    """Bands of red, green and blue, counted from 1, in a file of `count` bands (alpha not counted)."""
    if count >= SENTINEL2_BANDS:
        return 4, 3, 2
    return (1, 2, 3) if count >= 3 else (1,)


def read(path: str, *, bands: Any = None) -> Image:
    """The file's bands, counted from 1: a tuple, a function of their number, or None for all but alpha.

    Raises DataError, naming the file, for whatever can't be read in full.
    """
    with _opened(path) as file:
        chosen = _choose(file, bands)
        values = file.read(chosen)
        masks = file.read_masks(chosen) > 0
        georeferenced = file.crs is not None
        crs = file.crs.to_string() if georeferenced else None
        transform = tuple(file.transform)[:6] if georeferenced else None
    # A dark pixel of an 8-bit picture may hold the nodata value in one channel; elsewhere one gap spoils the pixel.
    valid = masks.any(axis=0) if values.dtype == np.uint8 else masks.all(axis=0)
    if values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=0)
        if not valid.any():
            raise DataError(f"{path}: no valid pixel; all {valid.size} are NaN or nodata")
    return Image(path, values, valid, chosen, crs, transform)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """An open rasterio file whose errors, also while it is read, become DataError."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    driver = _driver(path)
    if driver == "PNG":
        _refuse_broken_png(path)
    try:
        with rasterio.Env(**GDAL), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a PNG has no place on Earth
            with rasterio.open(path, driver=driver) as file:
                _refuse_unusable(path, file)
                yield file
    except (RasterioError, MemoryError) as error:
        raise DataError(f"{path}: can't be read as {driver}: {error.__cause__ or error}") from None


def _driver(path: str) -> str:
    """The GDAL driver for a local file. Raises DataError for any other."""
    if path.startswith("/vsi") or "://" in path or path.lower().startswith("http"):
        raise DataError(f"{path}: remote and virtual files are not read; copy it to a local file")
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    for magic, driver in DRIVERS.items():
        if start.startswith(magic):
            return driver
    allowed = ", ".join(sorted(set(DRIVERS.values())))
    raise DataError(f"{path}: begins with {start!r}, so it is not one of {allowed}")


def _refuse_broken_png(path: str) -> None:
    """Raise DataError unless every chunk is whole: GDAL fills the missing rows of a truncated PNG without a word."""
    with open(path, "rb") as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND":
            head = file.read(8)
            body = file.read(int.from_bytes(head[:4], "big") + 4) if len(head) == 8 else b""
            kind = head[4:]
            if zlib.crc32(kind + body[:-4]) != int.from_bytes(body[-4:], "big") or len(body) < 4:
                raise DataError(f"{path}: truncated or damaged: its PNG chunk at byte {file.tell()} is not whole")


def _refuse_unusable(path: str, file: Any) -> None:
    samples = file.width * file.height * file.count
    if samples > PIXEL_LIMIT:
        raise DataError(f"{path}: declares {file.width} x {file.height} x {file.count} values; at most {PIXEL_LIMIT}")
    if any(np.dtype(kind).kind not in "uif" for kind in file.dtypes):
        raise DataError(f"{path}: holds {file.dtypes[0]} values; allowed are real numbers (detect and multilook first)")
    if any(band.name == "palette" for band in file.colorinterp):
        raise DataError(f"{path}: holds palette indices, not values; convert it to RGB or grey")


def _choose(file: Any, bands: Any) -> tuple[int, ...]:
    visible = [index for index, band in enumerate(file.colorinterp, 1) if band.name != "alpha"]
    if callable(bands):
        return bands(len(visible))
    chosen = tuple(bands or visible)
    wrong = [band for band in chosen if not 1 <= band <= file.count]
    if wrong:
        raise DataError(f"{file.name}: has no band {wrong[0]}; bands are 1 to {file.count}")
    return chosen


def refuse_other_grid(sar: Image, optical: Image) -> None:
    """Raise DataError, with both values, unless the two images show the same ground pixel by pixel."""
    if sar.crs and optical.crs and sar.crs != optical.crs:
        raise DataError(f"{sar.path}: CRS {sar.crs}, but {optical.path}: CRS {optical.crs}; bring both onto one grid")
    shape, other = sar.values.shape[1:], optical.values.shape[1:]
    if sar.transform and optical.transform and not _same_grid(sar.transform, optical.transform, shape):
        raise DataError(
            f"{sar.path}: transform {sar.transform}, but {optical.path}: transform {optical.transform}; "
            "pixels don't show the same ground: resample one onto the other's grid"
        )
    if shape != other:
        raise DataError(
            f"{sar.path}: {shape[0]} x {shape[1]} px, but {optical.path}: {other[0]} x {other[1]} px (rows x columns)"
        )


def _same_grid(one: tuple[float, ...], other: tuple[float, ...], shape: tuple[int, ...]) -> bool:
    """Whether no corner of an image of that shape moves by more than a hundredth of a pixel."""
    rows, columns = shape
    (a, b, c, d, e, f), (a2, b2, c2, d2, e2, f2) = one, other
    pixel = max(abs(a), abs(b), abs(d), abs(e))
    corners = [(x, y) for x in (0, columns) for y in (0, rows)]
    moves = [
        max(abs((a - a2) * x + (b - b2) * y + c - c2), abs((d - d2) * x + (e - e2) * y + f - f2)) for x, y in corners
    ]
    return max(moves) <= 0.01 * pixel


def content_digest(path: str) -> str:
    """sha256 of a file's bytes; read again only when its size or time of change differs. Raises DataError."""
    try:
        status = os.stat(path)
        return _content_digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


@cache
def _content_digest(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
