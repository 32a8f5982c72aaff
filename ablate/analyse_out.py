"""Where a report of anyone's results may go: an empty place, or that of an earlier report."""

from __future__ import annotations

import json
from pathlib import Path

from ablate.problems import Problem, StudyError

OURS = frozenset({"report.md", "report.html", "report.json", "table.csv", "figures"})


def check_target(target: Path) -> None:
    """Raises StudyError unless `target` is free, empty, or holds a report and nothing else."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise _refused(target, "is a file; the report is a folder: say --out FOLDER")
    there = sorted(path.name for path in target.iterdir())
    foreign = [name for name in there if name not in OURS]
    if there and (foreign or not _is_report(target)):
        holds = ", ".join((foreign or there)[:3]) + (", ..." if len(foreign or there) > 3 else "")
        raise _refused(target, f"holds what is not a report of ablate ({holds}); say --out FOLDER")


def _is_report(folder: Path) -> bool:
    try:
        return "analysis" in json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return False


def _refused(target: Path, message: str) -> StudyError:
    return StudyError([Problem(str(target), 0, 0, "", message)])
