"""Which combinations of levels a study declares away: `never` and `when`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BASE = "base"  # the arm that nothing changes, and every factor's first level
Combination = Mapping[str, str]  # factor -> level; a factor left out is at its base level


@dataclass(frozen=True)
class Conditions:
    """`never` holds rules (factor -> levels) that no arm may meet; `when` says where a factor exists at all.

    `when` maps a factor to the levels that other factors must have for it to leave its own base level.
    """

    never: Sequence[Mapping[str, Sequence[str]]] = ()
    when: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    def against(self, combination: Combination) -> str | None:
        """Why the study doesn't run a combination; None where nothing is declared against it."""
        for factor, needed in self.when.items():
            if factor in combination:
                for other, levels in needed.items():
                    if combination.get(other, BASE) not in levels:
                        return f"when: {factor} only exists where {other} is {' or '.join(levels)}"
        for rule in self.never:
            if all(combination.get(factor, BASE) in levels for factor, levels in rule.items()):
                said = ", ".join(f"{factor}: {' or '.join(levels)}" for factor, levels in rule.items())
                return f"never: {said}"
        return None

    def context(self, factor: str) -> dict[str, str]:
        """A smallest combination in which the factor exists: what its levels are judged on."""
        found: dict[str, str] = {}
        waiting = [factor]
        while waiting:
            for other, levels in self.when.get(waiting.pop(), {}).items():
                if other not in found and other != factor and BASE not in levels:
                    found[other] = levels[0]
                    waiting.append(other)
        return found


ALWAYS = Conditions()  # nothing is declared away
