"""Search: a sampler proposes the arms of a study, one after another, from ranges and lists of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.searchspace import Parameter, Values, shown

SAMPLERS = {
    "tpe": "Tree-structured Parzen estimator: looks where earlier trials were good",
    "random": "independent draws",
    "qmc": "a scrambled Sobol sequence: draws that leave no gaps",
    "nsga2": "a genetic algorithm for several objectives",
}
ADAPTIVE = ("tpe", "nsga2")  # their proposals depend on outcomes
PRUNERS = ("none", "median", "hyperband", "asha")


@dataclass(frozen=True)
class Search:
    """What a study searches. `trials` counts sampled arms; the base runs beside them as the reference.

    `objectives` are metrics: the study's own alone, except for `nsga2`. `seed` is the sampler's.
    """

    sampler: str
    trials: int
    space: Mapping[str, Parameter]  # every parameter after those that its `when` names
    objectives: tuple[str, ...]
    seed: int = 0
    pruner: str = "none"

    def to_json(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler, "trials": self.trials, "seed": self.seed, "objectives": list(self.objectives),
            "pruner": self.pruner, "space": {name: one.to_json() for name, one in self.space.items()},
        }  # fmt: skip

    def patch(self, values: Values, factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict]:
        """What sampled values change in the base, by parameter; a factor's `base` level changes nothing."""
        patches = {}
        for name, value in values.items():
            if not self.space[name].factor:
                patches[name] = {name: value}
            elif value in factors[name]:
                patches[f"{name}={value}"] = dict(factors[name][value])
        return patches

    def name(self, index: int) -> str:
        """The name of the `index`-th sampled arm, from 1: `s001`."""
        return f"s{index:03d}"


def changes(values: Values) -> dict[str, str]:
    """An arm's sampled values as short words."""
    return {name: shown(value) for name, value in values.items()}
