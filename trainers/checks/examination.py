"""One walk through a data set before anything is prepared: what each pair shows, and what is kept to compare them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainers.checks import quality
from trainers.checks.leaks import Footprint
from trainers.checks.signatures import SMALLEST, Signature, signature
from trainers.domains import Scaling
from trainers.layouts._common import Data, Source
from trainers.pairs import DataError, Left, Pair, Window
from trainers.reading import Reader, Scaled
from trainers.windows import Block, blocks, is_one_block

SAMPLED = 64  # windows that are kept to measure shifts on
SAMPLE_SIDE = 256  # px of each, at most
MOST_OF_ONE = 9  # windows of one pair
MASKED_LIMIT = 0.25  # as preparation drops tiles
CLIPPED_AWAY = 0.5  # share of a band


@dataclass(frozen=True)
class Look:
    """What one pair shows. Shares are of its valid pixels, `clipped` a band each; `tiles` counts whole tiles."""

    pair: Pair
    shape: tuple[int, int]
    masked: float
    clipped: tuple[tuple[float, ...], tuple[float, ...]]
    tiles: int
    dropped_tiles: int
    constant_sar: bool
    constant_optical: bool
    bright: float
    swapped: bool | None


@dataclass
class Examination:
    """All pairs that could be read, those that could not (`left`), and tiles with their signatures."""

    looks: list[Look] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    tiles: list[tuple[str, str]] = field(default_factory=list)  # name, scene
    signatures: list[Signature] = field(default_factory=list)
    footprints: dict[str, Footprint | None] = field(default_factory=dict)  # by pair
    samples: list[tuple[Pair, Scaled]] = field(default_factory=list)


def examine(data: Data, source: Source, scalings: tuple[Scaling, Scaling]) -> Examination:
    """Read every pair once, window by window. A pair that can't be read is left with its reason, not raised."""
    found = Examination(left=list(source.left))
    reader, whole = Reader(source, scalings), all_alike(source)
    for pair in source.pairs:
        try:
            _look(pair, data, source, reader, found, whole=whole)
        except DataError as error:
            found.left.append(Left(pair.name, code_of(str(error)), str(error)))
    return found


def all_alike(source: Source) -> bool:
    """Whether all images have one size and are read whole: tiles cut beforehand, to be compared as they are."""
    shapes = set()
    for pair in source.pairs:
        try:
            shapes.add(source.shape(pair))
        except DataError:
            continue
    return len(shapes) == 1 and all(is_one_block(shape) and min(shape) >= SMALLEST for shape in shapes)


@dataclass(frozen=True)
class Sample:
    """A window of a pair, and where its middle (y, x) lies in its scene, in px; None where that isn't known."""

    pair: Pair
    images: Scaled
    place: tuple[float, float] | None


