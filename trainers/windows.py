"""How an image is walked through: in blocks of whole tiles, so that its size never decides what memory is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainers.pairs import Window

BLOCK = 1024  # px: an image up to this side is one block
HALO = 32  # px around a block that are read with it: filters, shifts of up to 16 px and splines look beyond it

Corner = tuple[int, int]  # row, column


@dataclass(frozen=True)
class Block:
    """A part of an image: what is read of it, and the upper left corners of its tiles, in the image's coordinates."""

    window: Window
    corners: tuple[Corner, ...]


def corners(shape: tuple[int, int], tile: int, stride: int) -> list[Corner]:
    """Upper left corners of the whole tiles of an image of that shape (rows, columns)."""
    rows, columns = (range(0, size - tile + 1, stride) for size in shape)
    return [(row, column) for row in rows for column in columns]


def blocks(shape: tuple[int, int], tile: int, stride: int) -> Iterator[Block]:
    """Blocks that hold every tile once; one block of the whole image where that is small, or holds no tile.

    A block's tiles span at most BLOCK px on a side (or one tile), and its window HALO more all round.
    """
    if is_one_block(shape):
        yield Block(Window(0, 0, *shape), tuple(corners(shape, tile, stride)))
        return
    starts = [list(range(0, size - tile + 1, stride)) for size in shape]
    for rows in _runs(starts[0], tile):
        for columns in _runs(starts[1], tile):
            (top, height), (left, width) = (
                _span(run, tile, size) for run, size in zip((rows, columns), shape, strict=True)
            )
            yield Block(Window(top, left, height, width), tuple((row, column) for row in rows for column in columns))


def is_one_block(shape: tuple[int, int]) -> bool:
    return max(shape) <= BLOCK


def _runs(starts: Sequence[int], tile: int) -> Iterator[Sequence[int]]:
    """Neighbouring starts, as many as fit into a block."""
    first = 0
    for at in range(1, len(starts) + 1):
        if at == len(starts) or starts[at] + tile - starts[first] > BLOCK:
            yield starts[first:at]
            first = at


def _span(run: Sequence[int], tile: int, size: int) -> tuple[int, int]:
    """Start and length of what a run of tiles covers with its halo."""
    low, high = max(0, run[0] - HALO), min(size, run[-1] + tile + HALO)
    return low, high - low
