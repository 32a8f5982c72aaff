"""Tiles whose codes lie on the device, and are turned there into what `Tiles.read` gives, to the bit."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainers.codes import STEPS
from trainers.tiles import Tiles

SHARE = 0.25  # of the device's free memory: what the tiles of one trial may take of it
UPLOADED = 64  # tiles at a time
SIGN = np.uint16(STEPS + 1)  # the bit by which code - 2**15, read as signed, differs from the code


class TilesOnDevice:
    """Codes of chosen tiles as tensors (N, C, H, W): uint8, int16 in place of uint16, or floats as they are."""

    def __init__(self, tiles: Tiles, indices: Sequence[int] | np.ndarray, device: torch.device):
        indices = np.asarray(indices)
        self._places = np.full(len(tiles), -1, np.int64)
        self._places[indices] = np.arange(len(indices))
        self._codes = [_held(array, indices, device) for array in (tiles.sar, tiles.optical, tiles.mask)]

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Where tiles of the data set lie here: (B,) int64."""
        places = self._places[indices]
        assert (places >= 0).all(), "a tile was asked for that is not held"
        return places

    def read(self, places: Tensor, flips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """SAR, optical (B, C, H, W) in [-1, 1] and mask (B, 1, H, W), float32; mirrored left-right where `flips`.

        `places` (B,) int64 and `flips` (B,) bool lie on the device; the host waits for nothing.
        """
        sar, optical, mask = (_mirrored(codes.index_select(0, places), flips) for codes in self._codes)
        return _decoded(sar, mask), _decoded(optical, mask), mask.float()


def size(tiles: Tiles, indices: Sequence[int] | np.ndarray) -> int:
    """Bytes that these tiles take on a device."""
    return len(indices) * sum(array[0].nbytes for array in (tiles.sar, tiles.optical, tiles.mask))


def room(device: torch.device) -> int:
    """Bytes that tiles may take there now: a share of what is free; a CPU's memory holds them anyway."""
    if device.type != "cuda":
        return sys.maxsize
    free, _ = torch.cuda.mem_get_info(device)
    return int(SHARE * free)


def _held(array: np.ndarray, indices: np.ndarray, device: torch.device) -> Tensor:
    """Uploaded a few tiles at a time: the host need not hold them all."""
    held = torch.empty((len(indices), *array.shape[1:]), dtype=_signed(np.empty(0, array.dtype)).dtype, device=device)
    for start in range(0, len(indices), UPLOADED):
        held[start : start + UPLOADED] = _signed(array[indices[start : start + UPLOADED]])
    return held


def _signed(codes: np.ndarray) -> Tensor:
    """torch has few operations on uint16: the codes are shifted to the same steps around 0."""
    codes = np.ascontiguousarray(codes)
    return torch.from_numpy((codes ^ SIGN).view(np.int16) if codes.dtype == np.uint16 else codes)


def _mirrored(codes: Tensor, flips: Tensor) -> Tensor:
    return torch.where(flips.view(-1, 1, 1, 1), codes.flip(-1), codes)


def _decoded(codes: Tensor, mask: Tensor) -> Tensor:
    """As `trainers.codes.decode`, step by step: each rounds once, so that none may be left out."""
    values = codes.float()
    if codes.dtype == torch.uint8:
        return values.mul_(2 / 255).sub_(1).mul_(mask)
    return values.mul_(1 / STEPS) if codes.dtype == torch.int16 else values
