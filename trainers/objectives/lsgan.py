"""Least-squares GAN objective.

Mao et al., 2017, https://arxiv.org/abs/1611.04076, eq. 9 (targets 1 and 0, without the factor 1/2).
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.objectives._objective import Smoothing, at_least_fp32, inverted, per_image
from trainers.options import NonNegative, options


@options
class Options:
    adv_weight: NonNegative = 1.0  # of the adversarial part in the generator's loss
    smoothing: Smoothing = (1.0, 0.0)  # the generator's target stays 1


def refuse(part: Options, recipe) -> list[str]:
    return inverted(part.smoothing)


def build(part: Options) -> LeastSquares:
    return LeastSquares(*part.smoothing)


@dataclass(frozen=True)
class LeastSquares:
    """Squared distance of the logits from their targets."""

    target_real: float
    target_fake: float
    floor = 0.0
    penalty = None

    @property
    def blind(self) -> float:
        return (self.target_real - self.target_fake) ** 2 / 2

    @property
    def threshold(self) -> float:
        return (self.target_real + self.target_fake) / 2

    def real(self, logits):
        return _squared(logits, self.target_real)

    def fake(self, logits):
        return _squared(logits, self.target_fake)

    def generator(self, logits):
        return _squared(logits, 1.0)


def _squared(logits, target: float):
    return per_image((at_least_fp32(logits) - target).square())
