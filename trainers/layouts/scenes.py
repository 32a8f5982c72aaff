"""Large co-registered GeoTIFF scenes, cut by window and never loaded whole; one can be split into blocks."""

from __future__ import annotations

from typing import Annotated

from trainers.layouts import folders
from trainers.layouts._common import Files
from trainers.layouts._recognised import Recognised
from trainers.options import Bounds, Count, options
from trainers.pairs import DataError, Pair, Window
from trainers.windows import HALO

LOOKS_LIKE = "two folders of large images with equal names"
LARGE, FEW_SIDE = 1024, 512  # px a side: of images to be cut by window, and of few ones to be divided


@options
class Options(folders.Options):
    """Folders and patterns are those of `folders`. `stride` is the step between training tiles.

    With `blocks: n` each scene is n x n blocks, which are split as scenes of their own, so that one scene is enough;
    `gap` px between neighbouring blocks are left out. Images of one scene must then lie on one grid: a block of them
    all stays together. Blocks that touch are alike all the same: scores of whole scenes, held out, are worth more.
    """

    stride: Count | None = None  # px; the tile by default
    blocks: Annotated[int, Bounds(low=1, high=64)] = 1
    gap: Annotated[int, Bounds(low=0, high=4096)] = HALO  # px: no filter, spline or shift looks further


def build(data: Options) -> Files:
    pairs, left = folders.pair_up(data)
    if data.blocks > 1:
        _refuse_other_grids(pairs)
        pairs = [block for pair in pairs for block in _blocks(data, pair)]
    return Files(pairs, data, stride=data.stride or data.tile, left=left)


def _refuse_other_grids(pairs: list[Pair]) -> None:
    from trainers.grids import refuse_other
    from trainers.raster import head

    first: dict[str, Pair] = {}
    for pair in pairs:
        one = first.setdefault(pair.scene, pair)
        refuse_other(head(one.sar[0]).grid, head(pair.sar[0]).grid, remedy="blocks of one scene need one grid")


def _blocks(data: Options, pair: Pair) -> list[Pair]:
    """The pair's n x n blocks, each its own scene. Raises DataError where none holds a tile."""
    from trainers.raster import pair_shape

    shape = pair_shape(pair)
    sides = [(size - (data.blocks - 1) * data.gap) // data.blocks for size in shape]
    if min(sides) < data.tile:
        raise DataError(
            f"{pair.sar[0]}: {shape[0]} x {shape[1]} px give {data.blocks} x {data.blocks} blocks of {sides[0]} x "
            f"{sides[1]} px with data.gap {data.gap}; a block must hold a tile (data.tile {data.tile})"
        )
    places = [(row, column) for row in range(data.blocks) for column in range(data.blocks)]
    return [
        Pair(
            f"{pair.name}.r{row}c{column}", f"{pair.scene}.r{row}c{column}", pair.sar, pair.optical,
            Window(row * (sides[0] + data.gap), column * (sides[1] + data.gap), *sides),
        )
        for row, column in places
    ]  # fmt: skip


def recognise(root: str) -> Recognised | None:
    """Folders whose images are large, or too few to be split as they are."""
    found = folders.recognise(root)
    if found is None:
        return None
    from trainers.raster import pair_shape

    pairs, _ = folders.pair_up(Options(**found.options))
    try:
        least = min(min(pair_shape(pair)) for pair in pairs[:20])
    except DataError:
        return None
    few = len({pair.scene for pair in pairs}) < 3 and least >= FEW_SIDE
    if least <= LARGE and not few:
        return None
    blocks = {"blocks": 4} if few else {}
    doubts = ("few images: each is divided into 4 x 4 blocks that are split as scenes",) if few else ()
    return Recognised({**found.options, **blocks}, found.words, sure=3, found=found.found, doubts=doubts)
