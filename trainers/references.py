"""Predictors without training: what a generator must beat before its score means anything.

The mean colour of the training tiles, a linear map from SAR to optical at each pixel, and a training
tile drawn at random.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ablate.events import Ended, EventWriter, Measured, Started, read
from ablate.records import Status, TrialFolder
from trainers import streams
from trainers.evaluate import Scorer
from trainers.versions import versions
from trainers.watchdog import Limits, Watchdog, end_rank

BATCH = 16
LAMBDA = 100.0  # pix2pix's weight of L1: `g_l1` compares with its logged G_L1

Predictor = Callable[[Tensor], Tensor]


def run(folder: Path) -> None:
    """Score the references that `folder`/spec.json asks for and append them to its events.

    The specification names the prepared data (`cache`, relative to the folder), `metrics` and the
    `split`. A folder that has ended is left as it is; one that was cut off is done again.
    """
    paths = TrialFolder(folder)
    before = read(paths.events)
    if any(isinstance(event, Ended) for event in before):
        return
    began = time.monotonic()
    spec = json.loads(paths.spec.read_text())
    attempt = 1 + sum(isinstance(event, Started) for event in before)
    watchdog = Watchdog(Limits.from_environment(), expire=end_rank(paths))
    with watchdog.running():
        writer = EventWriter(paths.events, attempt=attempt)
        torch.set_num_threads(1)  # as a trial by default: sums then do not depend on the machine's cores
        writer.append(Started, world_size=1, threads=1, device=platform.machine(), versions=versions())
        watchdog.enter("evaluation", 0)
        values = measure(paths.beside(spec["cache"]), metrics=spec["metrics"], split=spec["split"], beat=watchdog.beat)
        writer.append(Measured, step=0, images=0, split=spec["split"], values=values)
        writer.append(Ended, step=0, images=0, status=Status.done.value, seconds=time.monotonic() - began)
        writer.close()


def measure(
    cache: Path, *, metrics: Sequence[str], split: str, beat: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Every metric and the weighted L1, as `<reference>/<metric>` and `<reference>/g_l1`; calls `beat` as it goes."""
    from trainers.tiles import Tiles

    return compare(_Heard(Tiles.open(cache), beat), metrics=metrics, split=split)


class _Heard:
    """Tiles of which each reading is heard of."""

    def __init__(self, tiles, beat: Callable[[], None]):
        self._tiles, self._beat = tiles, beat

    def __getattr__(self, name: str):
        return getattr(self._tiles, name)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._beat()
        return self._tiles.read(indices)


def compare(tiles, *, metrics: Sequence[str], split: str) -> dict[str, float]:
    """As `measure`, on opened tiles."""
    chosen, train = tiles.split(split), tiles.split("train")
    scorer = Scorer(tiles, chosen, metrics=list(dict.fromkeys([*metrics, "mae"])), batch=BATCH)
    values: dict[str, float] = {}
    for name, predict, source in (
        ("mean_colour", mean_colour(tiles, train), tiles),
        ("linear_map", linear_map(tiles, train), tiles),
        ("random_partner", lambda partner: partner, Partners(tiles, chosen, train)),
    ):
        means = scorer.score(predict, source).means()
        values |= {f"{name}/{metric}": means[metric] for metric in metrics}
        values[f"{name}/g_l1"] = LAMBDA * 2 * means["mae"]  # images span 2 in [-1, 1], and 1 in the metric
    return values


def mean_colour(tiles, train: np.ndarray) -> Predictor:
    """The training tiles' mean over valid pixels, everywhere: the best constant in squared error."""
    total, count = 0.0, 0.0
    for _, optical, mask in _batches(tiles, train):
        total = total + (optical * mask).sum(axis=(0, 2, 3), dtype=np.float64)
        count += mask.sum(dtype=np.float64)
    colour = torch.from_numpy(total / max(count, 1.0)).float().view(1, -1, 1, 1)
    return lambda sar: colour.expand(len(sar), -1, *sar.shape[2:])


def linear_map(tiles, train: np.ndarray) -> Predictor:
    """The affine map from a pixel's SAR bands to its optical bands with least squared error, clipped to [-1, 1]."""
    gram, moments = 0.0, 0.0
    for sar, optical, mask in _batches(tiles, train):
        valid = mask[:, 0] > 0
        inputs = np.moveaxis(sar, 1, -1)[valid].astype(np.float64)
        inputs = np.column_stack([inputs, np.ones(len(inputs))])
        gram = gram + inputs.T @ inputs
        moments = moments + inputs.T @ np.moveaxis(optical, 1, -1)[valid].astype(np.float64)
    solution = torch.from_numpy(np.linalg.lstsq(gram, moments, rcond=None)[0]).float()
    weights, offset = solution[:-1], solution[-1].view(1, -1, 1, 1)
    return lambda sar: (torch.einsum("bihw,io->bohw", sar, weights) + offset).clamp(-1, 1)


class Partners:
    """Tiles whose input is the picture of a training tile of another scene: scores of unrelated pairs."""

    def __init__(self, tiles, chosen: np.ndarray, train: np.ndarray, *, seed: int = 0):
        draw = streams.numpy_generator(seed, "partner")
        scenes = np.asarray(tiles.scenes)
        others = {scene: train[scenes[train] != scene] for scene in np.unique(scenes[chosen])}
        self.tiles = tiles
        self.partner = {int(index): int(draw.choice(others[scenes[index]])) for index in chosen}

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, partner, _ = self.tiles.read(np.array([self.partner[int(index)] for index in indices]))
        _, optical, mask = self.tiles.read(indices)
        return partner, optical, mask


def _batches(tiles, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for start in range(0, len(indices), BATCH):
        yield tiles.read(indices[start : start + BATCH])
