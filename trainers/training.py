"""Networks in training: what a generator update does, and the state that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.records import TrialSpec
from trainers import streams
from trainers.draws import Draws
from trainers.ema import Average
from trainers.families import DISCRIMINATORS, GENERATORS, Family, build
from trainers.fast import Fast
from trainers.health import logit_sums
from trainers.optimisers import adam, forget_moments, gradient_norm, set_rate
from trainers.precision import Arithmetic
from trainers.predicting import Predict, as_in_the_paper, by_running_statistics
from trainers.ranks import Ranks, bare
from trainers.recipe import Recipe
from trainers.stages import Course
from trainers.start import load_networks
from trainers.step import Batch, Steps
from trainers.tiles import Tiles
from trainers.window import Window


@dataclass(frozen=True)
class Learning:
    """Which networks learn from a draw."""

    discriminator: bool
    generator: bool


class Training:
    """Both networks with all that an update changes; `done` counts generator updates."""

    def __init__(
        self, recipe: Recipe, spec: TrialSpec, tiles: Tiles, ranks: Ranks, start: Mapping[str, Path] | None = None,
        ways: Sequence[str] = (),
    ):  # fmt: skip
        """`start` says where the files lie whose digests the recipe's `start` states; `ways` as in trainers.ways."""
        self.recipe, self.spec, self.ranks = recipe, spec, ranks
        self.arithmetic = Arithmetic(recipe.compute, ranks.device)
        self.draws = Draws(tiles, recipe, spec, ranks, self.arithmetic)
        generator = self._network(streams.INIT_G, GENERATORS, recipe.generator, tile=tiles.tile,
                                  bands_in=tiles.sar_bands, bands_out=tiles.optical_bands)  # fmt: skip
        discriminator = self._network(streams.INIT_D, DISCRIMINATORS, recipe.discriminator,
                                      bands=tiles.sar_bands + tiles.optical_bands)  # fmt: skip
        load_networks(recipe.start, start or {}, generator=generator, discriminator=discriminator)
        first = recipe.course[0].optimizer
        self.adam_g, self.adam_d = (adam(network, first.lr, first.betas) for network in (generator, discriminator))
        self.average = Average(generator, recipe.ema) if recipe.ema.decay else None
        self.fast = Fast(self, ways)
        wrapped = (generator, discriminator) if self.fast.graphs else map(ranks.wrap, (generator, discriminator))
        self.steps = Steps(recipe, *wrapped, self.arithmetic)
        self.course = Course(recipe)
        self.window = Window()
        self.rates = (first.lr, first.lr * first.lr_ratio)  # of G and D, in the last update
        self.done = 0

    def _network(self, stream: str, family: Family, part: object, **context: int) -> nn.Module:
        seed = streams.torch_seed(self.spec.seed, stream, replica=self.spec.replica)
        network = build(family, part, generator=torch.Generator().manual_seed(seed), **context)
        return self.arithmetic.place(network)

    @property
    def generator(self) -> nn.Module:
        return bare(self.steps.generator)

    @property
    def discriminator(self) -> nn.Module:
        return bare(self.steps.discriminator)

    @property
    def result(self) -> nn.Module:
        """The generator that is scored, sampled and kept: the average where there is one."""
        return self.average.network if self.average else self.generator

    # -- an update ------------------------------------------------------------------------------

    def advance(self) -> None:
        """One generator update with the discriminator updates that belong to it."""
        self._enter_stages()
        self._set_rates()
        self.fast.update()
        if self.average:
            self.average.update()
        self.done += 1

    def of_update(self) -> Iterator[tuple[int, Learning]]:
        """The draws of this update, the last of which is the generator's."""
        updates = self.recipe.updates
        last = (self.done + 1) * updates.discriminator - 1
        for number in range(self.done * updates.discriminator, last):
            yield number, Learning(discriminator=True, generator=False)
        yield last, Learning(discriminator=self.done % updates.generator == 0, generator=True)

    def learn_from(self, number: int, learning: Learning) -> None:
        """Learn from a draw, and log it."""
        batch = self.draws.batch(number)
        self.draws.seed_dropout(number)
        self.window.add(*self.learn(batch, lambda: self.draws.epsilon(number), learning))

    def _enter_stages(self) -> None:
        while stage := self.course.enter(self.done):
            if stage.timing.moments == "reset":
                forget_moments(self.adam_g)
                forget_moments(self.adam_d)

    def _set_rates(self) -> None:
        betas = self.course.stage.optimizer.betas
        self.rates = self.course.rates(self.done)
        for optimizer, lr in zip((self.adam_g, self.adam_d), self.rates, strict=True):
            set_rate(optimizer, lr, betas)

    def learn(
        self, batch: Batch, epsilon: Callable[[], Tensor], learning: Learning
    ) -> tuple[dict[str, Tensor], Tensor | None]:  # fmt: skip
        """What is to be logged of one draw that networks have learned from: values, and the sums of D's logits.

        All of it is work for the device, of which the host reads nothing: so it can be captured (trainers.graphs).
        """
        with torch.set_grad_enabled(learning.generator):
            fake = self.steps.generate(batch)
        values, logits = {}, None
        if learning.discriminator:
            values, logits = self._update_discriminator(batch, fake, epsilon)
        if learning.generator:
            values |= self._update_generator(batch, fake)
        return values, logits

    def _update_discriminator(
        self, batch: Batch, fake: Tensor, epsilon: Callable[[], Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        judged = self.steps.discriminator_loss(batch, fake, epsilon)
        self.adam_d.zero_grad(set_to_none=True)
        with self.arithmetic.backward():
            judged.loss.backward()
        values = {key: value.detach() for key, value in judged.values.items()}
        values["health/gradient_d"] = gradient_norm(self.steps.discriminator)
        self.adam_d.step()
        return values, logit_sums(judged.on_real, judged.on_fake, self.steps.objective.threshold)

    def _update_generator(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        pull, values = self.steps.generator_pull(batch, fake, self.course, self.done)
        self.adam_g.zero_grad(set_to_none=True)
        with self.arithmetic.backward():
            fake.backward(pull)
        values["health/gradient_g"] = gradient_norm(self.steps.generator)
        self.adam_g.step()
        return values

    # -- what is read between updates -----------------------------------------------------------

    def settle(self) -> None:
        """Average running statistics over ranks: evaluation and checkpoints then see one network, and, the
        average being linear, its result does not depend on how often it is taken.
        """
        for network in (self.generator, self.discriminator):
            self.ranks.average_(network.buffers())
        if self.average:
            self.average.follow()

    def predictor(self) -> Predict:
        """Of the resulting generator, in the evaluation mode of the recipe."""
        return self._mode(self.result, self.arithmetic)

    @property
    def predict(self) -> Predict:
        """Of the generator in training, in the same mode: what its health is read from."""
        return self._mode(self.generator, self.arithmetic)

    @property
    def _mode(self) -> Callable[[nn.Module, Arithmetic], Predict]:
        return by_running_statistics if self.recipe.evaluate.mode == "running" else as_in_the_paper

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on; what it draws is a function of `done`."""
        return {
            "done": self.done, "course": self.course.state_dict(),
            "generator": self.generator.state_dict(), "adam_g": self.adam_g.state_dict(),
            "discriminator": self.discriminator.state_dict(), "adam_d": self.adam_d.state_dict(),
            "average": self.average.state_dict() if self.average else None,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.done = state["done"]
        self.course.load_state_dict(state["course"])
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.adam_g.load_state_dict(state["adam_g"])
        self.adam_d.load_state_dict(state["adam_d"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.fast.forget()
