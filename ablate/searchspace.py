"""What a search may vary: its parameters, each a range of numbers or a list of values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablate.problems import quoted

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DIGITS = 4  # of a sampled number: as many as a person can read, more than an outcome can tell apart
Values = Mapping[str, Any]  # parameter -> sampled value; parameters that are not active are left out


@dataclass(frozen=True)
class Parameter:
    """One thing that a search varies: a recipe path, or a factor (`factor`: its values are names of levels).

    Either `values`, or numbers from `low` to `high`, both included: whole ones where both ends are. `when` maps
    other parameters to the values at which this one is there at all.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    factor: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def active(self, values: Values) -> bool:
        """Whether the parameter is there beside those values (of parameters before it)."""
        return all(name in values and values[name] in allowed for name, allowed in self.when.items())

    def holds(self, value: Any) -> bool:
        """Whether a search could give this value."""
        if self.values:
            return any(type(value) is type(one) and value == one for one in self.values)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (self.whole and value != int(value)) or not self.low <= value <= self.high:
            return False
        return self.step is None or math.isclose(value, self._on_grid(value), rel_tol=1e-9, abs_tol=1e-12)

    def rounded(self, value: Any) -> Any:
        """A sampled value in few digits, still inside of the range."""
        if self.values or self.whole:
            return value
        if self.step is not None:
            return float(f"{self._on_grid(value):.12g}")
        return min(max(float(f"{value:.{DIGITS}g}"), float(self.low)), float(self.high))

    def at(self, unit: float) -> Any:
        """The value at `unit` in [0, 1): equal shares of it for equal parts of the range (of its logarithm)."""
        if self.values:
            return self.values[int(unit * len(self.values))]
        if self.whole or self.step is not None:
            return self._cell(unit)
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        value = low + unit * (high - low)
        return self.rounded(math.exp(value) if self.log else value)

    def distribution(self) -> BaseDistribution:
        """The parameter as Optuna knows it."""
        from optuna import distributions

        if self.values:
            return distributions.CategoricalDistribution(tuple(map(choice, self.values)))
        if self.whole:
            return distributions.IntDistribution(self.low, self.high, log=self.log, step=self.step or 1)
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value_of(self, choice_or_number: Any) -> Any:
        """The value that Optuna's own form of it stands for."""
        if self.values:
            return next(value for value in self.values if choice(value) == choice_or_number)
        return self.rounded(choice_or_number)

    def to_json(self) -> dict[str, Any]:
        said: dict[str, Any] = {"values": list(self.values)} if self.values else {"low": self.low, "high": self.high}
        said |= {"log": True} if self.log else {}
        said |= {"step": self.step} if self.step is not None else {}
        said |= {"when": {name: list(allowed) for name, allowed in self.when.items()}} if self.when else {}
        return said | ({"factor": True} if self.factor else {})

    @classmethod
    def from_json(cls, name: str, said: Mapping[str, Any]) -> Parameter:
        """The parameter that `to_json` wrote down."""
        when = {other: tuple(allowed) for other, allowed in said.get("when", {}).items()}
        return cls(name, **{**said, "values": tuple(said.get("values", ())), "when": when})

    def _cell(self, unit: float) -> Any:
        """Numbers on a grid: each has an equal share, on a log scale one as wide as its own logarithm."""
        step = self.step or 1
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(max(round(math.exp(low + unit * (high - low))), self.low), self.high)
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        value = self.low + int(unit * count) * step
        return value if self.whole else self.rounded(value)

    def _on_grid(self, value: float) -> float:
        return self.low + round((value - self.low) / self.step) * self.step


def choice(value: Any) -> str | int | float | bool | None:
    """A listed value as Optuna takes it: plain ones as they are, others by what they look like."""
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)


def in_words(parameter: Parameter) -> str:
    """`5e-05 to 0.001, log scale`, `4 to 16 in steps of 4`, `one of vanilla, hinge`."""
    if parameter.values:
        text = f"one of {', '.join(shown(value) for value in parameter.values)}"
    else:
        text = f"{parameter.low:g} to {parameter.high:g}"
        text += f" in steps of {parameter.step:g}" if parameter.step is not None else ""
        text += ", log scale" if parameter.log else ""
    when = " and ".join(
        f"{name} is {' or '.join(shown(value) for value in allowed)}" for name, allowed in parameter.when.items()
    )
    return f"{text} (when {when})" if when else text


def shown(value: Any) -> str:
    """A value in a few characters."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else quoted(str(value)).strip("'\"")
