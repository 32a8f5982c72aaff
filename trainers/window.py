"""Logged values between two readings of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.health import indicators, logit_sums
from trainers.ranks import Ranks

SQUARES = "square/"  # squared norms: their root is logged, where it is of use


class Window:
    """Means of the logged values since the last reading; read from the device once, at its close."""

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
        """Means over the window and over ranks, and the health of its logits and of the generator's pulls."""
        keys = sorted(self.values)
        means = torch.stack([torch.stack(self.values[key]).double().mean() for key in keys])
        values = dict(zip(keys, (ranks.sum(means) / ranks.size).tolist(), strict=True))
        squares = {key: values.pop(key) for key in keys if key.startswith(SQUARES)}
        if "square/adversarial" in squares and squares.get("square/terms"):
            values["health/adversarial_share"] = (squares["square/adversarial"] / squares["square/terms"]) ** 0.5
        if self.logits:
            values |= indicators(ranks.sum(torch.stack(self.logits).sum(0)), threshold=self.threshold)
        self._clear()
        return values
