"""The generator's moving average."""

from __future__ import annotations

import copy

import torch
from torch import nn

from trainers.recipe import Ema


class Average:
    """Exponential moving average of a network's weights, after every update of them.

    `network` holds the average: it is the one that is scored, sampled and kept. Running statistics
    are not averaged but taken over (`follow`), as they are averages already.
    """

    def __init__(self, source: nn.Module, part: Ema):
        self.source, self.decay = source, part.decay
        self.network = copy.deepcopy(source).requires_grad_(False)
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(list(self.network.parameters()), list(self.source.parameters()), 1 - decay)

    @torch.no_grad()
    def follow(self) -> None:
        for mine, theirs in zip(self.network.buffers(), self.source.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]
