"""Found: runs as somebody recorded them, before anything is asked of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.problems import Problem, StudyError, did_you_mean, quoted

Key = tuple[str, str]  # kind, name; kinds are column (of a table), param, tag, attr, metric, value and fact
ABSENT = frozenset({"", "nan", "na", "n/a", "none", "null", "-", "–"})
_DOT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_COMMA = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.IGNORECASE)
_INFINITE = re.compile(r"[-+]?inf(inity)?", re.IGNORECASE)
LISTED = 5  # mistakes of one kind that are named


@dataclass(frozen=True)
class Found:
    """A row per recorded run (or per scene of one), with what its source says of it.

    `columns` holds a value per row, None where a row has none. `places` names each row as a person would look it up:
    `results.csv:17`, `run quick-fox (3f2a9c01)`, `trial 12`. `goals` maps what the source optimises to max or min.
    """

    source: str
    name: str
    columns: Mapping[Key, Sequence[Any]]
    places: tuple[str, ...]
    beside: Path  # where its report goes unless told otherwise
    goals: Mapping[str, str] = field(default_factory=dict)
    composed: tuple[str, ...] = ()  # columns whose values make up the arms, where none names them
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the source, for the report
    cautions: tuple[str, ...] = ()
    decimal_comma: bool = False  # may numbers be written 1,5?

    def key(self, asked: str, kinds: Iterable[str] = ()) -> Key | None:
        """The column that a person means by `name` or `kind:name`; case counts only where it must."""
        kind, _, name = asked.partition(":")
        if (kind, name) in self.columns:
            return kind, name
        wanted = [key for key in self.columns if key[0] != "fact" and (not kinds or key[0] in kinds)]
        exact = [key for key in wanted if key[1] == asked]
        return next(iter(exact or [key for key in wanted if key[1].lower() == asked.strip().lower()]), None)

    def names(self, kinds: Iterable[str] = ()) -> list[str]:
        wanted = [name for kind, name in self.columns if kind != "fact" and (not kinds or kind in kinds)]
        return list(dict.fromkeys(wanted))

    def problem(self, message: str, place: str | None = None) -> Problem:
        return Problem(place or self.source, 0, 0, "", message)

    def refusal(self, message: str) -> StudyError:
        return StudyError([self.problem(message)])

    def no_column(self, noun: str, asked: str, kinds: Iterable[str] = ()) -> Problem:
        there = self.names(kinds)
        return self.problem(f"{noun}: there is no {quoted(asked)}; there are {few(there)}{did_you_mean(asked, there)}")

    def numbers(self, key: Key) -> list[float]:
        """The column as numbers, NaN where a row has none. Raises StudyError that names the rows with anything else."""
        values = self.columns[key]
        texts = {index: value.strip() for index, value in enumerate(values) if isinstance(value, str)}
        commas = {index for index, text in texts.items() if _COMMA.fullmatch(text)}
        if commas:
            self._check_commas(key[1], texts, commas)
        found, wrong = [], []
        for index, value in enumerate(values):
            number = _number(texts[index].replace(",", ".") if index in commas else value)
            found.append(math.nan if number is None else number)
            if number is None:
                wrong.append(self.problem(f"{key[1]}: {quoted(str(value))} is not a number", self.places[index]))
        if wrong:
            rest = f"{key[1]}: {len(wrong) - LISTED} more are no numbers"
            more = [self.problem(rest)] if len(wrong) > LISTED else []
            raise StudyError([*wrong[:LISTED], *more])
        return found

    def _check_commas(self, name: str, texts: Mapping[int, str], commas: set[int]) -> None:
        first = min(commas)
        if not self.decimal_comma:
            said = f"{name}: {quoted(texts[first])} may be a fraction or thousands; write the decimal point"
            raise StudyError([self.problem(said, self.places[first])])
        dots = [index for index, text in texts.items() if "." in text and _DOT.fullmatch(text)]
        if dots:
            both = f"{quoted(texts[first])} here and {quoted(texts[dots[0]])} in {self.places[dots[0]]}"
            raise StudyError([self.problem(f"{name}: decimal comma and point are mixed: {both}", self.places[first])])


def few(names: Sequence[str], most: int = 30) -> str:
    """The names in a list that stays readable."""
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most} more" if len(names) > most else "")


def report_folder(name: str) -> str:
    """What the report of results of this name is called, as a folder."""
    return f"{re.sub(r'[^a-zA-Z0-9_.=-]+', '-', name).strip('-.') or 'results'}-report"


def _number(value: Any) -> float | None:
    """NaN for what stands for nothing, None for what is no number."""
    if value is None:
        return math.nan
    if isinstance(value, bool):
        return None
    if not isinstance(value, str):
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    text = value.strip()
    if text.lower() in ABSENT:
        return math.nan
    return float(text) if _DOT.fullmatch(text) or _INFINITE.fullmatch(text) else None
