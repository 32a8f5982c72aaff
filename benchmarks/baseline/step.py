"""The textbook pix2pix update in plain torch: the networks as published, torch.optim.Adam by default, eager fp32.

Networks are those of tests/trainers/pix2pix.py, which restates junyanz/pytorch-CycleGAN-and-pix2pix. The update goes
as there: D on fake and real, then G through a frozen D. Factors of the demo study are written as their papers do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainers.pix2pix import NLayerDiscriminator, UnetGenerator


def networks(recipe: dict[str, Any], bands_in: int, bands_out: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a recipe's sizes, weights drawn from N(0, 0.02)."""
    made, judged = recipe["generator"], recipe["discriminator"]
    halvings = made["depth"] or recipe["data"]["tile"].bit_length() - 1
    generator = UnetGenerator(bands_in, bands_out, halvings, width=made["width"], norm=made["norm"])
    norm = {"spectral": "none", "sync_batch": "batch"}.get(judged["norm"], judged["norm"])
    discriminator = NLayerDiscriminator(
        bands_in + bands_out, width=judged["width"], layers=judged["layers"], norm=norm
    )  # fmt: skip
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    if judged["norm"] == "spectral":
        for layer in [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]:
            nn.utils.parametrizations.spectral_norm(layer)
    return generator, discriminator


def unwrapped(network: nn.Module) -> nn.Module:
    return getattr(network, "module", network)


class Pix2Pix:
    """Networks, which may be DDP-wrapped, their optimisers, and one update."""

    def __init__(self, recipe: dict[str, Any], generator: nn.Module, discriminator: nn.Module):
        self.recipe, self.generator, self.discriminator = recipe, generator, discriminator
        chosen = recipe["optimizer"]
        lr, betas = chosen["lr"], tuple(map(float, chosen["betas"]))
        self.adam_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
        self.adam_d = torch.optim.Adam(discriminator.parameters(), lr=lr * chosen["lr_ratio"], betas=betas)
        steps = recipe["budget"]["generator_updates"]
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(adam, lambda k: min(1.0, 2 * (1 - k / steps)))
            for adam in (self.adam_g, self.adam_d)
        ]
        self.done = 0

    def update(self, sar: Tensor, real: Tensor) -> dict[str, float]:
        """One update of D (where it is due) and one of G; the losses, read from the device at once."""
        losses: dict[str, float] = {}
        fake = self.generator(sar)
        if self.done % self.recipe["updates"]["generator"] == 0:
            losses |= self._update_discriminator(sar, real, fake.detach())
        losses |= self._update_generator(sar, real, fake)
        for schedule in self.schedules:
            schedule.step()
        self.done += 1
        return losses

    def _update_discriminator(self, sar: Tensor, real: Tensor, fake: Tensor) -> dict[str, float]:
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        self.adam_d.zero_grad()
        on_fake = self.discriminator(torch.cat([sar, fake], 1))
        on_real = self.discriminator(torch.cat([sar, real], 1))
        loss_fake, loss_real = self._judge(on_fake, real=False), self._judge(on_real, real=True)
        loss = loss_fake + loss_real
        losses = {"loss_d_fake": loss_fake.item(), "loss_d_real": loss_real.item()}
        if self.recipe["objective"]["name"] == "wgan_gp":
            penalty = self._penalty(sar, real, fake)
            losses["loss_d_penalty"] = penalty.item()
            loss = loss + penalty
        (0.5 * loss).backward()
        self.adam_d.step()
        return losses | {"loss_d": loss.item()}

    def _update_generator(self, sar: Tensor, real: Tensor, fake: Tensor) -> dict[str, float]:
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        self.adam_g.zero_grad()
        on_fake = unwrapped(self.discriminator)(torch.cat([sar, fake], 1))
        adversarial = self._adversarial(on_fake)
        terms = {name: part["weight"] * term(name, fake, real) for name, part in self.recipe["terms"].items()}
        loss = adversarial + sum(terms.values())
        loss.backward()
        self.adam_g.step()
        return {"loss_g": loss.item(), "loss_g_adv": adversarial.item(), **{k: v.item() for k, v in terms.items()}}

    def _judge(self, logits: Tensor, *, real: bool) -> Tensor:
        chosen = self.recipe["objective"]
        if chosen["name"] == "hinge":
            return functional.relu(1 - logits if real else 1 + logits).mean()
        if chosen["name"] == "wgan_gp":
            return -logits.mean() if real else logits.mean()
        target = torch.full_like(logits, chosen["smoothing"][0 if real else 1])
        return functional.binary_cross_entropy_with_logits(logits, target)

    def _adversarial(self, logits: Tensor) -> Tensor:
        if self.recipe["objective"]["name"] in ("hinge", "wgan_gp"):
            return -logits.mean()
        return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def _penalty(self, sar: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
        mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_(True)
        logits = self.discriminator(torch.cat([sar, mixed], 1)).flatten(1).mean(1)
        gradient = torch.autograd.grad(logits.sum(), mixed, create_graph=True)[0]
        return self.recipe["objective"]["penalty_weight"] * (gradient.flatten(1).norm(2, dim=1) - 1).square().mean()


def term(name: str, fake: Tensor, real: Tensor) -> Tensor:
    """A term of G's loss. Raises KeyError for one that the demo study does not have."""
    return {"l1": _l1, "charbonnier": _charbonnier, "ssim": _ssim, "gradient": _gradient}[name](fake, real)


def _l1(fake: Tensor, real: Tensor) -> Tensor:
    return functional.l1_loss(fake, real)


def _charbonnier(fake: Tensor, real: Tensor) -> Tensor:
    return ((fake - real).square() + 1e-6).sqrt().mean()


def _ssim(fake: Tensor, real: Tensor) -> Tensor:
    from pytorch_msssim import ssim

    return 1 - ssim((fake + 1) / 2, (real + 1) / 2, data_range=1.0)


def _gradient(fake: Tensor, real: Tensor) -> Tensor:
    return sum(functional.l1_loss(fake.diff(dim=dim), real.diff(dim=dim)) for dim in (2, 3))
