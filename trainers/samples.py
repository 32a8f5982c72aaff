"""Pictures of fixed validation tiles, kept as arrays: small, exact, and readable with numpy alone."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ablate.disk import write_atomically
from trainers.masks import fill
from trainers.tiles import Tiles, probe

PICTURES = 4


def save_sample(folder: Path, step: int, predict: Callable[[Tensor], Tensor], tiles: Tiles, device) -> tuple[Path, str]:
    """Write `<step>.npz`: sar (N, H, W), fake and real (N, H, W, 3) uint8, names; returns path and sha256."""
    indices = probe(tiles, PICTURES)
    sar, real, mask = (torch.from_numpy(array).to(device) for array in tiles.read(indices))
    fake = fill(predict(sar), mask)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        sar=to_bytes(sar[:, :1])[..., 0],
        fake=_rgb(to_bytes(fake)),
        real=_rgb(to_bytes(fill(real, mask))),
        names=np.array([tiles.names[i] for i in indices]),
    )
    path = folder / f"{step:06d}.npz"
    write_atomically(path, buffer.getvalue())
    return path, hashlib.sha256(buffer.getvalue()).hexdigest()


def to_bytes(images: Tensor) -> np.ndarray:
    """(N, C, H, W) in [-1, 1] -> (N, H, W, C) uint8."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def _rgb(images: np.ndarray) -> np.ndarray:
    """Three bands to show: the first three, or the only one three times."""
    return images[..., :3] if images.shape[-1] >= 3 else np.repeat(images[..., :1], 3, axis=-1)
