"""Hinge GAN objective; the generator's part is not hinged.

Lim and Ye, 2017, https://arxiv.org/abs/1705.02894; Miyato et al., 2018,
https://arxiv.org/abs/1802.05957, eq. 16 and 17.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.objectives._objective import at_least_fp32, per_image
from trainers.options import NonNegative, options


@options
class Options:
    adv_weight: NonNegative = 1.0  # of the adversarial part in the generator's loss


def build(part: Options) -> Hinge:
    return Hinge()


@dataclass(frozen=True)
class Hinge:
    """Real logits below 1 and fake ones above -1 cost the discriminator."""

    floor = 0.0
    blind = 2.0
    threshold = 0.0
    penalty = None

    def real(self, logits):
        return per_image((1 - at_least_fp32(logits)).relu())

    def fake(self, logits):
        return per_image((1 + at_least_fp32(logits)).relu())

    def generator(self, logits):
        return per_image(-at_least_fp32(logits))
