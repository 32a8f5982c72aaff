"""Recipe: everything that determines one training run, typed, with pix2pix defaults.

Isola et al., 2017, https://arxiv.org/abs/1611.07004 (sections 3.3 and 6.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from trainers.families import (
    DISCRIMINATORS,
    GENERATORS,
    LAYOUTS,
    OBJECTIVES,
    TERMS,
    Family,
    as_document,
    from_document,
    revive,
)
from trainers.options import Annotated, Bounds, Count, Fraction, Path, options

READINGS = 50  # of health, a run, at most
Share = Annotated[float, Bounds(above=0, below=1)]


@options
class Optimizer:
    """Adam for both networks; the discriminator's rate is `lr * lr_ratio`.

    The rates rise from zero during `warm_up`, stand at full height until `constant`, then fall to zero;
    both are shares of the budget, counted from its start.
    """

    lr: Annotated[float, Bounds(above=0, high=1)] = 2e-4
    lr_ratio: Annotated[float, Bounds(above=0, high=100)] = 1.0
    betas: tuple[Annotated[float, Bounds(low=0, below=1)], Annotated[float, Bounds(low=0, below=1)]] = (0.5, 0.999)
    warm_up: Fraction = 0.0
    constant: Fraction = 0.5  # pix2pix: 100 of 200 epochs
    decay: Literal["linear", "cosine", "none"] = "linear"


@options
class Updates:
    """Generator updates per discriminator update, or the other way round."""

    generator: Count = 1
    discriminator: Count = 1


@options
class Budget:
    """Length of training, equal across arms; exactly one of the two is set."""

    generator_updates: Count | None = None
    images: Count | None = None  # pairs that the generator is updated on

    @property
    def unit(self) -> str:
        return "images" if self.images else "generator_updates"

    @property
    def amount(self) -> int:
        return self.images or self.generator_updates or 0


@options
class Evaluate:
    """When validation tiles are scored, and how the generator is run for it.

    `running`: batch norm by its running statistics, dropout off. `paper`: as pix2pix tests (Isola et al.,
    2017, sec. 3.3): batch statistics of each image alone, and dropout on, drawn from a fixed seed.
    `test` scores the test scenes too, once, when training has ended; nothing is ranked or chosen by them.
    """

    every: Count  # in the unit of the budget
    mode: Literal["running", "paper"] = "running"
    test: bool = False


@options
class Ema:
    """Exponential moving average of the generator's weights: where `decay` is set, the average is what is scored
    and kept.

    The decay rises as (1 + n) / (10 + n) over updates n until it reaches `decay`, so that the first weights are
    soon forgotten.
    """

    decay: Share | None = None  # per generator update; none trains without an average


@options
class Compute:
    """Arithmetic of the networks; losses, penalty, metrics and optimiser stay in fp32.

    `tf32` rounds the factors of convolutions and matrix products on CUDA, forward and back, and is fp32 elsewhere;
    `bf16` is autocast.
    """

    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"


@options
class Start:
    """Files of networks to start from, in place of random weights: a checkpoint of ours, or a state dict of the
    published pix2pix. `start: FILE` is short for its generator.
    """

    generator: Path = ""
    discriminator: Path = ""


@options
class Health:
    """What a collapse of the generator, once diagnosed, does to the trial; divergence always ends it."""

    collapse: Literal["continue", "end"] = "continue"


@options
class Plateau:
    """The end of a stage by its progress: when the probe's L1 has not fallen by `improvement` (a share of its best)
    for `plateau` readings in a row, of about 50 a run; and at the share `at_most` of the budget in any case.
    """

    plateau: Count
    at_most: Share
    improvement: Share = 0.01


@options
class Timing:
    """When a stage ends, and how it begins.

    `until` is a share of the budget, counted from the start of the run; the last stage has none. `ramp`, also a
    share of the budget, moves the weights of all loss terms linearly from those of the stage before; 0 switches.
    `reset` forgets Adam's moments, or begins the learning-rate schedule again, over the span of the stage; a stage
    after it that keeps the schedule is back on that of the whole budget.
    """

    until: Share | Plateau | None = None
    ramp: Fraction = 0.0
    moments: Literal["keep", "reset"] = "keep"
    schedule: Literal["keep", "reset"] = "keep"


@dataclass(frozen=True)
class Stage:
    """A part of training: its timing, and all that may differ from the stage before."""

    timing: Timing
    terms: Mapping[str, Any]
    optimizer: Optimizer
    adv_weight: float

    def to_document(self) -> dict[str, Any]:
        terms = {name: asdict(term) for name, term in self.terms.items()}
        return {
            **asdict(self.timing), "terms": terms, "optimizer": asdict(self.optimizer), "adv_weight": self.adv_weight,
        }  # fmt: skip

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Stage:
        timing = {field.name: document[field.name] for field in fields(Timing)}
        if isinstance(timing["until"], Mapping):
            timing["until"] = Plateau(**timing["until"])
        optimizer = revive(Optimizer, document["optimizer"])
        return cls(Timing(**timing), _terms(document["terms"]), optimizer, document["adv_weight"])


# How each recipe key is read: a family of parts, or one plain dataclass.
PARTS: dict[str, Family] = {
    "data": LAYOUTS,
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "objective": OBJECTIVES,
}
PLAIN: dict[str, type] = {
    "optimizer": Optimizer, "updates": Updates, "budget": Budget, "evaluate": Evaluate, "ema": Ema,
    "compute": Compute, "start": Start, "health": Health,
}  # fmt: skip

# What a recipe holds where a study says nothing.
DEFAULTS: dict[str, Any] = {
    "data": {"layout": "synthetic"},
    "generator": {"name": "unet"},
    "discriminator": {"name": "patchgan"},
    "objective": {"name": "vanilla"},
    "terms": {"l1": 100},
    "optimizer": {},
    "updates": {},
    "stages": [],
    "ema": {},
    "compute": {},
    "start": {},
    "health": {},
    "batch": 1,
}


@dataclass(frozen=True)
class Recipe:
    data: Any
    generator: Any
    discriminator: Any
    objective: Any
    budget: Budget
    evaluate: Evaluate
    terms: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    updates: Updates = field(default_factory=Updates)
    stages: tuple[Stage, ...] = ()  # none: one stage, of the terms and the optimizer above
    ema: Ema = field(default_factory=Ema)
    compute: Compute = field(default_factory=Compute)
    start: Start = field(default_factory=Start)
    health: Health = field(default_factory=Health)
    batch: int = 1  # global; ranks divide it

    @property
    def course(self) -> tuple[Stage, ...]:
        """The stages of training, at least one."""
        return self.stages or (Stage(Timing(), self.terms, self.optimizer, self.objective.adv_weight),)

    @property
    def steps(self) -> int:
        """Generator updates of the whole run; an image budget is rounded up to whole batches."""
        return self._in_updates(self.budget.amount)

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Generator updates after which to evaluate: every `evaluate.every`, and the last one."""
        marks = range(self.evaluate.every, self.budget.amount, self.evaluate.every)
        return tuple(sorted({self._in_updates(mark) for mark in marks} | {self.steps}))

    @property
    def discriminator_updates(self) -> int:
        """Of the whole run."""
        return -(-self.steps // self.updates.generator) * self.updates.discriminator

    @property
    def reading_steps(self) -> range:
        """Generator updates after which health is read: evenly spaced, whatever `evaluate.every` is."""
        stride = max(1, -(-self.steps // READINGS))
        return range(stride, self.steps + 1, stride)

    def _in_updates(self, amount: int) -> int:
        return -(-amount // self.batch) if self.budget.unit == "images" else amount

    def to_document(self) -> dict[str, Any]:
        """Plain mapping with every default filled in; inverse of `from_document`."""
        parts = {key: as_document(family, getattr(self, key)) for key, family in PARTS.items()}
        plain = {key: asdict(getattr(self, key)) for key in PLAIN}
        terms = {key: asdict(term) for key, term in self.terms.items()}
        stages = [stage.to_document() for stage in self.stages]
        return {**parts, **plain, "terms": terms, "stages": stages, "batch": self.batch}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Recipe:
        """The recipe of a complete, validated mapping."""
        parts = {key: from_document(family, document[key]) for key, family in PARTS.items()}
        plain = {key: revive(kind, document[key]) for key, kind in PLAIN.items()}
        stages = tuple(Stage.from_document(stage) for stage in document["stages"])
        return cls(**parts, **plain, terms=_terms(document["terms"]), stages=stages, batch=document["batch"])


def _terms(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: revive(TERMS.options(name), value) for name, value in document.items()}


