"""What the measurements of `make bench` share: ways that take turns, ratios of pairs, a row of the table, the machine.

A machine that others use drifts by tens of percent within minutes. So the two sides of a ratio run in turn, each pair
gives one ratio, and the median of the pairs is what is told, with the lowest and highest beside it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

Seconds = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One line of the table: ratios of pairs against a goal that is to be reached, or not to be passed (`at_most`).

    `floor` is the share of what the machine could do at best, in (0, 1], where there is such a bound; `note` says what
    limits an unmet goal, or how to read the number.
    """

    goal: str  # C1
    what: str
    ratios: tuple[float, ...]
    target: float | None = None  # None: measured beside the goals, judged by none
    at_most: bool = False
    unit: str = "x"
    floor: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.median <= self.target if self.at_most else self.median >= self.target

    def line(self) -> str:
        """The row in Markdown."""
        spread = f" ({_figure(min(self.ratios))} to {_figure(max(self.ratios))})" if len(self.ratios) > 1 else ""
        floor = f", {self.floor:.0%} of the floor" if self.floor is not None else ""
        goal = "-" if self.target is None else f"{'at most ' * self.at_most}{self.target:g} {self.unit}"
        verdict = {True: "met", False: "unmet", None: "-"}[self.met]
        return f"| {self.goal} | {self.what} | {_figure(self.median)} {self.unit}{spread}{floor} | {goal} | {verdict} |"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "met": self.met}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Row:
        return cls(**{one.name: document[one.name] for one in fields(cls)})


HEAD = "| id | what | measured: median (lowest to highest pair) | goal | |\n|---|---|---|---|---|"


def table(kept: Path) -> str:
    """The rows that a file holds, in Markdown."""
    return "\n".join([HEAD, *(Row.from_json(one).line() for one in json.loads(kept.read_text())["rows"])])


def insert(page: Path, kept: Path) -> None:
    """Put the table of `kept` in its place in a page: between `<!-- cpu.json -->` and `<!-- end -->`."""
    mark = f"<!-- {kept.name} -->\n"
    before, found, rest = page.read_text().partition(mark)
    if not found:
        raise ValueError(f"{page}: {mark.strip()} is not there: no place for the table")
    page.write_text(f"{before}{mark}{table(kept)}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def take_turns(ways: Mapping[str, Seconds], pairs: int) -> dict[str, list[float]]:
    """What each way gives, a value a round; every second round goes backwards, so that drift favours nobody."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(pairs):
        order = list(ways) if round_ % 2 == 0 else list(reversed(ways))
        for name in order:
            found[name].append(ways[name]())
    return found


def ratios(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, ...]:
    """How many times as long the first took, pair by pair."""
    return tuple(a / b for a, b in zip(slow, fast, strict=True))


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions: what a ratio may depend on, and nothing that names the machine."""
    import os
    import platform

    from ablate.machine import cores, versions

    facts = {"processor": _processor(), "cores": cores(), "python": platform.python_version()}
    facts |= {"memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)}
    return facts | {"versions": {name: version for name, version in versions().items() if version}}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"
