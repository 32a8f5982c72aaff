"""Times, hosts, versions and costs: the one section that comparisons of reports leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from reports.page import Page
from reports.sections.figures import Caption, shown
from reports.wording import NOTHING, code, escape, table

HEADING = "## Provenance"


def provenance(page: Page) -> str:
    """Nothing where the results came without times and without a machine."""
    rows = [[code(key), escape(_shown(key, value))] for key, value in _flat(page.results.provenance)]
    parts = [
        _cost(page),
        _code(page),
        _broken(page),
        table(["fact", "value"], rows) if rows else "",
        *shown(page, CAPTIONS),
    ]
    parts = list(filter(None, parts))
    note = "Depends on when and where the study ran; comparisons of reports leave this section out."
    return "\n\n".join([HEADING, note, *parts]) if parts else ""


def _cost(page: Page) -> str:
    """All attempts of all runs, those that came to nothing included."""
    runs = [run for run in (*page.results.all_runs, *page.results.twin) if run.result]
    hours = sum(run.result.seconds for run in runs) / 3600
    lost = sum(run.result.seconds for run in runs if not run.done) / 3600
    if not hours:
        return ""
    said = f"Training time of all trials: {hours:.3g} h, of which {lost:.3g} h in runs that did not finish."
    if over := sum(run.result.taken_over for run in runs) / 3600:
        said += (f" {over:.3g} h more were not spent, as {sum(run.result.taken_over > 0 for run in runs)} runs went on"
                 " from what another had trained; what a run takes by itself counts them.")  # fmt: skip
    return said


def _code(page: Page) -> str:
    """States of the training code that the runs' own streams name."""
    states = sorted(set().union(*(run.code for run in page.results.all_runs)))
    return f"Trained by code {' and '.join(map(code, states))}." if states else ""


def _broken(page: Page) -> str:
    broken = [run for run in page.lost if run.result]
    lines = [f"- {code(run.arm)} seed {run.seed}: {run.outcome}, {escape(run.result.why)}" for run in broken]
    return "\n".join(lines)


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


def _hours(page: Page) -> str:
    return (
        f"{escape(page.results.metric.label)} against hours of training, pauses left out: of this machine and its "
        "load. Arms whose updates take longer reach further to the right."
    )


def _price(page: Page) -> str:
    return (
        "Quality against the time that a finished run took here. Squares: no other arm equals or beats them in both "
        "means. Times of trials that shared the machine are longer than alone."
    )


CAPTIONS: dict[str, tuple[str, Caption]] = {
    "hours.png": ("Learning curves against hours", _hours),
    "cost.png": ("Quality and cost", _price),
}
