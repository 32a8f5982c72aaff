"""Pairs of images, and what is said when they can't be used (standard library only)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

LISTED = 5  # names that a message lists before it counts the rest


class DataError(ValueError):
    """Input data that can't be used: names the file, what was found and what is allowed."""


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: its upper left corner, counted from 0, and its size."""

    row: int
    column: int
    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    def within(self, outer: Window | None) -> Window:
        """This window, counted from the corner of `outer`, in the coordinates that `outer` is in."""
        if outer is None:
            return self
        return Window(outer.row + self.row, outer.column + self.column, self.rows, self.columns)


@dataclass(frozen=True)
class Pair:
    """One SAR / optical pair: a name unique in the data set, its scene, and the files that hold its bands.

    The bands of several files are stacked in their order. `window` is the part of the files' grid that is the
    pair; None is the whole. `optical_window` is that of the optical files where it is another one (strips).
    """

    name: str
    scene: str
    sar: tuple[str, ...] = ()
    optical: tuple[str, ...] = ()
    window: Window | None = None
    optical_window: Window | None = None


@dataclass(frozen=True)
class Left:
    """What a layout found and could not pair: `reason` is a code, `detail` the sentence that says it."""

    name: str
    reason: str
    detail: str


def some(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def stem(name: str) -> str:
    """A relative file name without its suffix, with forward slashes on every platform."""
    return os.path.splitext(name)[0].replace(os.sep, "/")
