"""What a layout says of a folder that looks like its own (standard library only).

A layout may have `LOOKS_LIKE`, a few words, and `recognise(root) -> Recognised | None`; it only lists names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recognised:
    """Options that read the folder; `sure` decides between layouts (a file made for one: 3, its names: 2, else 1)."""

    options: Mapping[str, Any]
    words: str
    sure: int
    found: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


# From the most telling to the least: a folder a scene, a name that ends in a tile's number, a first word.
SCENE_PATTERNS = (r"^(.+)/[^/]+$", r"^(.+?)[_-][a-z]?\d+(?:[_-]\d+)?$", r"^([^_-]+)[_-]")


def scene_pattern(names: Sequence[str]) -> str | None:
    """The first pattern by which all names fall into three scenes or more, of two names or more on average."""
    for pattern in SCENE_PATTERNS:
        matches = [re.search(pattern, name) for name in names]
        if all(matches):
            sizes = Counter(match[1] for match in matches)
            if 3 <= len(sizes) <= len(names) / 2:
                return pattern
    return None
