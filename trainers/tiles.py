"""Reading prepared tiles, and the order in which training sees them (numpy only)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainers.pairs import DataError
from trainers.streams import AUGMENT, ORDER, numpy_generator

ARRAYS = ("sar", "optical", "mask")


def damage(folder: Path) -> str | None:
    """Why a prepared folder can't be used, or None: its arrays have the shapes and sizes that meta.json states."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        for name in ARRAYS:
            stated, path = meta["arrays"][name], folder / f"{name}.npy"
            size, shape = path.stat().st_size, list(np.load(path, mmap_mode="r").shape)
            if (size, shape) != (stated["bytes"], stated["shape"]):
                return f"{path}: {size} bytes, shape {shape}; meta.json states {stated['bytes']}, {stated['shape']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{folder}: not a prepared data set: {error}"
    return None


@dataclass(frozen=True)
class Tiles:
    """A prepared data set. `names`, `scenes` and `splits` hold one entry a tile."""

    sar: np.ndarray  # (N, C, H, W) float16 in [-1, 1], memory-mapped
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
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
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
        batch = [np.ascontiguousarray(array[indices], np.float32) for array in (self.sar, self.optical, self.mask)]
        if flips is not None:
            chosen = np.flatnonzero(flips)
            for array in batch:
                array[chosen] = array[chosen][..., ::-1]
        return batch[0], batch[1], batch[2]


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
