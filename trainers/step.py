"""One update of the discriminator and one of the generator.

Conventions of pix2pix (Isola et al., 2017, section 3.3): real and fake pass the discriminator
separately; its loss is halved for the update and reported whole; the generator's adversarial
gradient flows through a frozen discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainers.families import OBJECTIVES, TERMS, build, part_name
from trainers.masks import fill
from trainers.precision import Arithmetic
from trainers.ranks import bare
from trainers.recipe import Recipe, Stage
from trainers.stages import Course, Weights


@dataclass
class Batch:
    """One rank's share of a global batch: (B, C, H, W) in [-1, 1]; mask (B, 1, H, W) of 0 and 1."""

    sar: Tensor
    real: Tensor  # optical, filled outside the mask
    mask: Tensor


@dataclass
class Judged:
    """A discriminator's loss for the update, its parts as they are logged, and the logits that it gave."""

    loss: Tensor
    values: dict[str, Tensor]
    on_real: list[Tensor]
    on_fake: list[Tensor]


@dataclass(frozen=True)
class Term:
    """A part of the generator's loss. A term's file may say `INPUTS = "features"`: of D, in place of images."""

    loss: Callable[..., Tensor]
    inputs: str


def built_terms(course: Iterable[Stage]) -> list[dict[str, Term]]:
    """The terms of each stage by name; those that differ in weight alone are one, so that VGG19 is read once."""
    built: dict[object, Term] = {}
    for part in (part for stage in course for part in stage.terms.values()):
        module = TERMS.part(part_name(part))
        if _weightless(part) not in built:
            built[_weightless(part)] = Term(module.build(part), getattr(module, "INPUTS", "images"))
    return [{name: built[_weightless(part)] for name, part in stage.terms.items()} for stage in course]


def _weightless(part: object) -> object:
    return replace(part, weight=0.0)


def over_scales(loss: Callable[[Tensor], Tensor], maps: list[Tensor]) -> Tensor:
    """Mean over a multi-scale discriminator's maps and over the batch."""
    return torch.stack([loss(logits).mean() for logits in maps]).mean()


class Steps:
    """The two updates of a recipe. Networks may be DDP-wrapped; values returned are detached."""

    def __init__(self, recipe: Recipe, generator: nn.Module, discriminator: nn.Module, arithmetic: Arithmetic):
        self.generator, self.discriminator, self.arithmetic = generator, discriminator, arithmetic
        self.objective = build(OBJECTIVES, recipe.objective)
        self.terms = built_terms(recipe.course)

    def generate(self, batch: Batch) -> Tensor:
        with self.arithmetic.forward():
            fake = self.generator(batch.sar)
        return fill(fake.float(), batch.mask)

    def discriminator_loss(self, batch: Batch, fake: Tensor, epsilon: Callable[[], Tensor]) -> Judged:
        """What D minimises (halved), with the values to log and the logits.

        `epsilon` gives (B, 1, 1, 1) in [0, 1), the penalty's points between real and fake. The
        penalty shares one backward with the logit losses: alone it would leave gradients unreduced.
        """
        fake = fake.detach()
        with self.arithmetic.forward():
            on_real = self.discriminator(batch.sar, batch.real)
            on_fake = self.discriminator(batch.sar, fake)
        real_part = over_scales(self.objective.real, on_real)
        fake_part = over_scales(self.objective.fake, on_fake)
        total = real_part + fake_part
        values = {"loss_d": total, "loss_d_real": real_part, "loss_d_fake": fake_part}
        if self.objective.penalty is not None:
            penalty = self.objective.penalty(
                lambda images: self.discriminator(batch.sar, images), batch.real, fake, epsilon()
            ).mean()
            values["loss_d_penalty"] = penalty
            total = total + penalty
        return Judged(0.5 * total, values, on_real, on_fake)

    def generator_pull(self, batch: Batch, fake: Tensor, course: Course, done: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The gradient of G's loss at its output, for `fake.backward`, and the logged values.

        Raw terms stand under `term/`, weighted ones under `weighted/`. Two pulls meet at the output: that of all
        which comes through the discriminator, feature matching included, and that of the terms on images. Their
        squared norms are `square/adversarial` and `square/terms`; with feature matching, `square/alone` is that of
        the adversarial part by itself.
        """
        weights = course.weights(done)
        judge = bare(self.discriminator)
        judge.requires_grad_(False)
        try:
            with self.arithmetic.forward():
                features = judge.features(batch.sar, fake)
            adversarial = over_scales(self.objective.generator, [scale[-1] for scale in features])
            values = {"loss_g_adv": adversarial}
            parts = self._weighted_terms(batch, fake, features, course, weights, values)
            values["loss_g"] = sum(parts.values(), weights.adversarial * adversarial)
            with self.arithmetic.backward():
                alone = torch.autograd.grad(weights.adversarial * adversarial, fake, retain_graph=True)[0]
                pull = alone + torch.autograd.grad(parts["features"], fake)[0] if "features" in parts else alone
        finally:
            judge.requires_grad_(True)
        if weights.adversarial or "features" in parts:
            values["square/adversarial"] = pull.square().sum()
        if weights.adversarial and "features" in parts:
            values["square/alone"] = alone.square().sum()
        if "images" in parts:
            by_terms = torch.autograd.grad(parts["images"], fake)[0]
            values["square/terms"] = by_terms.square().sum()
            pull = pull + by_terms
        return pull, values

    def _weighted_terms(
        self, batch: Batch, fake: Tensor, features: list[list[Tensor]], course: Course, weights: Weights,
        values: dict[str, Tensor],
    ) -> dict[str, Tensor]:  # fmt: skip
        """Sums of the weighted terms by what they compare, `features` of D or `images`; each is added to `values`."""
        sums: dict[str, Tensor] = {}
        real_features = None
        for name, weight in weights.terms.items():
            term = self._term(course.index, name)
            if term.inputs == "features":
                real_features = real_features or self._features_of_real(batch)
                raw = term.loss(features, real_features).mean()
            else:
                raw = term.loss(fake, batch.real, batch.mask).mean()
            values |= {f"term/{name}": raw, f"weighted/{name}": weight * raw}
            sums[term.inputs] = sums[term.inputs] + weight * raw if term.inputs in sums else weight * raw
        return sums

    def _term(self, stage: int, name: str) -> Term:
        """A term of the stage, or one of the stage before that is on its way out."""
        return self.terms[stage].get(name) or self.terms[stage - 1][name]

    @torch.no_grad()
    def _features_of_real(self, batch: Batch) -> list[list[Tensor]]:
        with self.arithmetic.forward():
            return bare(self.discriminator).features(batch.sar, batch.real)
