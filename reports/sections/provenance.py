"""Times, hosts, versions and costs: the one section that comparisons of reports leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from reports.page import Page
from reports.wording import NOTHING, code, escape, table

HEADING = "## Provenance"


def provenance(page: Page) -> str:
    runs = [run for run in page.results.all_runs if run.result]
    hours = sum(run.result.seconds for run in runs) / 3600
    lost = sum(run.result.seconds for run in runs if not run.done) / 3600
    parts = [
        HEADING,
        "Depends on when and where the study ran; comparisons of reports leave this section out.",
        f"Training time of all trials: {hours:.3g} h, of which {lost:.3g} h in runs that did not finish.",
    ]
    broken = [run for run in runs if run.missing]
    lines = [f"- {code(run.arm)} seed {run.seed}: {run.outcome}, {escape(run.result.why)}" for run in broken]
    parts.append("\n".join(lines))
    rows = [[code(key), escape(_shown(key, value))] for key, value in _flat(page.results.provenance)]
    parts += [table(["fact", "value"], rows)] if rows else []
    return "\n\n".join(filter(None, parts))


def _shown(key: str, value: Any) -> str:
    if isinstance(value, float) and key in ("started", "ended"):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sorted(document.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
