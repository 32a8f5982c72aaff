"""What an update draws: its batch, the penalty's points, the seed of its dropout.

Each draw is a pure function of its number, so that a resumed run needs no state of it, and of the
global batch, so that the number of ranks changes nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ablate.records import TrialSpec
from trainers import streams
from trainers.masks import fill
from trainers.ondevice import TilesOnDevice
from trainers.precision import Arithmetic
from trainers.ranks import Ranks
from trainers.recipe import Recipe
from trainers.step import Batch
from trainers.tiles import Order, Tiles, rank_slice


class Draws:
    """This rank's share of what the discriminator updates draw, one after another (number 0, 1, ...).

    The host makes `arrays` of a draw, of which the device makes a `Batch`: whole tiles, or, where their codes lie on
    the device (`keep_tiles_on_device`), only which of them.
    """

    def __init__(self, tiles: Tiles, recipe: Recipe, spec: TrialSpec, ranks: Ranks, arithmetic: Arithmetic):
        self.tiles, self.arithmetic = tiles, arithmetic
        self.seed, self.replica, self.rank = spec.seed, spec.replica, ranks.rank
        flip = recipe.data.flip == "horizontal"
        self.order = Order(tiles.split("train"), seed=spec.seed, batch=recipe.batch, flip=flip)
        self.global_batch = recipe.batch
        self.mine = rank_slice(recipe.batch, ranks.rank, ranks.size)
        self.held: TilesOnDevice | None = None

    def keep_tiles_on_device(self) -> None:
        self.held = TilesOnDevice(self.tiles, self.order.indices, self.arithmetic.device)

    def arrays(self, number: int) -> tuple[np.ndarray, ...]:
        """What `batch_of` takes: SAR, optical and mask as `Tiles.read` gives them, or places and flips (B,)."""
        indices, flips = (drawn[self.mine] for drawn in self.order.batch_at(number))
        return self.tiles.read(indices, flips) if self.held is None else (self.held.places(indices), flips)

    def batch_of(self, *tensors: Tensor) -> Batch:
        """The batch of a draw whose arrays lie on the device."""
        images = tensors if self.held is None else self.held.read(*tensors)
        sar, real, mask = map(self.arithmetic.arrange, images)
        return Batch(sar, fill(real, mask), mask)

    def batch(self, number: int) -> Batch:
        return self.batch_of(*(uploaded(array, self.arithmetic.device) for array in self.arrays(number)))

    def points(self, number: int) -> np.ndarray:
        """Where the penalty's points lie between real and fake: (B, 1, 1, 1) in [0, 1), float32."""
        generator = streams.numpy_generator(self.seed, streams.PENALTY, number, replica=self.replica)
        return generator.random((self.global_batch, 1, 1, 1), dtype=np.float32)[self.mine]

    def epsilon(self, number: int) -> Tensor:
        """The penalty's points, on the device."""
        return uploaded(self.points(number), self.arithmetic.device)

    def seed_dropout(self, number: int) -> None:
        """Dropout draws from torch's global generators."""
        torch.manual_seed(streams.torch_seed(self.seed, streams.DROPOUT, number, self.rank, replica=self.replica))


def uploaded(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor on the device; the host does not wait for the copy."""
    tensor = _readable(array, device)
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


def upload_into(buffer: Tensor, array: np.ndarray) -> None:
    """Put the array's values into a tensor that stays where it is; the host does not wait for the copy."""
    buffer.copy_(_readable(array, buffer.device), non_blocking=True)


def _readable(array: np.ndarray, device: torch.device) -> Tensor:
    """For CUDA in pinned memory, which torch uses again only after the copies from it are done."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory() if device.type == "cuda" else tensor
