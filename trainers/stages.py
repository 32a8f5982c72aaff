"""Where a run stands in its stages: what weighs in an update, and how fast both networks learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainers.recipe import Optimizer, Plateau, Recipe, Stage


@dataclass(frozen=True)
class Weights:
    """Of the parts of the generator's loss. `terms` holds every term that is computed, also with weight 0."""

    adversarial: float
    terms: Mapping[str, float]


class Course:
    """The stages of one run; the same on every rank, since all that it reads is.

    `index`, `began` (generator updates before the stage), `best` and `stale` are its whole state.
    """

    def __init__(self, recipe: Recipe):
        self.stages, self.total = recipe.course, recipe.steps
        self.index, self.began = 0, 0
        self.best, self.stale = math.inf, 0

    @property
    def stage(self) -> Stage:
        return self.stages[self.index]

    def enter(self, done: int) -> Stage | None:
        """The stage that begins before update number `done` (from 0), or None; one at a time."""
        last = self.index == len(self.stages) - 1
        if last or done < self._planned_end() and not self._levelled(done):
            return None
        self.index, self.began = self.index + 1, done
        self.best, self.stale = math.inf, 0
        return self.stage

    def read(self, probe_l1: float) -> None:
        """Take notice of a reading of the probe: does the loss still fall?"""
        until = self.stage.timing.until
        if not isinstance(until, Plateau):
            return
        if probe_l1 < self.best * (1 - until.improvement):
            self.best, self.stale = probe_l1, 0
        else:
            self.stale += 1

    def weights(self, done: int) -> Weights:
        """For update number `done`: those of the stage, or on the way to them from the stage before."""
        own = weights_of(self.stage)
        share = self._ramped(done)
        if share >= 1:
            return own
        before = weights_of(self.stages[self.index - 1])
        names = sorted({*before.terms, *own.terms})
        blend = {name: _between(before.terms.get(name, 0.0), own.terms.get(name, 0.0), share) for name in names}
        return Weights(_between(before.adversarial, own.adversarial, share), blend)

    def rates(self, done: int) -> tuple[float, float]:
        """Learning rates of generator and discriminator for update number `done`."""
        optimizer, start, end = self.stage.optimizer, 0, self.total
        if self.stage.timing.schedule == "reset":
            start, end = self.began, max(self._planned_end(), self.began + 1)
        lr = optimizer.lr * rate_factor(done - start, end - start, optimizer)
        return lr, lr * optimizer.lr_ratio

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index, "began": self.began, "best": self.best, "stale": self.stale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.index, self.began, self.best, self.stale = (state[key] for key in ("index", "began", "best", "stale"))

    def _planned_end(self) -> int:
        """Updates after which the stage ends at the latest."""
        until = self.stage.timing.until
        share = until.at_most if isinstance(until, Plateau) else until
        return self.total if share is None else updates_until(share, self.total)

    def _levelled(self, done: int) -> bool:
        """Whether a plateau ends the stage; weights that are still on their way may yet lead somewhere."""
        until = self.stage.timing.until
        return isinstance(until, Plateau) and self.stale >= until.plateau and self._ramped(done) >= 1

    def _ramped(self, done: int) -> float:
        length = self.stage.timing.ramp * self.total
        return (done - self.began) / length if self.index and length else 1.0


def updates_until(share: float, total: int) -> int:
    """Generator updates before the first that lies at that share of the budget or after it."""
    return math.ceil(round(share * total, 6))  # 0.55 x 100 is 55, and a little more in binary


def weights_of(stage: Stage) -> Weights:
    return Weights(stage.adv_weight, {name: term.weight for name, term in stage.terms.items()})


def rate_factor(done: int, total: int, optimizer: Optimizer) -> float:
    """Share of the full learning rate for update number `done` (from 0) of `total`, in (0, 1].

    The first of `w` updates of warm-up has 1/w (Goyal et al., 2017, https://arxiv.org/abs/1706.02677, sec. 2.2);
    linear decay is pix2pix's (100 + 100 epochs), cosine that of Loshchilov and Hutter, 2017,
    https://arxiv.org/abs/1608.03983, eq. 5, without restarts.
    """
    rising, level = optimizer.warm_up * total, optimizer.constant * total
    if done < rising:
        return min((done + 1) / rising, 1.0)
    if done < level or optimizer.decay == "none":
        return 1.0
    left = (total - done) / (total - level)
    return left if optimizer.decay == "linear" else (1 - math.cos(math.pi * left)) / 2


def _between(before: float, after: float, share: float) -> float:
    return before + (after - before) * share