def sample(data: Data, source: Source, scalings: tuple[Scaling, Scaling], pairs: Sequence[Pair]) -> list[Sample]:
    """Up to SAMPLED windows of one size, scenes taking turns: the middle of a pair, or several where pairs are few."""
    large = [pair for pair in pairs if min(source.shape(pair)) >= data.tile]  # one tiny image would make all small
    chosen = spread_over_scenes(large, SAMPLED)
    if not chosen:
        return []
    shapes = {pair: source.shape(pair) for pair in chosen}
    side = min(SAMPLE_SIDE, *(min(shape) for shape in shapes.values()))
    each = min(MOST_OF_ONE, max(1, SAMPLED // len(chosen)))
    alone = Counter(pair.scene for pair in pairs)
    reader, found = Reader(source, scalings), []
    for pair in chosen:
        corner = _corner(pair, single=alone[pair.scene] == 1)
        for window in _spread_windows(shapes[pair], side, each):
            middle = (window.row + side / 2, window.column + side / 2)
            place = None if corner is None else (corner[0] + middle[0], corner[1] + middle[1])
            found.append(Sample(pair, reader.read(pair, window), place))
    return found


def _spread_windows(shape: tuple[int, int], side: int, count: int) -> list[Window]:
    """Up to `count` squares apart from each other, evenly spread; the middle one alone where only one fits."""
    across = min(int(count**0.5), *(size // side for size in shape))
    if across < 2:
        return [_middle(shape, side)]
    rows, columns = (np.linspace(0, size - side, across).round().astype(int).tolist() for size in shape)
    return [Window(row, column, side, side) for row in rows for column in columns]


def _corner(pair: Pair, *, single: bool) -> tuple[float, float] | None:
    """Where the pair's upper left corner lies in its scene (y, x; px): by its georeference, or 0 where it is alone."""
    found = footprint(pair)
    if found is not None and not (found.transform[1] or found.transform[3]):
        a, _, c, _, e, f = found.transform
        return f / e, c / a
    return (0.0, 0.0) if single else None


def spread_over_scenes(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Up to `count` pairs: scenes take turns, and within a scene the picks are spread evenly."""
    queues: dict[str, list[Pair]] = {}
    for pair in pairs:
        queues.setdefault(pair.scene, []).append(pair)
    each = max(1, -(-count // max(1, len(queues))))
    queues = {scene: members[:: max(1, len(members) // each)] for scene, members in queues.items()}
    chosen: list[Pair] = []
    while len(chosen) < count and any(queues.values()):
        for scene in sorted(queues):
            if queues[scene] and len(chosen) < count:
                chosen.append(queues[scene].pop(0))
    return sorted(chosen, key=lambda pair: pair.name)


def _look(
    pair: Pair, data: Data, source: Source, reader: Reader, found: Examination, *, whole: bool
) -> None:  # fmt: skip
    """Add what a pair shows. Its signatures are of its tiles, or, where images are compared `whole`, of its squares."""
    shape = source.shape(pair)
    seen = _Seen()
    names: list[tuple[str, str]] = []
    signatures: list[Signature] = []
    for block in blocks(shape, data.tile, data.tile):
        images = reader.read(pair, block.window)
        seen.add(images)
        for (row, column), tile in _tiles(block, images, data.tile):
            if 1 - tile[2].mean() > MASKED_LIMIT:
                seen.dropped += 1
                continue
            seen.tiles += 1
            if not whole:
                names.append((f"{pair.name}:{row}:{column}", pair.scene))
                signatures.append(signature(*tile))
        for (row, column), square in _squares(images) if whole else ():
            names.append((f"{pair.name}:{row}:{column}", pair.scene))
            signatures.append(signature(*square))
    found.tiles += names
    found.signatures += signatures
    found.footprints[pair.name] = footprint(pair)
    found.looks.append(seen.look(pair, shape))


class _Seen:
    """Sums over the blocks of one pair."""

    def __init__(self) -> None:
        self.tiles = self.dropped = 0
        self.pixels = self.valid = 0
        self.clipped: list[np.ndarray | float] = [0.0, 0.0]
        self.constant = [True, True]
        self.bright = 0.0
        self.votes: list[bool] = []

    def add(self, images: Scaled) -> None:
        mask = images.mask
        self.pixels, self.valid = self.pixels + mask.size, self.valid + int(mask.sum())
        for side, (image, clipped) in enumerate(zip((images.sar, images.optical), images.clipped, strict=True)):
            self.clipped[side] = self.clipped[side] + clipped.sum(axis=(1, 2))
            self.constant[side] = self.constant[side] and quality.constant(image, mask)
        self.bright += quality.bright_share(images.optical, mask) * float(mask.sum())
        vote = quality.seems_swapped(images.sar, images.optical, mask)
        self.votes += [] if vote is None else [vote]

    def look(self, pair: Pair, shape: tuple[int, int]) -> Look:
        shares = tuple(tuple((np.atleast_1d(count) / max(self.valid, 1)).tolist()) for count in self.clipped)
        # What is clipped all over looks constant and is not: the range is wrong.
        constant = [flat and min(share) < CLIPPED_AWAY for flat, share in zip(self.constant, shares, strict=True)]
        swapped = sum(self.votes) * 2 > len(self.votes) if self.votes else None
        return Look(
            pair, shape, 1 - self.valid / max(self.pixels, 1), shares, self.tiles, self.dropped, *constant,
            self.bright / max(self.valid, 1), swapped,
        )  # fmt: skip


def _tiles(block: Block, images: Scaled, tile: int) -> Iterator[tuple[tuple[int, int], tuple]]:
    for row, column in block.corners:
        top, left = row - block.window.row, column - block.window.column
        inside = np.s_[:, top : top + tile, left : left + tile]
        yield (row, column), (images.sar[inside], images.optical[inside], images.mask[inside[1:]])


def _squares(images: Scaled) -> Iterator[tuple[tuple[int, int], tuple]]:
    """The largest squares at an image's upper left and lower right corner: between them they have all its borders."""
    rows, columns = images.mask.shape
    side = min(rows, columns)
    for row, column in sorted({(0, 0), (rows - side, columns - side)}):
        inside = np.s_[:, row : row + side, column : column + side]
        if images.mask[inside[1:]].any():
            yield (row, column), (images.sar[inside], images.optical[inside], images.mask[inside[1:]])


def _middle(shape: tuple[int, int], side: int) -> Window:
    return Window((shape[0] - side) // 2, (shape[1] - side) // 2, side, side)


def footprint(pair: Pair) -> Footprint | None:
    """Where a pair lies; None where its files are not georeferenced, or it has none."""
    if not pair.sar:
        return None
    from trainers.raster import head

    grid = head(pair.sar[0]).grid
    if grid.crs is None or grid.transform is None:
        return None
    if pair.window is None:
        return Footprint(grid.crs, grid.transform, grid.shape)
    a, b, c, d, e, f = grid.transform
    row, column = pair.window.row, pair.window.column
    return Footprint(grid.crs, (a, b, c + a * column + b * row, d, e, f + d * column + e * row), pair.window.shape)


# What a sentence of DataError is about, for tables and scripts; the first that fits.
CODES: Mapping[str, str] = {
    "declares ": "too_large", "no such file": "missing", "can't be read": "unreadable", "truncated": "unreadable",
    "Permission denied": "unreadable", "begins with": "format", "CRS ": "grid", "transform (": "grid",
    "px, but": "grid", "no valid pixel": "nodata", "bands": "bands", "values": "values",
}  # fmt: skip


def code_of(sentence: str) -> str:
    """The code of a sentence that begins with a path, whatever the path is called."""
    said = re.sub(r"(?:^|(?<=but ))\S*[/\\]\S*: ", "", sentence)
    return next((code for words, code in CODES.items() if words in said), "unreadable")
