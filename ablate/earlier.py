"""Trials that ran earlier and tell about a plan: of its own study, or of one like it under the same folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.outcome import finished
from ablate.plan import Plan
from ablate.records import Status, StudyFolder, TrialFolder, TrialResult

MOST = 300  # trials that are read of one study: a plan is an answer in a second
ENDED = (Status.done, Status.diverged, Status.collapsed)


@dataclass(frozen=True)
class Earlier:
    """What is known of a study's distinct recipes: rows (arms) by columns (seeds), None where no trial has ended."""

    study: str
    how: str  # why it tells about the plan: "this study", "the same data and budget", ...
    results: tuple[tuple[TrialResult | None, ...], ...]
    folders: Mapping[str, TrialFolder]  # of the trials that have ended

    def values(self, metric: str) -> list[list[float]]:
        """Final values of a metric; NaN where there is none."""
        return [[_value(result, metric) for result in row] for row in self.results]

    @property
    def ended(self) -> list[TrialResult]:
        return [result for row in self.results for result in row if result is not None and result.status in ENDED]


def of_this_study(plan: Plan, runs: Path) -> Earlier:
    """The plan's own trials that have ended, if any."""
    arms = {arm.name for arm in plan.compared}
    cells = [(cell.arm, cell.seed, cell.trial) for cell in plan.cells if cell.arm in arms]
    return _read(StudyFolder(runs, plan.study.name), cells, "this study")


def of_study(runs: Path, name: str, how: str) -> Earlier:
    """All of another study's trials that have ended. Raises FileNotFoundError if it never ran."""
    folder = StudyFolder(runs, name)
    return _read(folder, list(_cells(json.loads(folder.plan.read_text()))), how)


def like(plan: Plan, runs: Path) -> list[tuple[str, dict[str, Any], str]]:
    """Studies with the same metric and budget on the same data, or else on the same layout: (name, plan.json, how).

    The most alike first, then the one with the most trials.
    """
    ours = plan.to_json()
    found = []
    for path in sorted(runs.glob("*/plan.json")):
        theirs = _document(path)
        if theirs is None or path.parent.name == plan.study.name:
            continue
        how = _likeness(ours, theirs)
        if how:
            trials = sum(1 for _ in path.parent.glob("trials/*/events.jsonl"))
            found.append((how != SAME_DATA, -trials, path.parent.name, theirs, how))
    return [(name, theirs, how) for *_, name, theirs, how in sorted(found, key=lambda one: one[:3]) if how]


SAME_DATA, SAME_LAYOUT = "the same data, metric and budget", "the same layout, metric and budget, other data"


def _likeness(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    same_metric = _at(ours, "metric", "name") == _at(theirs, "metric", "name")
    if not same_metric or _at(ours, "base", "budget") != _at(theirs, "base", "budget"):
        return None
    if _at(ours, "data", "fingerprint") == _at(theirs, "data", "fingerprint"):
        return SAME_DATA
    return SAME_LAYOUT if _at(ours, "data", "layout") == _at(theirs, "data", "layout") else None


def costs_alike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether trials of two plans take about the same time: base networks, batch and resources are equal."""
    same = [("base", key) for key in ("generator", "discriminator", "batch", "evaluate", "compute")]
    return all(_at(ours, *path) == _at(theirs, *path) for path in (*same, ("resources",)))


def _at(document: Mapping[str, Any], *path: str) -> Any:
    for key in path:
        document = document.get(key) or {} if isinstance(document, Mapping) else {}
    return document


def _document(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None  # somebody else's file, or one that is being written
    return found if isinstance(found, dict) and "cells" in found and "arms" in found else None


def _cells(document: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Cells of distinct recipes, without the A/A twin."""
    twins = {arm["name"] for arm in document["arms"] if arm.get("twin_of")}
    owner: dict[str, str] = {}
    for cell in document["cells"]:
        if cell["arm"] not in twins and owner.setdefault(cell["trial"], cell["arm"]) == cell["arm"]:
            yield cell["arm"], cell["seed"], cell["trial"]


def _read(folder: StudyFolder, cells: Sequence[tuple[str, int, str]], how: str) -> Earlier:
    table: dict[str, dict[int, TrialResult]] = {}
    folders = {}
    for arm, seed, trial in cells[:MOST]:
        place = folder.trial(trial)
        result = finished(trial, place) if place.events.exists() else None
        if result is not None:
            table.setdefault(arm, {})[seed] = result
            folders[trial] = place
    seeds = sorted({seed for row in table.values() for seed in row})
    return Earlier(folder.name, how, tuple(tuple(row.get(seed) for seed in seeds) for row in table.values()), folders)


def _value(result: TrialResult | None, metric: str) -> float:
    if result is None or result.status is not Status.done:
        return math.nan
    return result.scores.get(metric, math.nan)
