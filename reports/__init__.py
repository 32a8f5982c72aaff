"""Results to statistics to figures to markdown: pure functions of study folders.

`write(folder)` makes the report of a study, `analyse(frame, metric=..., goal=..., baseline=...)`
the same analysis of anyone's table, `detectable(arms, seeds)` what a planned study could find.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Analysis": "reports.findings",
    "Effect": "reports.findings",
    "analyse": "reports.frames",
    "answer": "reports.summary",
    "detectable": "reports.power",
    "detectable_effects": "reports.power",
    "leaving": "reports.race",
    "selection": "reports.selecting",
    "write": "reports.writing",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Loads a name when it is first used: `import reports` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
