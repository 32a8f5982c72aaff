"""Where pixels lie on the ground: two images are pairs pixel by pixel only on one grid (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.pairs import DataError

TOLERANCE = 0.01  # px: what rounding of a transform may move a corner by


@dataclass(frozen=True)
class Grid:
    """Rows, columns and georeference of a file. `transform` holds GDAL's six numbers; it and `crs` are None where
    the file states none.
    """

    path: str
    shape: tuple[int, int]
    crs: str | None = None
    transform: tuple[float, ...] | None = None


def difference(one: Grid, other: Grid) -> str | None:
    """What keeps the pixels of two files from showing the same ground, with both values; None on one grid."""
    if one.crs and other.crs and one.crs != other.crs:
        return f"{one.path}: CRS {one.crs}, but {other.path}: CRS {other.crs}"
    if one.transform and other.transform and not _same_transform(one, other):
        return f"{one.path}: transform {one.transform}, but {other.path}: transform {other.transform}"
    if one.shape != other.shape:
        rows, columns = one.shape
        return f"{one.path}: {rows} x {columns} px, but {other.path}: {other.shape[0]} x {other.shape[1]} px"
    return None


def refuse_other(one: Grid, other: Grid, *, remedy: str = "") -> None:
    """Raise DataError unless both lie on one grid; `remedy` says what to do, by default for SAR and optical."""
    said = difference(one, other)
    if said is None:
        return
    if one.crs and other.crs:
        usual = "set data.resample (bilinear, ...) to bring the optical image onto the SAR's grid"
    else:
        usual = "without a CRS in both they can't be brought onto one grid"
    raise DataError(f"{said}; pixels don't show the same ground: {remedy or usual}")


def _same_transform(one: Grid, other: Grid) -> bool:
    """Whether no corner of the first image moves by more than a hundredth of a pixel."""
    rows, columns = one.shape
    (a, b, c, d, e, f), (a2, b2, c2, d2, e2, f2) = one.transform, other.transform
    pixel = max(abs(a), abs(b), abs(d), abs(e))
    corners = [(x, y) for x in (0, columns) for y in (0, rows)]
    moves = [
        max(abs((a - a2) * x + (b - b2) * y + c - c2), abs((d - d2) * x + (e - e2) * y + f - f2)) for x, y in corners
    ]
    return max(moves) <= TOLERANCE * pixel
