"""What the layouts that read names of files have in common (standard library only)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from trainers.layouts._common import SUFFIXES
from trainers.pairs import DataError, stem


def files_below(folder: str) -> Iterator[str]:
    """The paths of all files below a folder but hidden ones, in order. Links to folders are not followed.

    Raises DataError where the folder, or one below it, is absent or can't be read.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder")
    for parent, below, files in os.walk(folder, onerror=_refuse):
        below.sort()
        yield from (os.path.join(parent, file) for file in sorted(files) if not file.startswith("."))


def is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def images(folder: str) -> dict[str, str]:
    """Name (relative, without suffix) -> path of every image below a folder. Raises DataError where there is none."""
    found: dict[str, str] = {}
    for path in filter(is_image, files_below(folder)):
        add_once(found, stem(os.path.relpath(path, folder)), path)
    if not found:
        raise DataError(f"{folder}: holds no image; allowed are {', '.join(SUFFIXES)}")
    return found


def add_once(found: dict[str, str], name: str, path: str) -> None:
    """Add an image by its name. Raises DataError where another has it."""
    if name in found:
        raise DataError(f"{path}: the same name as {found[name]}; one image a name")
    found[name] = path


def check_pattern(option: str, pattern: str | None) -> None:
    """Raise ValueError for what is not a regular expression with a group."""
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{option} {pattern!r} is not a regular expression: {error}") from None
    if not groups:
        raise ValueError(f"{option} {pattern!r} has no group; put the part that counts in brackets")


def part_of(name: str, pattern: str | None, *, option: str, where: str) -> str:
    """The pattern's first group in a name; without a pattern the name. Raises DataError where it is not found."""
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if not match or match[1] is None:
        raise DataError(f"{where}: {option} {pattern!r} finds nothing in the name {name!r}")
    return match[1]


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}") from None
