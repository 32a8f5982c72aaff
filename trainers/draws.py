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
from trainers.precision import Arithmetic
from trainers.ranks import Ranks
from trainers.recipe import Recipe
from trainers.step import Batch
from trainers.tiles import Order, Tiles, rank_slice


class Draws:
    """This rank's share of what the discriminator updates draw, one after another (number 0, 1, ...)."""

    def __init__(self, tiles: Tiles, recipe: Recipe, spec: TrialSpec, ranks: Ranks, arithmetic: Arithmetic):
        self.tiles, self.arithmetic = tiles, arithmetic
        self.seed, self.replica, self.rank = spec.seed, spec.replica, ranks.rank
        flip = recipe.data.flip == "horizontal"
        self.order = Order(tiles.split("train"), seed=spec.seed, batch=recipe.batch, flip=flip)
        self.global_batch = recipe.batch
        self.mine = rank_slice(recipe.batch, ranks.rank, ranks.size)

    def batch(self, number: int) -> Batch:
        indices, flips = self.order.batch_at(number)
        arrays = self.tiles.read(indices[self.mine], flips[self.mine])
        sar, real, mask = (self.arithmetic.arrange(torch.from_numpy(array)) for array in arrays)
        return Batch(sar, fill(real, mask), mask)

    def epsilon(self, number: int) -> Tensor:
        """Where the penalty's points lie between real and fake: (B, 1, 1, 1) in [0, 1)."""
        generator = streams.numpy_generator(self.seed, streams.PENALTY, number, replica=self.replica)
        epsilon = generator.random((self.global_batch, 1, 1, 1), dtype=np.float32)
        return torch.from_numpy(epsilon[self.mine]).to(self.arithmetic.device)

    def seed_dropout(self, number: int) -> None:
        """Dropout draws from torch's global generators."""
        torch.manual_seed(streams.torch_seed(self.seed, streams.DROPOUT, number, self.rank, replica=self.replica))
