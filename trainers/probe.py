"""What a generator does on a few fixed validation tiles, read some 50 times a run.

Read on fixed tiles, since the choice of tiles alone moves the L1 of a minibatch by 20 to 60 % at batch 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.masks import fill
from trainers.ranks import Ranks
from trainers.tiles import Tiles, probe, rank_slice

SIZE = 8  # tiles: one forward, and two or more scenes of most data sets


class Probe:
    """Fixed validation tiles over scenes, and what changes on them. Nodata counts nowhere.

    Each rank predicts its share and holds all outputs afterwards, so that every rank reads the same values, and
    any number of ranks reads what one would. The last output is the only state: `output_change` needs it.
    """

    def __init__(self, tiles: Tiles, ranks: Ranks, *, size: int = SIZE):
        indices = probe(tiles, size)
        if not len(indices):
            raise ValueError("there is no validation tile to read the health of the generator on")
        self.ranks = ranks
        self.sar, real, self.mask = (torch.from_numpy(array).to(ranks.device) for array in tiles.read(indices))
        self.real = fill(real, self.mask)
        self.partner = partners([tiles.scenes[index] for index in indices])
        self.grey_sar = self.sar.mean(1, keepdim=True)
        self.spread_of_sar = self._spread(self.grey_sar)
        self.last: Tensor | None = None
        self.constants = self._of_the_tiles()

    def read(self, predict: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Health of the generator, by the names that events use; a value without a definition here is absent.

        `predict` maps SAR (B, C, H, W) to optical in [-1, 1] as in evaluation. All values are at least 0:
        - `probe_l1`: mean absolute error, in [0, 2];
        - `output_change`: mean absolute change since the last reading, in units of `probe_l1`;
        - `output_variance`: variance over tiles at each pixel, in units of the truth's;
        - `input_use`: error against a tile's own truth, in units of that against its partner's (see `partners`);
        - `output_contrast`: difference between a tile and its partner, in units of that between their truths;
        - `identity`: distance to the SAR input, both as means of their bands, in units of `probe_l1`;
        - `input_distance`: the same in units of the least that a uniform image can have;
        and of the tiles alone, the same at every reading:
        - `input_variation`: standard deviation of the SAR input over tiles, in [0, 1];
        - `grey_l1`: `probe_l1` of mid grey, which is where a new generator starts.
        """
        output = self._outputs(predict)
        l1 = self._mean((output - self.real).abs(), self.mask)
        distance = self._mean((output.mean(1, keepdim=True) - self.grey_sar).abs(), self.mask)
        values = {"probe_l1": l1, "identity": _ratio(distance, l1), **self.constants}
        values["input_distance"] = _ratio(distance, self.spread_of_sar)
        if self.last is not None:
            values["output_change"] = _ratio(self._mean((output - self.last).abs(), self.mask), l1)
        self.last = output
        values |= self._over_tiles(output)
        return {f"health/{name}": value for name, value in sorted(values.items()) if value is not None}

    def state_dict(self) -> dict[str, Any]:
        return {"last": None if self.last is None else self.last.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        last = state["last"]
        self.last = None if last is None else last.to(self.ranks.device)

    @torch.no_grad()
    def _outputs(self, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Of all tiles, on every rank. Other ranks add zeros, so that the sum is exact."""
        mine = rank_slice(len(self.sar), self.ranks.rank, self.ranks.size)
        output = torch.zeros_like(self.real)
        if mine.start < mine.stop:
            output[mine] = predict(self.sar[mine]).float()
        return fill(self.ranks.sum(output), self.mask)

    def _of_the_tiles(self) -> dict[str, float]:
        spread = _variance(self.sar, self.mask)
        constants = {"grey_l1": self._mean(self.real.abs(), self.mask)}
        return constants | ({} if spread is None else {"input_variation": spread**0.5})

    def _over_tiles(self, output: Tensor) -> dict[str, float | None]:
        """What takes two tiles or more."""
        if len(output) < 2:
            return {}
        both = self.mask * self.mask[self.partner]
        own, others = (output - self.real).abs(), (output - self.real[self.partner]).abs()
        outputs, truths = ((images - images[self.partner]).abs() for images in (output, self.real))
        return {
            "output_variance": _ratio(_variance(output, self.mask), _variance(self.real, self.mask)),
            "input_use": _ratio(self._mean(own, both), self._mean(others, both)),
            "output_contrast": _ratio(self._mean(outputs, both), self._mean(truths, both)),
        }

    def _spread(self, images: Tensor) -> float | None:
        """Mean absolute distance of the valid pixels from their median."""
        valid = images[self.mask > 0]
        return self._mean((images - valid.median()).abs(), self.mask) if len(valid) else None

    def _mean(self, values: Tensor, mask: Tensor) -> float | None:
        """Over tiles, channels and valid pixels, in double precision; None where no pixel is valid."""
        count = float(mask.sum(dtype=torch.float64)) * values.shape[1]
        return float((values * mask).sum(dtype=torch.float64)) / count if count else None


def partners(scenes: Sequence[str]) -> np.ndarray:
    """Another tile for each tile, every tile once: from another scene, as far as the scenes are equally large.

    With the tiles sorted by scene, a cyclic shift by the largest scene leaves every scene, unless that one holds
    more than half of the tiles. Shape (N,); a single tile is its own.
    """
    order = np.argsort(np.array(scenes), kind="stable")
    _, counts = np.unique(np.array(scenes), return_counts=True)
    shift = min(int(counts.max()), len(order) // 2)
    chosen = np.empty(len(order), np.intp)
    chosen[order] = np.roll(order, -shift)
    return chosen


def _variance(images: Tensor, mask: Tensor) -> float | None:
    """Over tiles at each pixel, then its mean over channels and pixels that two tiles or more have."""
    images, mask = images.double(), mask.double()
    count = mask.sum(0)
    mean = (images * mask).sum(0) / count.clamp(min=1)
    variance = ((images - mean).square() * mask).sum(0) / count.clamp(min=1)
    known = (count >= 2).expand_as(variance)
    return float(variance[known].mean()) if known.any() else None


def _ratio(value: float | None, unit: float | None) -> float | None:
    """None where it has no definition: nothing to compare, or nothing to measure by."""
    return None if value is None or not unit else value / unit
