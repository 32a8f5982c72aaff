"""Cutting: pairs of images become tiles in [-1, 1] with masks, scene by scene, in bounded memory.

Written are sar.npy and optical.npy (N, C, tile, tile) float16 in [-1, 1], 0 where masked; mask.npy
(N, 1, tile, tile) uint8, 1 where both images hold data; meta.json.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.records import write_atomically
from trainers import misregistration
from trainers.domains import Scaling, detect_sar, has_data, optical_scaling, sar_scaling, storage
from trainers.families import part_name
from trainers.layouts._common import Data, Source
from trainers.pairs import DataError, Pair, some
from trainers.streams import numpy_generator

log = logging.getLogger(__name__)

PREPARATION = 1  # raise when prepared numbers or files change for equal input
MASKED_LIMIT = 0.25  # a tile with a larger share of masked pixels is dropped
SURVEYED = 64  # files whose values are looked at to detect the SAR domain
SAMPLES = 4096  # values of each
CLIPPED_LIMIT = 0.05  # a larger share of clipped values is worth a warning
SPLITS = ("train", "validation", "test")
TYPES = {"sar": np.float16, "optical": np.float16, "mask": np.uint8}


def cut(folder: Path, data: Data, source: Source, *, fingerprint: str) -> None:
    """Write the prepared data set into an empty folder. Raises DataError for input that can't be used."""
    splits = split_scenes([pair.scene for pair in source.pairs], **asdict(data.split))
    scalings = survey(data, source)
    tiles = _Tiles(folder, data.tile, [len(scaling.low) for scaling in scalings])
    split_of = {scene: split for split, scenes in splits.items() for scene in scenes}
    shifts = misregistration.shifts(splits["train"], data.misregistration, seed=data.split.seed)
    for pair in source.pairs:
        split = split_of[pair.scene]
        images = scaled(pair, source, scalings, shift=shifts.get(pair.scene))
        tiles.add(pair, split, *images, stride=source.stride if split == "train" else data.tile)
    arrays = tiles.close()
    _refuse_empty(tiles, splits, data)
    meta = {
        "schema": PREPARATION,
        "fingerprint": fingerprint,
        "layout": part_name(data),
        "tile": data.tile,
        "arrays": arrays,
        "splits": splits,
        "domains": {
            key: {**asdict(scaling), "clipped": tiles.clipped_shares(key)}
            for key, scaling in zip(("sar", "optical"), scalings, strict=True)
        },
        "dropped": tiles.dropped,
        "tiles": tiles.rows,
    }
    if shifts:
        meta["misregistration"] = shifts
    meta["warnings"] = _warnings(meta)
    for message in meta["warnings"]:
        log.warning("%s", message)
    write_atomically(folder / "meta.json", json.dumps(meta, indent=1))


def split_scenes(scenes: Sequence[str], *, validation: float, test: float, seed: int) -> dict[str, tuple[str, ...]]:
    """Scenes of train, validation and test, each whole; `scenes` names the scene of every pair.

    In a seeded order each scene goes where the largest share is still missing and it fits; one that fits nowhere
    goes where the most pairs are missing, so that one large scene among many small ones lands in training.
    Each part gets a scene at least; two scenes are train and validation.
    Raises DataError with fewer than two.
    """
    sizes = Counter(scenes)
    if len(sizes) < 2:
        raise DataError(
            f"the data set has {len(sizes)} scene ({some(sorted(sizes))}), and validation needs scenes unseen in "
            "training: at least two; add scenes, or name finer ones (column group, option scene_pattern)"
        )
    shares = {"train": 1 - validation - test, "validation": validation, "test": test if len(sizes) > 2 else 0.0}
    wanted = {split: share * len(scenes) for split, share in shares.items() if share > 0}
    missing = dict(wanted)
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    order = [sorted(sizes)[index] for index in numpy_generator(seed, "split").permutation(len(sizes))]
    for left, scene in zip(range(len(order), 0, -1), order, strict=True):
        empty = [split for split in wanted if not parts[split]]
        open_to = empty if left <= len(empty) else list(wanted)
        fitting = [split for split in open_to if missing[split] >= sizes[scene]]
        if fitting:
            split = max(fitting, key=lambda each: missing[each] / wanted[each])
        else:
            split = max(open_to, key=missing.__getitem__)
        parts[split].append(scene)
        missing[split] -= sizes[scene]
    return {split: tuple(sorted(part)) for split, part in parts.items()}


