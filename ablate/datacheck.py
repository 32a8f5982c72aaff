"""`ablate data check`: what a data set holds and what is wrong with it, before it wastes a night."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ablate.datachecked import Checked, clipped_shares, mean
from ablate.datafaults import faults
from trainers.checks.alignment import Alignment, align
from trainers.checks.baselines import baselines
from trainers.checks.borders import methods_by_content
from trainers.checks.deformation import Affine
from trainers.checks.examination import Examination, Sample, code_of, examine, sample, spread_over_scenes
from trainers.checks.leaks import Finding, Tile, by_bounds, by_scene
from trainers.domains import Scaling
from trainers.families import LAYOUTS, build, part_name
from trainers.layouts._common import Data, Source
from trainers.pairs import DataError, Left, Pair, Window
from trainers.splits import SPLITS, split_of_pairs
from trainers.survey import survey

SHOWN_LEAKS = 20  # of each method, in the document
CORNER = 64  # px
TOUCHING = 1.0  # px: images of two splits nearer than that continue one another


def check(data: Data, *, assumed: Sequence[str] = ()) -> Checked:
    """Examine a data set; `assumed` is what was guessed of it beforehand.

    Raises DataError where nothing of it can be listed or read at all.
    """
    source, scalings, unread = _surveyed(data)
    examination = examine(data, source, scalings)
    examination.left += unread
    pairs = [look.pair for look in examination.looks]
    splits, unsplit = _split(data, source, pairs)
    samples = sample(data, source, scalings, pairs)
    return Checked(
        data, source, scalings, examination, splits, unsplit, tuple(_leaks(data, examination, splits)),
        _alignment(samples), _references(samples, splits), tuple(samples), tuple(assumed),
    )  # fmt: skip


def _surveyed(data: Data) -> tuple[Source, tuple[Scaling, Scaling], list[Left]]:
    """The source and its scalings; pairs that can't be read, where one of them kept the survey from its end."""
    source = build(LAYOUTS, data)
    try:
        return source, survey(data, source), []
    except DataError:
        kept, lost = [], []
        for pair in source.pairs:
            try:
                _try(source, pair)
                kept.append(pair)
            except DataError as error:
                lost.append(Left(pair.name, code_of(str(error)), str(error)))
        if not kept or not lost:
            raise
        readable = _Readable(source, kept)
        return readable, survey(data, readable), lost


def _try(source: Source, pair: Pair) -> None:
    """Read the first and the last corner of a pair: enough to see that a file is no image, or cut. Raises DataError."""
    rows, columns = source.shape(pair)
    side = min(CORNER, rows, columns)
    for window in (Window(0, 0, side, side), Window(rows - side, columns - side, side, side)):
        source.read(pair, window)


class _Readable:
    """A source without the pairs that can't be read."""

    def __init__(self, source: Source, pairs: Sequence[Pair]):
        self._source, self.pairs = source, pairs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _split(data: Data, source: Source, pairs: Sequence[Pair]) -> tuple[dict[str, str], str]:
    try:
        return split_of_pairs(data, source, pairs), ""
    except DataError as error:
        return {}, str(error)


def _leaks(data: Data, found: Examination, splits: Mapping[str, str]) -> Iterator[Finding]:
    if not splits:
        return
    images = [Tile(look.pair.name, look.pair.scene, splits[look.pair.name]) for look in found.looks]
    yield by_scene(images)
    footprints = [found.footprints[look.pair.name] for look in found.looks]
    if any(footprints):
        yield by_bounds(images, footprints, guard=max(data.split.guard, TOUCHING))
    tiles = [Tile(name, scene, splits[name.rsplit(":", 2)[0]]) for name, scene in found.tiles]
    yield from methods_by_content(tiles, found.signatures)


def _alignment(samples: Sequence[Sample]) -> Alignment | None:
    if not samples:
        return None
    tiles = ((one.images.sar, one.images.optical, one.images.mask) for one in samples)
    return align(tiles, [one.pair.scene for one in samples], places=[one.place for one in samples])


def _references(samples: Sequence[Sample], splits: Mapping[str, str]) -> dict[str, float] | None:
    """On the sampled validation pairs, from the sampled training pairs; on all of them where there is no split."""
    train = [one for one in samples if splits.get(one.pair.name, "train") == "train"]
    judged = [one for one in samples if splits.get(one.pair.name, "train") == "validation"] or list(samples)
    arrays = ([(one.images.sar, one.images.optical, one.images.mask) for one in part] for part in (train, judged))
    return baselines(*arrays, [one.pair.scene for one in judged])


