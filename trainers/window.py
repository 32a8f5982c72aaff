"""Logged values between two readings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainers.health import indicators
from trainers.ranks import Ranks

# Squared norms of what pulls at G's output: all that comes through D, the adversarial part of it, the terms on images.
ADVERSARIAL, ALONE, TERMS = "square/adversarial", "square/alone", "square/terms"


@dataclass(frozen=True)
class Totals:
    """Sums over updates, the same on every rank: of logged values with their counts, and of logits."""

    sums: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    logits: tuple[float, ...] = ()  # as trainers.health.logit_sums gives them; empty where D was not updated

    def __add__(self, other: Totals) -> Totals:
        keys = sorted({*self.sums, *other.sums})
        none = (0.0, 0)
        pairs = {key: (self.sums.get(key, none), other.sums.get(key, none)) for key in keys}
        sums = {key: (a[0] + b[0], a[1] + b[1]) for key, (a, b) in pairs.items()}
        if not (self.logits and other.logits):
            return Totals(sums, self.logits or other.logits)
        return Totals(sums, tuple(a + b for a, b in zip(self.logits, other.logits, strict=True)))

    def values(self, threshold: float | None) -> dict[str, float]:
        """Means, the health of the logits, and the shares of the pulls."""
        means = {key: total / count for key, (total, count) in self.sums.items()}
        terms, shares = means.pop(TERMS, None), {"adversarial_share": ADVERSARIAL, "adversarial_alone": ALONE}
        pulls = {name: means.pop(key, None) for name, key in shares.items()}
        means |= {f"health/{name}": (pull / terms) ** 0.5 for name, pull in pulls.items() if pull is not None and terms}
        return means | (indicators(self.logits, threshold=threshold) if self.logits else {})

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {key: list(pair) for key, pair in self.sums.items()}, "logits": list(self.logits)}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Totals:
        return cls({key: (total, count) for key, (total, count) in state["sums"].items()}, tuple(state["logits"]))


class Window:
    """What was logged since the window was last closed; read from the device once, at its close."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.logged: dict[str, list[Tensor]] = {}
        self.logits: list[Tensor] = []

    def add(self, values: Mapping[str, Tensor], logits: Tensor | None = None) -> None:
        """`logits` are the sums of an update of D, as trainers.health.logit_sums gives them."""
        for key, value in values.items():
            self.logged.setdefault(key, []).append(value.detach())
        if logits is not None:
            self.logits.append(logits)

    def close(self, ranks: Ranks) -> Totals:
        """Sums over the window, values being means over ranks."""
        keys = sorted(self.logged)
        sums = torch.stack([torch.stack(self.logged[key]).double().sum() for key in keys])
        means = (ranks.sum(sums) / ranks.size).tolist()
        counts = [len(self.logged[key]) for key in keys]
        logits = ranks.sum(torch.stack(self.logits).sum(0)).tolist() if self.logits else ()
        self._clear()
        return Totals(dict(zip(keys, zip(means, counts, strict=True), strict=True)), tuple(logits))
