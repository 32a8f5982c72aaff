"""Strips: one file a pair, whose left and right halves are SAR and optical (pix2pix A|B)."""

from __future__ import annotations

import os
from typing import Literal

from trainers.layouts._common import Data, Files
from trainers.layouts._naming import check_pattern, files_below, images, is_image, part_of
from trainers.layouts._recognised import Recognised, scene_pattern
from trainers.options import Path, options
from trainers.pairs import DataError, Left, Pair, Window, some, stem

LOOKS_LIKE = "images twice as wide as high, SAR and optical side by side"
LOOKED_AT = 20  # images


@options
class Options(Data):
    """`sar_side` is the half that is SAR. A grey image stored as three equal channels needs `sar: {bands: [1]}`.

    `scene_pattern` is a regular expression whose first group, searched in the name (relative to root), is the scene.
    """

    root: Path
    sar_side: Literal["left", "right"] = "left"
    scene_pattern: str | None = None

    def __post_init__(self) -> None:
        check_pattern("scene_pattern", self.scene_pattern)


def build(data: Options) -> Files:
    found = [_pair(data, name, path) for name, path in images(data.root).items()]
    pairs = [one for one in found if isinstance(one, Pair)]
    left = [one for one in found if isinstance(one, Left)]
    if not pairs:
        raise DataError(f"{data.root}: holds no strip of two halves: {some([one.detail for one in left])}")
    return Files(sorted(pairs, key=lambda pair: pair.name), data, stride=data.tile, left=left)


def _pair(data: Options, name: str, path: str) -> Pair | Left:
    """The two halves of a strip, or why it has none."""
    from trainers.raster import head

    try:
        rows, columns = head(path).grid.shape
    except DataError as error:
        return Left(name, "unreadable", str(error))
    if columns % 2:
        return Left(name, "odd_width", f"{path}: {columns} px wide; a strip has two halves of equal width")
    halves = [Window(0, start, rows, columns // 2) for start in (0, columns // 2)]
    sar, optical = halves if data.sar_side == "left" else reversed(halves)
    scene = part_of(name, data.scene_pattern, option="scene_pattern", where=data.root)
    return Pair(name, scene, (path,), (path,), sar, optical)


def recognise(root: str) -> Recognised | None:
    """Whether nearly all of some images are twice as wide as high."""
    from trainers.raster import head

    paths = list(filter(is_image, files_below(root)))
    shapes = []
    for path in paths[:: max(1, len(paths) // LOOKED_AT)]:
        try:
            shapes.append(head(path).grid.shape)
        except DataError:
            continue
    wide = sum(columns == 2 * rows for rows, columns in shapes)
    if len(shapes) < 2 or wide < 0.8 * len(shapes):
        return None
    pattern = scene_pattern([stem(os.path.relpath(path, root)) for path in paths])
    side = "SAR is taken to be the left half; if it is the right one, set base.data.sar_side: right"
    options = {"root": root, **({"scene_pattern": pattern} if pattern else {})}
    return Recognised(options, "strips, two images side by side in each file", sure=2, doubts=(side,))
