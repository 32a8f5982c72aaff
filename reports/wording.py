"""How a report says numbers and names: rounded to what the data support, and escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.findings import Analysis
from reports.load import Metric

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_MARKUP = re.compile(r"([\\`*_\[\]|#~$])")
# What would start a list, a quotation or a heading at the head of a line.
_LEADING = re.compile(r"^(\d*)([.)+-](?=\s|$)|>|[-=]+$)")
NOTHING = "–"


def escape(text: object) -> str:
    """User text that markdown shows as it is, on one line."""
    plain = _CONTROL.sub(" ", str(text)).strip()
    plain = plain.replace("&", "&amp;").replace("<", "&lt;")
    return _LEADING.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", plain))


def code(text: object) -> str:
    """User text as a code span that is safe inside a table."""
    plain = _CONTROL.sub(" ", str(text)).strip().replace("|", "\\|") or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def listed(items: Iterable[str], *, most: int = 8) -> str:
    """`a`, `b` and `c`; a long list is cut with a count of the rest."""
    spans = [code(item) for item in items]
    if len(spans) > most:
        spans = [*spans[: most - 1], f"{len(spans) - most + 1} more"]
    return both(spans)


def both(spans: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(spans[:-1]), *spans[-1:]]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """A markdown table; `right` numbers the columns to align right."""
    rule = ["---:" if column in set(right) else "---" for column in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def unbroken(text: str) -> str:
    """Text that a narrow column may not break: its spaces do not part."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def among(number: int, total: int) -> str:
    """`all 3 arms`, `2 of 3 arms`."""
    if number == total > 1:
        return "both arms" if total == 2 else f"all {total} arms"
    return f"{number} of {count(total, 'arm')}"


def arrow(metric: Metric) -> str:
    """Which way is better."""
    return "↑" if metric.goal == "max" else "↓"


def share(value: float | None) -> str:
    """A probability; never exactly 0 or 1, which no finite number of draws supports."""
    if value is None:
        return NOTHING
    if value < 0.01:
        return "< 0.01"
    return "> 0.99" if value > 0.99 else f"{value:.2f}"


def p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


@dataclass(frozen=True)
class Numbers:
    """Prints the numbers of one metric: values in its unit, differences in its unit or, on a log scale, in percent."""

    decimals: int
    scale: str
    unit: str
    percents: int = 1  # decimals of a percentage

    @classmethod
    def of(cls, metric: Metric, analysis: Analysis) -> Numbers:
        """Two significant digits of the residual sd, which is as fine as the data are."""
        means = [abs(arm.mean) for arm in analysis.arms.values() if arm.mean]
        size = analysis.sigma or (max(means) / 100 if means else 1.0)
        if analysis.scale == "log" and means and analysis.sigma:
            size = analysis.sigma * max(means)
        return cls(min(max(1 - math.floor(math.log10(size)), 0), 6), analysis.scale, metric.unit)

    def value(self, value: float | None) -> str:
        return NOTHING if value is None else f"{value:.{self.decimals}f}"

    def difference(self, value: float | None) -> str:
        if value is None:
            return NOTHING
        if self.scale == "log":
            return f"{100 * math.expm1(value):+.{self.percents}f} %"
        return f"{round(value, self.decimals) + 0.0:+.{self.decimals}f}"  # + 0.0: no minus zero

    def interval(self, low: float | None, high: float | None) -> str:
        """Both ends; with more decimals where rounding would move an end of one sign onto 0."""
        if low is None or high is None:
            return NOTHING
        near = min(abs(low), abs(high))
        finer = self
        while low * high > 0 and finer.decimals < self.decimals + 6 and finer._is_zero(near):
            finer = replace(finer, decimals=finer.decimals + 1, percents=finer.percents + 1)
        return f"[{finer.difference(low)}, {finer.difference(high)}]"

    def _is_zero(self, value: float) -> bool:
        return not re.search("[1-9]", self.difference(value))

    @property
    def suffix(self) -> str:
        """The unit after a difference; a ratio is in percent already."""
        return f" {escape(self.unit)}" if self.unit and self.scale == "raw" else ""

    def size(self, value: float) -> str:
        """A width without sign, with its unit."""
        if self.scale == "log":
            return f"{100 * math.expm1(value):.1f} %"
        return f"{value:.{self.decimals}f}" + (f" {self.unit}" if self.unit else "")
