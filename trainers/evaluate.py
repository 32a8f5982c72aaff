"""Scores of whole tiles: per tile, and summed up over scenes.

A tile's scores do not depend on the batch it is read in or on how many ranks share the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from trainers.families import METRICS
from trainers.masks import fill
from trainers.similarity import to_unit

log = logging.getLogger(__name__)


@torch.no_grad()
def score(
    predict: Callable[[Tensor], Tensor],
    tiles,
    indices: Sequence[int] | np.ndarray,
    *,
    metrics: Sequence[str],
    batch: int,
    rank: int = 0,
    ranks: int = 1,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Every metric of every tile: (len(indices), len(metrics)) float64, complete on every rank.

    `predict` maps SAR (B, C, H, W) to optical in [-1, 1], both on `device`. `tiles.read(indices)` gives
    (sar, optical, mask), float32 in [-1, 1] and {0, 1}. Rank r scores indices[r::ranks]; where ranks
    are joined in a process group their shares are summed, else the other rows stay 0.
    A tile without a valid pixel is NaN. A prediction that is not finite at a valid pixel (a network that
    has diverged) is infinitely bad in every metric: that stands in the table and in every mean.
    """
    functions = [METRICS.part(name).build() for name in metrics]
    worst = np.array([-np.inf if METRICS.part(name).GOAL == "max" else np.inf for name in metrics])
    indices = np.asarray(indices)
    table = np.zeros((len(indices), len(metrics)))
    rows = np.arange(rank, len(indices), ranks)
    for start in range(0, len(rows), batch):
        chosen = rows[start : start + batch]
        sar, real, mask = (torch.from_numpy(part).to(device) for part in tiles.read(indices[chosen]))
        fake = fill(predict(sar).float(), mask)
        scores = _measure(functions, fake, fill(real, mask), mask)
        finite = fake.flatten(1).isfinite().all(dim=1).cpu().numpy()[:, None]
        known = mask.flatten(1).any(dim=1).cpu().numpy()[:, None]
        table[chosen] = np.where(known, np.where(finite, scores, worst), np.nan)
    return _over_ranks(table, device)


def _measure(functions, fake: Tensor, real: Tensor, mask: Tensor) -> np.ndarray:
    """Images in [-1, 1], filled alike -> (B, number of metrics)."""
    fake, real = to_unit(fake), to_unit(real)
    return torch.stack([metric(fake, real, mask) for metric in functions], dim=1).double().cpu().numpy()


def _over_ranks(table: np.ndarray, device: torch.device | str) -> np.ndarray:
    if not (dist.is_available() and dist.is_initialized()):
        return table
    total = torch.from_numpy(table).to(device)
    dist.all_reduce(total)
    return total.cpu().numpy()


def scene_mean(values: np.ndarray, scenes: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    """Each metric's mean over scenes of its mean over a scene's tiles: every scene counts the same.

    `values` is (tiles, metrics), `scenes` names each row's scene, `metrics` each column. NaN, a tile
    without a valid pixel, is left out, and a scene without another tile with it; the log says how
    many. A metric without any value is NaN.
    """
    scenes = np.asarray(scenes)
    unknown = np.isnan(values).any(axis=1)
    if unknown.any():
        log.warning("%d of %d tiles have no valid pixel and are left out of the means", unknown.sum(), len(values))
    by_scene = np.array([_known_mean(values[scenes == scene]) for scene in np.unique(scenes)])
    means = _known_mean(by_scene) if len(by_scene) else np.full(len(metrics), np.nan)
    return dict(zip(metrics, map(float, means), strict=True))


def _known_mean(rows: np.ndarray) -> np.ndarray:
    """Mean of each column without its NaN; NaN where nothing is left."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