def survey(data: Data, source: Source) -> tuple[Scaling, Scaling]:
    """The scalings of SAR and optical; an `auto` SAR domain is detected over many files at once."""
    known = source.sar_domain if data.sar.domain == "auto" else data.sar.domain
    auto = known is None
    pairs = source.pairs[:: -(-len(source.pairs) // SURVEYED)] if auto else source.pairs[:1]
    samples = []
    for pair in pairs:
        sar, optical = source.read(pair)
        values = sar.values[:, sar.valid].ravel()
        values = values[values != 0]
        samples.append(values[:: max(1, values.size // SAMPLES)])
    kind = sar.values.dtype
    domain = detect_sar(np.concatenate(samples), kind, example=sar.path) if auto else known
    log.info("SAR values are %s: %s", domain, f"found in {len(pairs)} files" if auto else "known beforehand")
    return (
        sar_scaling(data.sar, domain=domain, dtype=kind, bands=len(sar.values), example=sar.path),
        optical_scaling(
            data.optical,
            dtype=optical.values.dtype,
            bands=len(optical.values),
            default=source.optical_range,
            example=optical.path,
        ),
    )


def scaled(
    pair: Pair, source: Source, scalings: tuple[Scaling, Scaling], *, shift: misregistration.Shift | None = None
):
    """SAR and optical (B, H, W) in [-1, 1], 0 where masked; where each was clipped; the mask (H, W).

    With a `shift` the optical image and its nodata are moved; clipped pixels are those of the file.
    """
    raw = source.read(pair)
    for image, scaling in zip(raw, scalings, strict=True):
        _refuse_other_kind(image, scaling)
    valid = [image.valid & has_data(image.values, scaling.domain) for image, scaling in zip(raw, scalings, strict=True)]
    values, clipped = zip(
        *(scaling.apply(image.values) for image, scaling in zip(raw, scalings, strict=True)), strict=True
    )
    sar, optical = values
    if shift is not None:
        optical, valid[1] = misregistration.moved(optical, valid[1], shift)
    mask = valid[0] & valid[1]
    return [np.where(mask, image, 0) for image in (sar, optical)], [where & mask for where in clipped], mask


def _refuse_other_kind(image: Any, scaling: Scaling) -> None:
    """Raise DataError where a file differs from those that the scaling was made for."""
    bands, kind = len(image.values), image.values.dtype
    if bands != len(scaling.low):
        raise DataError(f"{image.path}: {bands} bands are read, but {len(scaling.low)} of other files")
    if storage(kind) != scaling.storage:
        raise DataError(f"{image.path}: {storage(kind)} values ({kind}), but other files hold {scaling.storage} values")
    if scaling.domain != "db":
        return
    values = image.values[:, image.valid]
    if values.size and values.min() >= 0 and values.max() > 0:
        raise DataError(
            f"{image.path}: values {values.min():.4g} to {values.max():.4g} are not dB, as other files' are"
        )


@dataclass
class _Stack:
    """An .npy file (N, C, H, W) that grows tile by tile; its header is written again at the end."""

    path: Path
    channels: int
    tile: int
    kind: type
    count: int = 0

    def __post_init__(self) -> None:
        self._file = open(self.path, "wb+")
        self._start = self._write_header()

    def _write_header(self) -> int:
        shape = (self.count, self.channels, self.tile, self.tile)
        header = {"descr": np.dtype(self.kind).str, "fortran_order": False, "shape": shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)  # padded: its length does not depend on the count
        return self._file.tell()

    def append(self, image: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(image, self.kind).tobytes())
        self.count += 1

    def close(self) -> dict[str, Any]:
        """Make the file whole and durable; its entry in meta.json."""
        size = self._file.tell()
        assert self._write_header() == self._start
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        shape = [self.count, self.channels, self.tile, self.tile]
        return {"shape": shape, "dtype": np.dtype(self.kind).name, "bytes": size}


class _Tiles:
    """The tiles so far: their arrays on disk, their rows, what was dropped and how much was clipped."""

    def __init__(self, folder: Path, tile: int, bands: list[int]):
        channels = dict(zip(TYPES, [*bands, 1], strict=True))
        self._stacks = {key: _Stack(folder / f"{key}.npy", channels[key], tile, TYPES[key]) for key in TYPES}
        self._tile, self._valid = tile, 0
        self._clipped = {key: np.zeros(channels[key], np.int64) for key in ("sar", "optical")}
        self.rows: dict[str, list[Any]] = {key: [] for key in ("name", "scene", "split", "row", "col")}
        self.dropped: list[dict[str, Any]] = []

    def add(self, pair: Pair, split: str, images: list, clipped: list, mask: np.ndarray, *, stride: int) -> None:
        self._valid += int(mask.sum())
        for key, where in zip(self._clipped, clipped, strict=True):
            self._clipped[key] += where.sum(axis=(1, 2))
        corners = _corners(mask.shape, self._tile, stride)
        if not corners:
            self._drop(pair, "small", rows=mask.shape[0], columns=mask.shape[1])
        for row, col in corners:
            window = (slice(None), slice(row, row + self._tile), slice(col, col + self._tile))
            masked = 1 - float(mask[window[1:]].mean())
            if masked > MASKED_LIMIT:
                self._drop(pair, "nodata", row=row, col=col, masked=round(masked, 4))
                continue
            for key, image in zip(TYPES, [*images, mask[None]], strict=True):
                self._stacks[key].append(image[window])
            values = (f"{pair.name}:{row}:{col}", pair.scene, split, row, col)
            for key, value in zip(self.rows, values, strict=True):
                self.rows[key].append(value)

    def _drop(self, pair: Pair, reason: str, **details: Any) -> None:
        self.dropped.append({"name": pair.name, "scene": pair.scene, "reason": reason, **details})

    def clipped_shares(self, key: str) -> list[float]:
        """Share of the valid values of each band that lay outside the range."""
        return [round(count / max(self._valid, 1), 6) for count in self._clipped[key].tolist()]

    def close(self) -> dict[str, Any]:
        return {key: stack.close() for key, stack in self._stacks.items()}


def _corners(shape: tuple[int, ...], tile: int, stride: int) -> list[tuple[int, int]]:
    """Upper left corners (row, column) of the whole tiles of an image."""
    rows, columns = (range(0, size - tile + 1, stride) for size in shape)
    return [(row, col) for row in rows for col in columns]


def _refuse_empty(tiles: _Tiles, splits: dict[str, tuple[str, ...]], data: Data) -> None:
    """Raise DataError where training or validation is left without a tile, saying what became of them."""
    for split in ("train", "validation"):
        if split in tiles.rows["split"]:
            continue
        lost = [row for row in tiles.dropped if row["scene"] in splits[split]]
        small = [f"{row['name']} ({row['rows']} x {row['columns']} px)" for row in lost if row["reason"] == "small"]
        why = f"smaller than data.tile {data.tile}: {some(small)}" if small else f"{len(lost)} tiles over 25 % nodata"
        raise DataError(f"no {split} tile is left in its scenes ({some(list(splits[split]))}): {why}")


def _warnings(meta: dict[str, Any]) -> list[str]:
    messages = []
    for key, domain in meta["domains"].items():
        for band, share in enumerate(domain["clipped"]):
            if share > CLIPPED_LIMIT:
                limits = f"{domain['low'][band]:g}..{domain['high'][band]:g}"
                messages.append(f"{100 * share:.0f} % of {key} band {band + 1} lies outside {limits} and is clipped")
    if meta["dropped"]:
        reasons = sorted({row["reason"] for row in meta["dropped"]})
        messages.append(f"{len(meta['dropped'])} tiles or images are dropped ({', '.join(reasons)})")
    if meta["splits"]["test"] and "test" not in meta["tiles"]["split"]:
        messages.append("no test tile is left")
    if not meta["splits"]["test"]:
        messages.append("no test split")
    if len(meta.get("misregistration", ())) == 1:
        messages.append("misregistration moves the only training scene: a shift that never varies can be learnt")
    return messages
