"""The short form of a written report, for places that show a page of text."""

from __future__ import annotations

from pathlib import Path


def answer(report: Path) -> str:
    """The answer and the ranked table of a report folder: report.md up to its first sub-heading."""
    text = (Path(report) / "report.md").read_text(encoding="utf-8")
    return text.partition("\n### ")[0].strip() + "\n"
