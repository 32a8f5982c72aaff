"""One update of the discriminator and one of the generator.

Conventions of pix2pix (Isola et al., 2017, section 3.3): real and fake pass the discriminator
separately; its loss is halved for the update and reported whole; the generator's adversarial
gradient flows through a frozen discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainers.families import OBJECTIVES, TERMS, build
from trainers.masks import fill
from trainers.ranks import bare
from trainers.recipe import Recipe

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Batch:
    """One rank's share of a global batch: (B, C, H, W) in [-1, 1]; mask (B, 1, H, W) of 0 and 1."""

    sar: Tensor
    real: Tensor  # optical, filled outside the mask
    mask: Tensor


def over_scales(loss: Callable[[Tensor], Tensor], maps: list[Tensor]) -> Tensor:
    """Mean over a multi-scale discriminator's maps and over the batch."""
    return torch.stack([loss(logits).mean() for logits in maps]).mean()


class Steps:
    """The two updates of a recipe. Networks may be DDP-wrapped; values returned are detached."""

    def __init__(self, recipe: Recipe, generator: nn.Module, discriminator: nn.Module):
        self.generator, self.discriminator = generator, discriminator
        self.objective = build(OBJECTIVES, recipe.objective)
        self.adv_weight = recipe.objective.adv_weight
        self.terms: Mapping[str, tuple[float, Loss]] = {
            name: (part.weight, build(TERMS, part)) for name, part in recipe.terms.items()
        }

    def generate(self, batch: Batch) -> Tensor:
        return fill(self.generator(batch.sar), batch.mask)

    def discriminator_loss(self, batch: Batch, fake: Tensor, epsilon: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What D minimises (halved), the logged values, and the logits under `logits/...`.

        `epsilon` (B, 1, 1, 1) in [0, 1) places the penalty's points between real and fake. The
        penalty shares one backward with the logit losses: alone it would leave gradients unreduced.
        """
        fake = fake.detach()
        on_real = self.discriminator(batch.sar, batch.real)
        on_fake = self.discriminator(batch.sar, fake)
        real_part = over_scales(self.objective.real, on_real)
        fake_part = over_scales(self.objective.fake, on_fake)
        total = real_part + fake_part
        values = {"loss_d": total, "loss_d_real": real_part, "loss_d_fake": fake_part}
        if self.objective.penalty is not None:
            penalty = self.objective.penalty(
                lambda images: self.discriminator(batch.sar, images), batch.real, fake, epsilon
            ).mean()
            values["loss_d_penalty"] = penalty
            total = total + penalty
        values |= {"logits/real": on_real, "logits/fake": on_fake}
        return 0.5 * total, values

    def generator_loss(self, batch: Batch, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What G minimises and the logged values: raw terms under `term/`, weighted under `weighted/`."""
        frozen = bare(self.discriminator)
        frozen.requires_grad_(False)
        try:
            adversarial = over_scales(self.objective.generator, frozen(batch.sar, fake))
        finally:
            frozen.requires_grad_(True)
        total = self.adv_weight * adversarial
        values = {"loss_g_adv": adversarial}
        for name, (weight, term) in self.terms.items():
            raw = term(fake, batch.real, batch.mask).mean()
            values |= {f"term/{name}": raw, f"weighted/{name}": weight * raw}
            total = total + weight * raw
        values["loss_g"] = total
        return total, values
