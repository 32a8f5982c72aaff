"""Recipe: everything that determines one training run, typed, with pix2pix defaults.

Isola et al., 2017, https://arxiv.org/abs/1611.07004 (sections 3.3 and 6.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

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
from trainers.options import Annotated, Bounds, Count, Fraction, Positive, options


@options
class Optimizer:
    """Adam for both networks; the discriminator's rate is `lr * lr_ratio`."""

    lr: Annotated[float, Bounds(above=0, high=1)] = 2e-4
    lr_ratio: Annotated[float, Bounds(above=0, high=100)] = 1.0
    betas: tuple[Annotated[float, Bounds(low=0, below=1)], Annotated[float, Bounds(low=0, below=1)]] = (0.5, 0.999)
    constant: Fraction = 0.5  # share of the budget at full rate; then linear to zero


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
    every: Count  # in the unit of the budget


# How each recipe key is read: a family of parts, or one plain dataclass.
PARTS: dict[str, Family] = {
    "data": LAYOUTS,
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "objective": OBJECTIVES,
}
PLAIN: dict[str, type] = {"optimizer": Optimizer, "updates": Updates, "budget": Budget, "evaluate": Evaluate}

# What a recipe holds where a study says nothing.
DEFAULTS: dict[str, Any] = {
    "data": {"layout": "synthetic"},
    "generator": {"name": "unet"},
    "discriminator": {"name": "patchgan"},
    "objective": {"name": "vanilla"},
    "terms": {"l1": 100},
    "optimizer": {},
    "updates": {},
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
    batch: int = 1  # global; ranks divide it

    @property
    def steps(self) -> int:
        """Generator updates of the whole run; an image budget is rounded up to whole batches."""
        return self._in_updates(self.budget.amount)

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """Generator updates after which to evaluate: every `evaluate.every`, and the last one."""
        marks = range(self.evaluate.every, self.budget.amount, self.evaluate.every)
        return tuple(sorted({self._in_updates(mark) for mark in marks} | {self.steps}))

    def _in_updates(self, amount: int) -> int:
        return -(-amount // self.batch) if self.budget.unit == "images" else amount

    def to_document(self) -> dict[str, Any]:
        """Plain mapping with every default filled in; inverse of `from_document`."""
        parts = {key: as_document(family, getattr(self, key)) for key, family in PARTS.items()}
        plain = {key: asdict(getattr(self, key)) for key in PLAIN}
        return {**parts, **plain, "terms": {key: asdict(term) for key, term in self.terms.items()}, "batch": self.batch}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Recipe:
        """The recipe of a complete, validated mapping."""
        parts = {key: from_document(family, document[key]) for key, family in PARTS.items()}
        plain = {key: revive(kind, document[key]) for key, kind in PLAIN.items()}
        terms = {name: revive(TERMS.options(name), value) for name, value in document["terms"].items()}
        return cls(**parts, **plain, terms=terms, batch=document["batch"])


__all__ = ["DEFAULTS", "PARTS", "PLAIN", "Budget", "Evaluate", "Optimizer", "Positive", "Recipe", "Updates"]
