"""Pairs of images, and what is said when they can't be used (standard library only)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

LISTED = 5  # names that a message lists before it counts the rest


class DataError(ValueError):
    """Input data that can't be used: names the file, what was found and what is allowed."""


@dataclass(frozen=True)
class Pair:
    """One SAR / optical pair: a name unique in the data set, its scene, and where its files are."""

    name: str
    scene: str
    sar: str = ""
    optical: str = ""


def some(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def stem(name: str) -> str:
    """A relative file name without its suffix, with forward slashes on every platform."""
    return os.path.splitext(name)[0].replace(os.sep, "/")
