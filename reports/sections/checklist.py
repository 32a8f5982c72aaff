"""The reproducibility checklist, filled from facts that do not depend on when and where the study ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablate.records import Status
from reports.page import Page
from reports.sections.certainty import numbered
from reports.wording import code, count, escape, table

MOST_SCENES = 12


def checklist(page: Page) -> str:
    """What a reader needs to repeat the study; what is not known is not listed."""
    rows = [[item, said] for item, said in _items(page) if said]
    return "\n\n".join(["## Reproducibility", table(["item", "this study"], rows)])


def _items(page: Page) -> Iterator[tuple[str, str]]:
    results = page.results
    yield "plan", f"{code(results.hash)}, written before the first trial" if results.hash else ""
    yield "deviations from the plan", _deviations(page) if results.hash else ""
    yield "outcomes", _outcomes(page)
    yield "seeds", numbered(results.seeds)
    yield "data", _plain(results.data)
    splits = results.data.get("splits")
    for split, scenes in splits.items() if isinstance(splits, Mapping) else ():
        yield f"scenes, {escape(split)}", _scenes(scenes)
    yield "scored on", f"{escape(results.split)} split, final weights" if results.split else ""
    yield "looks at the test split", _reads(page) if results.split else ""
    yield "failed runs", _penalty(page)
    yield "each trial", _plain(results.resources)
    yield "statistics", f"alpha {page.analysis.alpha:g}; looks: {max(1, len(results.looks))}; seeded draws throughout"


def _deviations(page: Page) -> str:
    runs = page.results.all_runs
    counts = {
        "missing": len(page.lost),
        "failed and not in the fit": sum(run.failed_by_itself for run in runs),
        "stopped early and not in the fit": sum(run.outcome == Status.stopped and not run.spared for run in runs),
        "spared by the race": len(runs) - len(page.due),
    }
    parts = [f"{number} {what}" for what, number in counts.items() if number]
    return ", ".join(parts) if parts else "no cell of the plan is missing"


def _outcomes(page: Page) -> str:
    settled = len(page.due) - len(page.lost)
    twin = page.results.twin
    again = f", {sum(not run.missing for run in twin)} of {len(twin)} of the A/A twin" if twin else ""
    return f"{settled} of {count(len(page.due), 'trial')}{again} ({count(page.results.cells, 'cell')} planned)"


def _reads(page: Page) -> str:
    """Looks at these test scenes over all plans that scored them, this one included."""
    reads = page.results.test_reads
    return f"{reads} (this study's included)" if reads else "0"


def _penalty(page: Page) -> str:
    if page.analysis.penalty is None:
        return ""
    worth = page.results.failure
    named = escape(worth.replace("_", " ")) if isinstance(worth, str) else "declared"
    return f"worth {page.numbers.value(page.analysis.penalty)} ({named}) in the order of arms"


def _scenes(scenes: Any) -> str:
    if not isinstance(scenes, Sequence) or isinstance(scenes, str):
        return code(scenes)
    rest = f" and {len(scenes) - MOST_SCENES} more (data.json)" if len(scenes) > MOST_SCENES else ""
    return ", ".join(code(scene) for scene in scenes[:MOST_SCENES]) + rest


def _plain(facts: Mapping[str, Any]) -> str:
    plain = [(key, value) for key, value in sorted(facts.items()) if not isinstance(value, dict | list)]
    return ", ".join(f"{escape(key)} {code(value)}" for key, value in plain)
