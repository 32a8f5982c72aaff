"""Scores of whole tiles: per tile, summed up over scenes, and of the whole set.

A tile's scores do not depend on the batch it is read in or on how many ranks share the work.
A metric's part has `build()`, which gives a function of images, (fake, real, mask) -> (B,). A metric of sets says
`SET = True`: its `features()` gives (width, images -> (B, width)), taken once for all metrics with the same function,
and its `build()` a distance between the features of all generated and all real images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from trainers.availability import caution
from trainers.families import METRICS
from trainers.masks import fill
from trainers.similarity import to_unit

log = logging.getLogger(__name__)

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scores:
    """What a predictor came to on the tiles: a row each, and a column for each of `metrics`; `sets` are of all tiles.

    A tile without a valid pixel is NaN. A prediction that is not finite at a valid pixel (a network that has
    diverged) is infinitely bad in every metric: that stands in the table, in every mean and in `sets`.
    """

    metrics: tuple[str, ...]  # those per image
    table: np.ndarray  # (tiles, metrics) float64
    sets: Mapping[str, float]
    scenes: tuple[str, ...]  # of each row

    def means(self) -> dict[str, float]:
        """Every metric: its mean over scenes, or its value for the set."""
        return {**scene_mean(self.table, self.scenes, self.metrics), **self.sets}


class Scorer:
    """Scores predictors on fixed tiles. Networks are loaded and the real images' features taken once.

    `tiles.read(indices)` gives (sar, optical, mask), float32 in [-1, 1] and {0, 1}; `tiles.scenes` names each tile's
    scene. Rank r scores indices[r::ranks]; where ranks are joined in a process group every rank holds all scores, else
    the tiles of other ranks are NaN.
    """

    def __init__(self, tiles, indices: Sequence[int] | np.ndarray, *, metrics: Sequence[str], batch: int,
                 rank: int = 0, ranks: int = 1, device: torch.device | str = "cpu"):  # fmt: skip
        self.tiles, self.indices, self.device = tiles, np.asarray(indices), device
        rows = np.arange(rank, len(self.indices), ranks)
        self._batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        sets = [name for name in metrics if of_sets(name)]
        self.metrics = tuple(name for name in metrics if name not in sets)
        self._functions = [METRICS.part(name).build() for name in self.metrics]
        self._distances = {name: METRICS.part(name).build() for name in sets}
        self._extract = {take: take() for take in dict.fromkeys(METRICS.part(name).features for name in sets)}
        self._real: dict[Callable, np.ndarray] = {}
        for said in [caution(name, images=len(self.indices)) for name in metrics] if rank == 0 else ():
            if said:
                log.warning(said)

    @torch.no_grad()
    def score(self, predict: Predict, source=None) -> Scores:
        """The scores of `predict`: SAR (B, C, H, W) to optical in [-1, 1], both on the device.

        `source` gives another input in place of the tiles' own, by the same `read`.
        """
        fakes: dict[Callable, list[Tensor]] = {take: [] for take in self._extract}
        reals = {} if self._real else {take: [] for take in self._extract}
        scores: list[Tensor] = []
        for rows in self._batches:
            parts = (source or self.tiles).read(self.indices[rows])
            sar, real, mask = (torch.from_numpy(part).to(self.device) for part in parts)
            fake, real = to_unit(fill(predict(sar).float(), mask)), to_unit(fill(real, mask))
            columns = [metric(fake, real, mask) for metric in self._functions]
            columns += [mask.flatten(1).any(dim=1), fake.flatten(1).isfinite().all(dim=1)]
            scores.append(torch.stack([column.double() for column in columns], dim=1))
            for features, images in ((fakes, fake), (reals, real)):
                for take, rest in features.items():
                    rest.append(self._extract[take][1](images))
        rows = self._read(scores, len(self.metrics) + 2, np.float64)
        known, finite = rows[:, -2] > 0, rows[:, -1] > 0
        self._real |= {take: self._read(reals[take], self._extract[take][0], np.float32) for take in reals}
        fakes = {take: self._read(fakes[take], self._extract[take][0], np.float32) for take in fakes}
        table = np.where(finite[:, None], rows[:, :-2], [worst(name) for name in self.metrics])
        table[~known] = np.nan
        return Scores(self.metrics, table, self._sets(fakes, known, finite), self._scenes())

    def _read(self, batches: Sequence[Tensor], width: int, kind: type) -> np.ndarray:
        """Rows of all tiles from those of this rank's batches: only here is the device waited for."""
        rows = np.zeros((len(self.indices), width), kind)
        if batches:
            rows[np.concatenate(self._batches)] = torch.cat(list(batches)).cpu().numpy()
        return self._over_ranks(rows)

    def _sets(self, fakes: Mapping[Callable, np.ndarray], known: np.ndarray, finite: np.ndarray) -> dict[str, float]:
        if not finite[known].all():
            return {name: worst(name) for name in self._distances}
        pairs = {take: (features[known], self._real[take][known]) for take, features in fakes.items()}
        return {name: distance(*pairs[METRICS.part(name).features]) for name, distance in self._distances.items()}

    def _scenes(self) -> tuple[str, ...]:
        return tuple(self.tiles.scenes[index] for index in self.indices)

    def _over_ranks(self, shares: np.ndarray) -> np.ndarray:
        """The sum of arrays in which every rank has filled its rows and left 0 elsewhere."""
        if not (dist.is_available() and dist.is_initialized()):
            return shares
        total = torch.from_numpy(shares).to(self.device)
        dist.all_reduce(total)
        return total.cpu().numpy()


def of_sets(name: str) -> bool:
    """Whether the metric is of the whole set of tiles, not of single ones."""
    return getattr(METRICS.part(name), "SET", False)


def worst(name: str) -> float:
    return -np.inf if METRICS.part(name).GOAL == "max" else np.inf


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
