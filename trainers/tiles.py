"""Reading prepared tiles, and the order in which training sees them (numpy only)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainers.codes import decode
from trainers.pairs import DataError
from trainers.streams import AUGMENT, ORDER, numpy_generator

ARRAYS = ("sar", "optical", "mask")


def damage(folder: Path) -> str | None:
    """Why a prepared folder can't be used, or None: types, shapes and sizes are those of meta.json."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        for name in ARRAYS:
            stated, path = meta["arrays"][name], folder / f"{name}.npy"
            array = np.load(path, mmap_mode="r")
            size, shape, kind = path.stat().st_size, list(array.shape), array.dtype.name
            if (size, shape, kind) != (stated["bytes"], stated["shape"], stated.get("dtype", kind)):
                return f"{path}: {size} bytes, {kind} of shape {shape}; meta.json states {stated}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{folder}: not a prepared data set: {error}"
    return None


@dataclass(frozen=True)
class Tiles:
    """A prepared data set. `names`, `scenes` and `splits` hold one entry a tile.

    `sar` and `optical` (N, C, H, W) are memory-mapped codes of 8 or 16 bits (`trainers.codes`), which `read` decodes;
    floats stand for themselves.
    """

    sar: np.ndarray
    optical: np.ndarray
    mask: np.ndarray  # (N, 1, H, W) uint8
    names: tuple[str, ...]
    scenes: tuple[str, ...]
    splits: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> Tiles:
        """The prepared data set of a folder. Raises DataError where it is not whole."""
        wrong = damage(folder)
        if wrong:
            raise DataError(wrong)
        rows = json.loads((folder / "meta.json").read_text())["tiles"]
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ARRAYS}
        return cls(**arrays, names=tuple(rows["name"]), scenes=tuple(rows["scene"]), splits=tuple(rows["split"]))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sar_bands(self) -> int:
        return self.sar.shape[1]

    @property
    def optical_bands(self) -> int:
        return self.optical.shape[1]

    @property
    def tile(self) -> int:
        """Side of a tile in px."""
        return self.sar.shape[-1]

    def split(self, name: str) -> np.ndarray:
        """Indices of the tiles of `train`, `validation` or `test`, ascending."""
        if name not in ("train", "validation", "test"):
            raise ValueError(f"no such split: {name!r}; there are train, validation, test")
        return np.flatnonzero(np.array(self.splits) == name)

    def read(
        self, indices: Sequence[int] | np.ndarray, flips: Sequence[bool] | np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """SAR, optical (B, C, H, W) in [-1, 1] and mask (B, 1, H, W), float32; mirrored left-right where `flips`."""
        indices = np.asarray(indices, dtype=np.intp)
        arrays = (self.sar, self.optical, self.mask)
        sar, optical, mask = (np.empty((len(indices), *array.shape[1:]), np.float32) for array in arrays)
        for place, index in enumerate(indices):  # tile by tile: all steps of one stay in the processor's cache
            codes = [array[index] for array in arrays]
            if flips is not None and flips[place]:
                codes = [each[..., ::-1].copy() for each in codes]
            decode(codes[0], codes[2], out=sar[place])
            decode(codes[1], codes[2], out=optical[place])
            mask[place] = codes[2]
        return sar, optical, mask


class Order:
    """The endless sequence of training samples of a seed, cut into global batches.

    Each epoch is a new permutation; a batch may straddle two. Batch k is a pure function of k, so a resumed run
    needs no state, and the sequence of samples is the same for every batch size.
    """

    def __init__(self, indices: Sequence[int] | np.ndarray, *, seed: int, batch: int, flip: bool):
        if not len(indices):
            raise ValueError("there is no tile to draw from")
        self.indices, self.batch = np.asarray(indices, np.intp), batch
        self._seed, self._flip = seed, flip
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def batch_at(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Tile indices (batch,) and flips (batch,) of global batch k, counted from 0."""
        epochs, places = np.divmod(np.arange(k * self.batch, (k + 1) * self.batch), len(self.indices))
        drawn = [self._epoch(int(epoch)) for epoch in epochs]
        tiles = np.array([tiles[place] for (tiles, _), place in zip(drawn, places, strict=True)], np.intp)
        flips = np.array([flips[place] for (_, flips), place in zip(drawn, places, strict=True)], bool)
        return tiles, flips

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tiles and flips of one epoch in their order; whether a tile is flipped does not depend on its place."""
        order = numpy_generator(self._seed, ORDER, epoch).permutation(len(self.indices))
        flips = numpy_generator(self._seed, AUGMENT, epoch).random(len(self.indices)) < 0.5
        return self.indices[order], flips[order] & self._flip


def rank_slice(batch: int, rank: int, ranks: int) -> slice:
    """The part of a global batch that a rank takes; where ranks don't divide it, the first ones take one more."""
    share, rest = divmod(batch, ranks)
    start = rank * share + min(rank, rest)
    return slice(start, start + share + (rank < rest))


def probe(tiles: Tiles, n: int, *, split: str = "validation") -> np.ndarray:
    """Up to n fixed tiles of a split for sample pictures, ascending: scenes take turns, from their middle outward."""
    queues: dict[str, list[int]] = {}
    for index in tiles.split(split):
        queues.setdefault(tiles.scenes[index], []).append(int(index))
    for scene, members in queues.items():
        middle = (len(members) - 1) / 2
        queues[scene] = sorted(members, key=lambda index: (abs(members.index(index) - middle), index))
    chosen: list[int] = []
    while len(chosen) < n and any(queues.values()):
        for scene in sorted(queues):
            if queues[scene] and len(chosen) < n:
                chosen.append(queues[scene].pop(0))
    return np.array(sorted(chosen), np.intp)
