"""Whether a recipe can start from the files that it names, as far as can be told without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers import tensorfile, traits
from trainers.pairs import DataError, some
from trainers.startfile import ALLOWED, ROLES, weights

if TYPE_CHECKING:
    from trainers.recipe import Recipe

Refusal = tuple[tuple[str | int, ...], str]  # recipe path and sentence


def start_refusals(recipe: Recipe) -> Iterator[Refusal]:
    """Why the recipe's networks can't start from the files that it names."""
    return _refusals(recipe, {role: traits.of_recipe(getattr(recipe, role), tile=recipe.data.tile) for role in ROLES})


def band_refusals(recipe: Recipe, *, bands_in: int, bands_out: int) -> Iterator[Refusal]:
    """As `start_refusals`, once the data is known."""
    generator = {"bands_in": bands_in, "bands_out": bands_out}
    return _refusals(recipe, {"generator": generator, "discriminator": {"bands": bands_in + bands_out}})


def _refusals(recipe: Recipe, wanted: Mapping[str, traits.Traits]) -> Iterator[Refusal]:
    for role, path in named(recipe):
        try:
            check(path, role, wanted[role])
        except DataError as error:
            yield ("start", role), str(error)


def start_cautions(recipe: Recipe) -> Iterator[str]:
    started = [role for role, _ in named(recipe)]
    if started:
        drawn = [f"the {role}'s first weights" for role in ROLES if role not in started]
        left = [*drawn, "the order of the data"]
        left += ["dropout"] if getattr(recipe.generator, "dropout", 0) else []
        yield (
            f"every seed starts from the same {' and '.join(started)}: the spread over seeds is that of "
            f"{', '.join(left[:-1])}{' and ' if left[:-1] else ''}{left[-1]} alone"
        )
    for role, path in named(recipe):
        yield from _other_norm(path, role, getattr(getattr(recipe, role), "norm", ""))


def _other_norm(path: Path, role: str, norm: str) -> Iterator[str]:
    """Instance norm and none have the same weights; a finished trial of ours says which it was trained with."""
    try:
        content = _content(path, _stamp(path))
    except DataError:
        return  # refused
    stated = content.get("recipe") if isinstance(content, Mapping) else None
    before = stated.get(role, {}).get("norm") if isinstance(stated, Mapping) else None
    if {before, norm} == {"instance", "none"}:
        yield f"{path.name} was trained with norm {before}; the same weights compute something else with norm {norm}"


def named(recipe: Recipe) -> list[tuple[str, Path]]:
    """Role and file of every network that does not start from random weights."""
    return [(role, Path(path)) for role in ROLES if (path := getattr(recipe.start, role))]


def check(path: Path, role: str, wanted: traits.Traits) -> None:
    """Raises DataError if the file holds no network of that role with these traits."""
    state = weights(_content(path, _stamp(path)), role, path)
    found = traits.of_state(state)
    if not found and wanted:
        raise DataError(f"{path}: its tensors are called {some(list(state))}; {ALLOWED}")
    if different := traits.differences(found, wanted):
        raise DataError(f"{path}: {different}")


@cache
def _content(path: Path, stamp: tuple[int, ...]) -> Any:
    return tensorfile.read(path)


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file's content, so that the many levels of a study read it once."""
    try:
        stated = os.stat(path)
    except OSError as error:
        raise DataError(tensorfile.cannot_open(path, error)) from None
    return stated.st_ino, stated.st_size, stated.st_mtime_ns
