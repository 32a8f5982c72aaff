"""Files of networks to start from: what they hold is part of a trial's identity, where they lie is not.

A run trains from copies of its own, so that a file may move or change once a study has begun.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ablate.disk import PIECE, remove_leftovers_of, replacing
from trainers.pairs import DataError
from trainers.recipe import Recipe
from trainers.start_rules import named

SHOWN = 8  # digits of a hash that tell two files of one name apart


def digest(path: Path) -> str:
    """The sha256 of a file's content."""
    stated = os.stat(path)
    return _digest(path, (stated.st_ino, stated.st_size, stated.st_mtime_ns))


@cache
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(recipe: Recipe) -> dict[str, str]:
    """Role -> sha256 of the file that the network starts from."""
    return {role: digest(path) for role, path in named(recipe)}


def in_words(start: Mapping[str, str]) -> dict[str, str | None]:
    """Every file as a table shows it, wherever it lies: name and first digits of its hash; None for random weights."""
    return {
        role: f"{os.path.basename(path)} ({digest(Path(path))[:SHOWN]})" if path else None
        for role, path in start.items()
    }


def kept(sha256: str) -> str:
    """Where a copy lies below a runs folder's cache."""
    return f"start/{sha256}.pt"


def keep(recipe: Recipe, identity: Mapping[str, Any], cache: Path) -> None:
    """Copy the files that a recipe starts from into the cache, as its `identity` states their digests.

    Copies, not links: torch.save writes over a file in place, and would write over what a link shares. Raises
    DataError where a file has changed since it was planned with.
    """
    for role, path in named(recipe):
        sha256 = identity["start"][role]
        target = cache / kept(sha256)
        remove_leftovers_of(target)
        if not (target.is_file() and digest(target) == sha256):
            _copy(path, target, sha256)


def _copy(path: Path, target: Path, sha256: str) -> None:
    copied = hashlib.sha256()
    with open(path, "rb") as source, replacing(target) as file:
        while piece := source.read(PIECE):
            copied.update(piece)
            file.write(piece)
        if copied.hexdigest() != sha256:
            raise DataError(f"{path}: has changed since the study was read; run it again")


def for_worker(identity: Mapping[str, Any]) -> dict[str, str]:
    """Role -> where the copy lies below the cache, for a recipe that states digests."""
    return {role: kept(sha256) for role, sha256 in identity["start"].items() if sha256}


def in_own_copies(text: Any, recipes: Iterable[Recipe], cache: Path, *, beside: Path) -> Any:
    """A study's document that names the copies in place of the files they are of, as seen from the folder `beside`:
    the study can be run again by its name when those have moved.
    """
    files = {str(path): path for recipe in recipes for _, path in named(recipe)}
    copies = {name: os.path.relpath(cache / kept(digest(path)), beside) for name, path in files.items()}
    return _replaced(text, copies) if copies else text


def _replaced(node: Any, copies: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {key: _replaced(value, copies) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, copies) for value in node]
    return copies.get(node, node) if isinstance(node, str) else node
