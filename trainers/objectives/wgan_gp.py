"""Wasserstein GAN objective with gradient penalty.

Gulrajani et al., 2017, https://arxiv.org/abs/1704.00028.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.objectives._objective import at_least_fp32, per_image
from trainers.options import NonNegative, options


@options
class Options:
    """`critic` says how the penalty makes one value of a logit map; the losses are means either way.

    With `sum` the penalised gradient is larger by the number of patches (900 for 30x30), and the
    adversarial gradient at the generator's output settles lower by as much.
    """

    adv_weight: NonNegative = 1.0  # of the adversarial part in the generator's loss
    penalty_weight: NonNegative = 10.0
    critic: Literal["mean", "sum"] = "mean"


def inert(part: Options) -> list[tuple[str, str]]:
    return [("critic", "penalty_weight 0")] if part.penalty_weight == 0 else []


def build(part: Options) -> WassersteinGP:
    return WassersteinGP(part.penalty_weight, part.critic)


@dataclass(frozen=True)
class WassersteinGP:
    """Difference of the mean logits; the gradient penalty keeps the critic near slope 1."""

    penalty_weight: float
    critic: str
    floor = None
    blind = None
    threshold = None

    def real(self, logits):
        return per_image(-at_least_fp32(logits))

    def fake(self, logits):
        return per_image(at_least_fp32(logits))

    def generator(self, logits):
        return per_image(-at_least_fp32(logits))

    def penalty(self, critic, real, fake, epsilon):
        """Weighted squared distance of the critic's slope from 1, per image; see trainers.penalty."""
        from trainers.penalty import gradient_penalty

        return self.penalty_weight * gradient_penalty(critic, real, fake, epsilon, reduction=self.critic)
