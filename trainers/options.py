"""Options of a part: a frozen dataclass with ranges, readable without torch or pydantic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, get_type_hints


def options(cls: type) -> type:
    """A frozen keyword-only dataclass that refuses unknown keys when pydantic validates it."""
    cls.__pydantic_config__ = {"extra": "forbid"}
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass(frozen=True)
class Bounds:
    """Range of a number, for `Annotated[float, Bounds(above=0, high=1)]`.

    Speaks the annotated-types protocol, so pydantic enforces it and a JSON schema shows it.
    """

    above: float | None = None  # exclusive
    low: float | None = None
    below: float | None = None  # exclusive
    high: float | None = None
    multiple_of: int | None = None
    __is_annotated_types_grouped_metadata__ = True

    def __iter__(self) -> Iterator[Any]:
        import annotated_types

        limits = (
            (annotated_types.Gt, self.above),
            (annotated_types.Ge, self.low),
            (annotated_types.Lt, self.below),
            (annotated_types.Le, self.high),
            (annotated_types.MultipleOf, self.multiple_of),
        )
        return (limit(value) for limit, value in limits if value is not None)


class Place:
    """Marks an option that names a file or folder: it is resolved, and never enters a trial's id."""


Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(low=0)]
Count = Annotated[int, Bounds(low=1)]
Fraction = Annotated[float, Bounds(low=0, high=1)]
Path = Annotated[str, Place()]


@cache
def places(cls: type) -> tuple[str, ...]:
    """Names of the options of `cls` that name a file or folder."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        field.name
        for field in fields(cls)
        if any(isinstance(mark, Place) for mark in getattr(hints[field.name], "__metadata__", ()))
    )
