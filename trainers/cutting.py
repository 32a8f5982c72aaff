"""Cutting: pairs of images become tiles in [-1, 1] with masks, scene by scene, in bounded memory.

Written are sar.npy and optical.npy (N, C, tile, tile), codes that `trainers.codes` reads as [-1, 1], 0 where masked;
mask.npy (N, 1, tile, tile) uint8, 1 where both images hold data; meta.json.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.disk import File, write_atomically
from trainers import misregistration
from trainers.checks.gate import refuse_leaks
from trainers.codes import DECODING, encode
from trainers.domains import Scaling
from trainers.families import part_name
from trainers.layouts._common import Data, Source, refuse_left
from trainers.pairs import DataError, Pair, some
from trainers.reading import Reader, Scaled
from trainers.splits import SPLITS, split_of_pairs
from trainers.survey import survey
from trainers.windows import Block, blocks

log = logging.getLogger(__name__)

PREPARATION = 2  # raise when prepared numbers or files change for equal input
MASKED_LIMIT = 0.25  # a tile with a larger share of masked pixels is dropped
CLIPPED_LIMIT = 0.05  # a larger share of clipped values is worth a warning
IMAGES = ("sar", "optical")


def cut(folder: Path, data: Data, source: Source, *, fingerprint: str) -> None:
    """Write the prepared data set into an empty folder. Raises DataError for input that can't be used."""
    refuse_left(source)
    split_of = split_of_pairs(data, source, source.pairs)
    splits = {
        split: sorted({pair.scene for pair in source.pairs if split_of[pair.name] == split}) for split in SPLITS
    }  # fmt: skip
    leaks = refuse_leaks(data, source, split_of)
    scalings = survey(data, source)
    tiles = _Tiles(folder, data, scalings)
    shifts = misregistration.shifts(splits["train"], data.misregistration, seed=data.split.seed)
    reader = Reader(source, scalings)
    for pair in source.pairs:
        split, shape = split_of[pair.name], source.shape(pair)
        shift = shifts.get(pair.scene) if split == "train" else None  # a torn scene is in two splits
        for block in blocks(shape, data.tile, source.stride if split == "train" else data.tile):
            if block.corners:
                tiles.add(pair, split, block, reader.read(pair, block.window, shift=shift))
            else:
                tiles.drop(pair, "small", rows=shape[0], columns=shape[1])
    arrays = tiles.close()
    _refuse_empty(tiles, splits, data)
    meta = {
        "schema": PREPARATION,
        "fingerprint": fingerprint,
        "layout": part_name(data),
        "tile": data.tile,
        "arrays": arrays,
        "splits": splits,
        "split_by": "scene" if source.splits is None else "data set",
        "domains": {
            key: {**asdict(scaling), "clipped": tiles.clipped_shares(key)}
            for key, scaling in zip(IMAGES, scalings, strict=True)
        },
        "dropped": tiles.dropped,
        "tiles": tiles.rows,
    }
    if shifts:
        meta["misregistration"] = shifts
    meta["warnings"] = [*_warnings(meta), *(f"allow_leak: {said}" for said in leaks)]
    for message in meta["warnings"]:
        log.warning("%s", message)
    write_atomically(folder / "meta.json", json.dumps(meta, indent=1))


@dataclass
class _Stack:
    """An .npy file (N, C, H, W) that grows tile by tile; its header is written again at the end."""

    path: Path
    channels: int
    tile: int
    kind: np.dtype
    count: int = 0

    def __post_init__(self) -> None:
        self._file = File(self.path, "wb+")
        self._start = self._write_header()

    def _write_header(self) -> int:
        shape = (self.count, self.channels, self.tile, self.tile)
        header = {"descr": self.kind.str, "fortran_order": False, "shape": shape}
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
        self._file.sync()
        self._file.close()
        shape = [self.count, self.channels, self.tile, self.tile]
        return {"shape": shape, "dtype": self.kind.name, "bytes": size}


def storage_types(data: Data, scalings: tuple[Scaling, Scaling]) -> dict[str, np.dtype]:
    """How each array is stored: 8-bit pictures as they are, unless something moves or changes their numbers."""
    moved = {"sar": False, "optical": bool(data.misregistration) or data.resample != "none"}
    kinds = {
        key: np.dtype(np.uint8 if scaling.exact_in_8_bits and not moved[key] else np.uint16)
        for key, scaling in zip(IMAGES, scalings, strict=True)
    }
    return {**kinds, "mask": np.dtype(np.uint8)}


class _Tiles:
    """The tiles so far: their arrays on disk, their rows, what was dropped and how much was clipped."""

    def __init__(self, folder: Path, data: Data, scalings: tuple[Scaling, Scaling]):
        self._kinds = storage_types(data, scalings)
        bands = [*(len(scaling.low) for scaling in scalings), 1]
        self._stacks = {
            key: _Stack(folder / f"{key}.npy", channels, data.tile, kind)
            for channels, (key, kind) in zip(bands, self._kinds.items(), strict=True)
        }
        self._tile, self._valid = data.tile, 0
        self._clipped = {key: np.zeros(count, np.int64) for key, count in zip(IMAGES, bands, strict=False)}
        self.rows: dict[str, list[Any]] = {key: [] for key in ("name", "scene", "split", "row", "col")}
        self.dropped: list[dict[str, Any]] = []

    def add(self, pair: Pair, split: str, block: Block, images: Scaled) -> None:
        """The tiles of a block, whose images these are."""
        self._valid += int(images.mask.sum())
        codes = {key: encode(getattr(images, key), images.mask, self._kinds[key]) for key in IMAGES}
        codes["mask"] = images.mask[None]
        for key, where in zip(self._clipped, images.clipped, strict=True):
            self._clipped[key] += where.sum(axis=(1, 2))
        for row, col in block.corners:
            top, left = row - block.window.row, col - block.window.column
            inside = np.s_[:, top : top + self._tile, left : left + self._tile]
            masked = 1 - float(images.mask[inside[1:]].mean())
            if masked > MASKED_LIMIT:
                self.drop(pair, "nodata", row=row, col=col, masked=round(masked, 4))
                continue
            for key, image in codes.items():
                self._stacks[key].append(image[inside])
            values = (f"{pair.name}:{row}:{col}", pair.scene, split, row, col)
            for key, value in zip(self.rows, values, strict=True):
                self.rows[key].append(value)

    def drop(self, pair: Pair, reason: str, **details: Any) -> None:
        self.dropped.append({"name": pair.name, "scene": pair.scene, "reason": reason, **details})

    def clipped_shares(self, key: str) -> list[float]:
        """Share of the valid values of each band that lay outside the range."""
        return [round(count / max(self._valid, 1), 6) for count in self._clipped[key].tolist()]

    def close(self) -> dict[str, Any]:
        closed = {key: stack.close() for key, stack in self._stacks.items()}
        for key in IMAGES:
            closed[key]["decoding"] = DECODING[closed[key]["dtype"]]
        return closed


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
        number = len(meta["dropped"])
        some = "1 tile or image is" if number == 1 else f"{number} tiles or images are"
        messages.append(f"{some} dropped ({', '.join(reasons)})")
    if meta["splits"]["test"] and "test" not in meta["tiles"]["split"]:
        messages.append("no test tile is left")
    if not meta["splits"]["test"]:
        messages.append("no test split")
    if len(meta.get("misregistration", ())) == 1:
        messages.append("misregistration moves the only training scene: a shift that never varies can be learnt")
    return messages
