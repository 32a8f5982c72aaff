"""Vanilla GAN objective: binary cross-entropy, non-saturating for the generator.

Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661; one-sided label smoothing after Salimans et
al., 2016, https://arxiv.org/abs/1606.03498, sec. 3.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainers.objectives._objective import Smoothing, at_least_fp32, inverted, per_image
from trainers.options import NonNegative, options


@options
class Options:
    adv_weight: NonNegative = 1.0  # of the adversarial part in the generator's loss
    smoothing: Smoothing = (1.0, 0.0)  # the generator's target stays 1


def refuse(part: Options, recipe) -> list[str]:
    return inverted(part.smoothing)


def build(part: Options) -> Vanilla:
    return Vanilla(*part.smoothing)


@dataclass(frozen=True)
class Vanilla:
    """Cross-entropy of sigmoid(logits) with the targets, by softplus: finite for any logit."""

    target_real: float
    target_fake: float
    threshold = 0.0
    penalty = None

    @property
    def floor(self) -> float:
        return _entropy(self.target_real) + _entropy(self.target_fake)

    @property
    def blind(self) -> float:
        return 2 * _entropy((self.target_real + self.target_fake) / 2)

    def real(self, logits):
        return _cross_entropy(logits, self.target_real)

    def fake(self, logits):
        return _cross_entropy(logits, self.target_fake)

    def generator(self, logits):
        return _cross_entropy(logits, 1.0)


def _cross_entropy(logits, target: float):
    from torch.nn.functional import softplus

    logits = at_least_fp32(logits)
    return per_image(target * softplus(-logits) + (1 - target) * softplus(logits))


def _entropy(share: float) -> float:
    """Of a coin with that chance of heads, in nats."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)