# -- as a document ------------------------------------------------------------------------------


def document(found: Checked) -> dict[str, Any]:
    """What `--json` prints; numbers with four decimals."""
    return rounded(_document(found))


def rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(float(value), 4) if isinstance(value, float) else value


def _document(found: Checked) -> dict[str, Any]:
    left = Counter(one.reason for one in found.examination.left)
    tiles = sum(look.tiles for look in found.looks)
    dropped_tiles = sum(look.dropped_tiles for look in found.looks)
    return {
        "layout": part_name(found.data),
        "from": str(getattr(found.data, "root", "") or getattr(found.data, "table", "")),
        "assumed": list(found.assumed),
        "pairs": len(found.looks),
        "tiles": {"whole": tiles, "dropped_for_nodata": dropped_tiles, "side": found.data.tile},
        "dropped": {"counts": dict(sorted(left.items())), "list": [asdict(one) for one in found.examination.left]},
        "domains": _domains(found),
        "grid": _grid(found),
        "scenes": _scenes(found),
        "misregistration": _misregistration(found.alignment),
        "references": found.references,
        "leaks": [_leak(one) for one in found.leaks],
        "warnings": [asdict(fault) for fault in faults(found)],
    }  # fmt: skip


def _domains(found: Checked) -> dict[str, Any]:
    clipped = clipped_shares(found.looks)
    return {
        side: asdict(scaling) | {"clipped": list(clipped[place])}
        for place, (side, scaling) in enumerate(zip(("sar", "optical"), found.scalings, strict=True))
    } | {"masked": mean(look.masked for look in found.looks)}


def _grid(found: Checked) -> dict[str, Any]:
    footprints = [footprint for footprint in found.examination.footprints.values() if footprint]
    shapes = Counter("x".join(map(str, look.shape)) for look in found.looks)
    return {
        "georeferenced": len(footprints), "crs": sorted({footprint.crs for footprint in footprints}),
        "shapes": dict(shapes.most_common(20)), "resample": found.data.resample,
        "differing": sum(one.reason == "grid" for one in found.examination.left),
    }  # fmt: skip


def _scenes(found: Checked) -> dict[str, Any]:
    sizes = Counter(look.pair.scene for look in found.looks)
    by_split = {split: len({look.pair.scene for look in found.looks if found.splits.get(look.pair.name) == split})
                for split in SPLITS}  # fmt: skip
    return {"count": len(sizes), "largest": dict(sizes.most_common(10)), "splits": by_split, "unsplit": found.unsplit}


def _misregistration(alignment: Alignment | None) -> dict[str, Any] | None:
    if alignment is None:
        return None
    scenes = [
        {"scene": one.scene, "tiles": one.num_tiles, "dy": one.estimate and one.estimate.dy,
         "dx": one.estimate and one.estimate.dx, "peak": one.estimate and one.estimate.peak, "clear": one.clear,
         "spread": one.spread, "affine": _affine(one.affine)}
        for one in alignment.scenes
    ]  # fmt: skip
    names = ("median_dy", "median_dx", "spread", "share_beyond_2px", "peak", "shuffled_peak", "verdict")
    return {name: getattr(alignment, name) for name in names} | {"scenes": scenes}


def _affine(found: Affine | None) -> dict[str, Any] | None:
    """How the shift changes over a scene, for each 1,000 px down and right."""
    if found is None:
        return None
    (y_down, y_right, _), (x_down, x_right, _) = (1000 * found.matrix).tolist()
    return {
        "dy_per_1000_px": {"down": y_down, "right": y_right}, "dx_per_1000_px": {"down": x_down, "right": x_right},
        "residual": found.residual,
    }  # fmt: skip


def _leak(found: Finding) -> dict[str, Any]:
    whole = asdict(replace(found, leaks=found.leaks[:SHOWN_LEAKS]))
    return whole | {"leaking": found.leaking, "listed": len(whole["leaks"])}


def shown_pairs(found: Checked, count: int) -> list[Sample]:
    """Samples for a picture sheet: scenes take turns."""
    first = {one.pair: one for one in reversed(found.samples)}
    return [first[pair] for pair in spread_over_scenes(list(first), count)]
