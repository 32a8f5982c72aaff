"""What is looked at before data are prepared: the leaks that file heads and contents tell at once."""

from __future__ import annotations

from collections.abc import Mapping

from trainers.checks.examination import footprint
from trainers.checks.leaks import Tile, by_bounds
from trainers.layouts._common import Data, Source
from trainers.pairs import DataError, Pair, some
from trainers.splits import torn_scenes

SEEN = 1024  # px a side of an image that is looked at


def refuse_leaks(data: Data, source: Source, splits: Mapping[str, str]) -> list[str]:
    """Raise DataError where images of two splits overlap on the ground or are the same file.

    Where leaks are allowed, sentences about them instead. `splits` maps a pair's name to its split. What only pixels
    tell (`ablate data check`) is not looked at.
    """
    said = [*torn_scenes(source.pairs, splits), *_overlapping(source, splits), *_same_files(source, splits)]
    if said and not data.allow_leak:
        raise DataError(
            f"{'; '.join(said)}: scores on validation would reward memory. Name scenes so that neighbours share one, "
            "set data.split.guard: 1 to keep images together that touch, or set data.allow_leak: true, which the "
            "report prints"
        )
    return said


def _overlapping(source: Source, splits: Mapping[str, str]) -> list[str]:
    images = [Tile(pair.name, pair.scene, splits[pair.name]) for pair in source.pairs]
    found = by_bounds(images, [footprint(pair) for pair in source.pairs], guard=0.0)
    if not found.leaking:
        return []
    pairs = [f"{leak.one} ({leak.splits[0]}) and {leak.other} ({leak.splits[1]})" for leak in found.leaks]
    return [f"{found.found} pairs of images of different splits overlap on the ground: {some(pairs)}"]


def _same_files(source: Source, splits: Mapping[str, str]) -> list[str]:
    """Pairs of two splits with an equal image; one that shows a single value says nothing."""
    from trainers.raster import content_digest

    seen: dict[tuple, Pair] = {}
    twice = []
    for pair in source.pairs:
        for side, (paths, window) in enumerate(((pair.sar, pair.window), (pair.optical, pair.optical_window))):
            if not paths:
                continue
            other = seen.setdefault((side, *map(content_digest, paths), window or pair.window), pair)
            if splits[other.name] != splits[pair.name] and not _constant(source, pair, side):
                twice.append(f"{other.name} ({splits[other.name]}) and {pair.name} ({splits[pair.name]})")
    twice = list(dict.fromkeys(twice))
    return [f"{len(twice)} images stand in two splits under two names: {some(twice)}"] if twice else []


def _constant(source: Source, pair: Pair, side: int) -> bool:
    image = source.read(pair, shrink=-(-max(source.shape(pair)) // SEEN))[side]
    valid = image.values[:, image.valid]
    return not valid.size or bool((valid == valid[:, :1]).all())
