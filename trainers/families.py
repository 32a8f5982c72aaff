"""Families of interchangeable parts, found by looking into their folders.

A part is one file: a dataclass `Options` at its head (no torch), and a `build` function that
imports torch. Its file name is its name in a study. Adding a file adds the part everywhere: to
`ablate check`, the JSON schema, the laws that the tests hold over the family, and the docs.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Family:
    """The parts in one package. `key` is the recipe key that names the chosen part."""

    package: str
    key: str = "name"
    noun: str = "part"

    def names(self) -> list[str]:
        found = pkgutil.iter_modules(import_module(self.package).__path__)
        return sorted(module.name for module in found if not module.name.startswith("_"))

    def part(self, name: str) -> ModuleType:
        """The module of a part. Raises KeyError, naming what there is."""
        loaded = sys.modules.get(f"{self.package}.{name}")  # reading the folder again and again would take longer
        if loaded is not None and not name.startswith("_"):
            return loaded
        if name not in self.names():
            raise KeyError(f"no such {self.noun}: {name!r}; there are {', '.join(self.names())}")
        return import_module(f"{self.package}.{name}")

    def options(self, name: str) -> type:
        return self.part(name).Options

    def known_options(self) -> set[str]:
        """Option names that at least one member has: for another member they are inert, not wrong."""
        return {field.name for name in self.names() for field in fields(self.options(name))}


LAYOUTS = Family("trainers.layouts", key="layout", noun="layout")
GENERATORS = Family("trainers.generators", noun="generator")
DISCRIMINATORS = Family("trainers.discriminators", noun="discriminator")
OBJECTIVES = Family("trainers.objectives", noun="objective")
TERMS = Family("trainers.terms", noun="loss term")
METRICS = Family("trainers.metrics", noun="metric")


def part_name(part_options: object) -> str:
    """The name under which a study chooses the part that these options belong to."""
    return type(part_options).__module__.rpartition(".")[2]


def build(family: Family, part_options: object, /, **context: Any) -> Any:
    """What the part's `build` makes of its options."""
    return family.part(part_name(part_options)).build(part_options, **context)


def as_document(family: Family, part_options: object) -> dict[str, Any]:
    """The options as a plain mapping with the part's name first."""
    return {family.key: part_name(part_options), **asdict(part_options)}


def from_document(family: Family, document: Mapping[str, Any]) -> Any:
    """The options object of a validated mapping."""
    rest = {key: value for key, value in document.items() if key != family.key}
    return revive(family.options(document[family.key]), rest)


def revive(cls: type, document: Mapping[str, Any]) -> Any:
    """A dataclass from its `asdict` form (nested dataclasses, tuples)."""
    from dataclasses import is_dataclass
    from typing import get_type_hints

    hints = get_type_hints(cls)
    values = {}
    for key, value in document.items():
        if is_dataclass(hints[key]) and isinstance(value, Mapping):
            value = revive(hints[key], value)
        values[key] = tuple(value) if isinstance(value, list) else value
    return cls(**values)
