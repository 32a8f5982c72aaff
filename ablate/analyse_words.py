"""What `ablate analyse` prints: the answer of the report as plain text, a small table, and where the rest is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

WIDEST = 44  # characters of an arm's name


def describe(report: str, document: Mapping[str, Any], cautions: Sequence[str], place: str) -> str:
    """The text of `ablate analyse`; `report` is report.md, `document` is report.json."""
    lines = [plain(answer_of(report)), "", *_table(document), ""]
    lines += [f"caution: {caution}" for caution in cautions]
    return "\n".join([*lines, f"report: {place}"])


def answer_of(report: str) -> str:
    """The section that answers, without its heading."""
    found = re.search(r"^## Answer\n(.*?)(?=^## |\Z)", report, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def plain(markdown: str) -> str:
    """Markdown as the words that it shows."""
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", markdown, flags=re.DOTALL)
    text = re.sub(r"^\*(.+)\*$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"(`+) ?(.+?) ?\1", r"\2", text)
    text = re.sub(r"^> ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\([\\`*_\[\]|#~$.)+>=-])", r"\1", text)
    return text.replace("&lt;", "<").replace("&amp;", "&").replace("\N{NO-BREAK SPACE}", " ")


def _table(document: Mapping[str, Any]) -> list[str]:
    metric, log = document["metric"], document["analysis"]["scale"] == "log"
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    head = ("rank", "arm", "runs ok", f"{metric['label']}{unit}", "difference", "95 % interval", "verdict")
    rows = [_row(row, log) for row in document["table"]]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    lines = ["  ".join(row).rstrip() for row in padded]
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _row(row: Mapping[str, Any], log: bool) -> tuple[str, ...]:
    arm = row["arm"] if len(row["arm"]) <= WIDEST else row["arm"][: WIDEST - 3] + "..."
    interval = "" if row["low"] is None else f"[{difference(row['low'], log)}, {difference(row['high'], log)}]"
    mean = "" if row["mean"] is None else f"{row['mean']:.4g}"
    own = (str(row["rank"] or ""), arm, f"{row['n_ok']} of {row['n_planned']}", mean)
    return (*own, difference(row["difference"], log), interval, row["verdict"])


def difference(value: float | None, log: bool) -> str:
    """A signed difference in three digits; on a log scale as a percentage."""
    if value is None:
        return ""
    return f"{100 * math.expm1(value):+.3g} %" if log else f"{value:+.3g}"
