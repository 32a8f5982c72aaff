"""Compact letter display: arms that share a letter are not separated (which never means that they are equal).

Insert and absorb: Piepho, 2004, https://doi.org/10.1198/1061860043515.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + "αβγδεζηθικλμνξοπρστυφχψω"
_MOST = 2_000  # letters on the way, beyond which no display helps anyone


def letters(order: Sequence[str], separated: Collection[tuple[str, str]]) -> Mapping[str, str]:
    """Letters of each arm of `order` (best first), `a` for the group that begins first.

    Two arms share a letter exactly if they are not in `separated`. Empty where the display
    would need more letters than there are.
    """
    place = {arm: index for index, arm in enumerate(order)}
    groups = [(1 << len(order)) - 1] if order else []  # a set of arms as the bits of a number
    for one, other in sorted(sorted((place[a], place[b])) for a, b in separated):
        groups = _split(groups, one, other)
        if len(groups) > _MOST:
            return {}
    groups.sort(key=lambda group: [index for index in range(len(order)) if group >> index & 1])
    if len(groups) > len(ALPHABET):
        return {}
    named = list(zip(ALPHABET, groups, strict=False))
    return {arm: "".join(letter for letter, group in named if group >> index & 1) for arm, index in place.items()}


def _split(groups: Sequence[int], one: int, other: int) -> list[int]:
    """Insert: every group with both arms becomes one without each. Absorb: groups within others go."""
    both = 1 << one | 1 << other
    whole = [group for group in groups if group & both != both]
    halves = {group & ~(1 << arm) for group in groups if group & both == both for arm in (one, other)}
    halves = [half for half in halves if not any(half & group == half for group in whole)]
    halves = [half for half in halves if not any(half & group == half and half != group for group in halves)]
    return whole + sorted(halves)
