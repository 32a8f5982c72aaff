"""Logged values between two boundaries of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.health import indicators, logit_sums
from trainers.ranks import Ranks


class Window:
    """Means of the logged values since the last boundary; read from the device once, at its close."""

    def __init__(self, threshold: float | None):
        self.threshold = threshold
        self._clear()

    def _clear(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.logits: list[Tensor] = []

    def add(self, values: dict[str, Tensor]) -> None:
        for key, value in values.items():
            self.values.setdefault(key, []).append(value.detach())

    def add_logits(self, real: list[Tensor], fake: list[Tensor]) -> None:
        self.logits.append(logit_sums(real, fake, self.threshold))

    def close(self, ranks: Ranks) -> dict[str, float]:
        """Means over the window and over ranks, and the health of its logits."""
        keys = sorted(self.values)
        means = torch.stack([torch.stack(self.values[key]).double().mean() for key in keys])
        values = dict(zip(keys, (ranks.sum(means) / ranks.size).tolist(), strict=True))
        if self.logits:
            values |= indicators(ranks.sum(torch.stack(self.logits).sum(0)), threshold=self.threshold)
        self._clear()
        return values
