"""What the numbers of a data set mean, found by looking at some of its files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainers import ranges
from trainers.domains import Scaling, detect_sar, optical_scaling, sar_scaling
from trainers.layouts._common import Data, Source
from trainers.pairs import DataError, Pair
from trainers.reading import Reader
from trainers.splits import split_of_pairs

log = logging.getLogger(__name__)

SURVEYED = 64  # files whose values are looked at
SEEN = 1024  # px a side of each, at most; of larger ones every second pixel, or fewer
SAMPLES = 4096  # values of each


def survey(data: Data, source: Source) -> tuple[Scaling, Scaling]:
    """The scalings of SAR and optical; an `auto` SAR domain is detected over many files at once.

    Ranges that data give themselves are those of the training scenes; of all where they can't be split.
    """
    known = source.sar_domain if data.sar.domain == "auto" else data.sar.domain
    auto = known is None
    pairs = source.pairs[:: -(-len(source.pairs) // SURVEYED)] if auto else source.pairs[:1]
    samples = []
    for pair in pairs:
        sar, optical = source.read(pair, shrink=-(-max(source.shape(pair)) // SEEN))
        values = sar.values[:, sar.valid].ravel()
        values = values[values != 0]
        samples.append(values[:: max(1, values.size // SAMPLES)])
    kind = sar.values.dtype
    seen = np.concatenate(samples)
    domain = detect_sar(seen, kind, example=sar.path) if auto else known
    said = _seen(seen, len(pairs)) if auto else "known of the layout" if data.sar.domain == "auto" else "declared"
    log.info("SAR values are %s: %s", domain, said)
    scalings = (
        replace(
            sar_scaling(data.sar, domain=domain, dtype=kind, bands=len(sar.values), example=sar.path), domain_from=said
        ),
        optical_scaling(
            data.optical,
            dtype=optical.values.dtype,
            bands=len(optical.values),
            default=source.optical_range,
            example=optical.path,
        ),
    )
    return _with_ranges(scalings, data, source)


def _seen(values: np.ndarray, files: int) -> str:
    if not values.size:
        return f"detected in {files} files"
    p1, median, p99 = np.percentile(values.astype(np.float64), [1, 50, 99])
    return f"detected in {files} files: median {median:.4g}, 1st to 99th percentile {p1:.4g} to {p99:.4g}"


def _with_ranges(scalings: tuple[Scaling, Scaling], data: Data, source: Source) -> tuple[Scaling, Scaling]:
    """The scalings with the limits that are still to be found."""
    finds = (
        {"fixed": None, "percentiles": ranges.percentiles(*data.sar.percentiles), "standard": ranges.standard}[
            data.sar.range
        ],
        data.optical.percentiles and ranges.percentiles(*data.optical.percentiles),
    )
    if not any(finds):
        return scalings
    *pixels, count = ranges.sample(Reader(source, scalings), _training(data, source))
    sar, optical = (
        _limited(scaling, ranges.found(values, find, side=side, num_pairs=count)) if find else scaling
        for side, scaling, values, find in zip(("SAR", "optical"), scalings, pixels, finds, strict=True)
    )
    return sar, optical


def _limited(scaling: Scaling, limits: ranges.Limits) -> Scaling:
    low, high, said = limits
    return replace(scaling, low=low, high=high, range_from=said)


def _training(data: Data, source: Source) -> Sequence[Pair]:
    try:
        splits = split_of_pairs(data, source, source.pairs)
    except DataError:
        return source.pairs  # too few scenes: the data can't be prepared, but they can be looked at
    return [pair for pair in source.pairs if splits[pair.name] == "train"]
