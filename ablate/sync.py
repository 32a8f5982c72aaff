"""`ablate sync`: a study's MLflow runs and Optuna records, brought up to date from its folder alone.

It tells what a driver would have told, so that nothing changes where all has arrived before: ended cells with their
outcome, interrupted ones with what they measured, and the report once every trial has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate import events, optuna_storage
from ablate.ledger_queue import LedgerQueue
from ablate.lock import hold
from ablate.outcome import finished
from ablate.preconditions import check_stores
from ablate.projections import open_projections, unreachable
from ablate.records import Cell, StudyFolder, TrialResult, TrialSpec
from ablate.run import Summary
from ablate.stored import REMEDY, Damaged, read_plan, read_spec, stated
from ablate.tracking import Tracking


@dataclass(frozen=True)
class Synced:
    """What there was to tell of a study, and what has not arrived."""

    study: str
    ended: int  # cells with an outcome
    begun: int  # cells without one that have measured something
    cells: int
    place: str  # of the tracking store, safe to show; empty without tracking
    storage: str  # of Optuna's records; empty for a file in the study's folder
    report: bool | None  # whether the report was told of a study that is whole; None of another
    unreachable: Mapping[str, str]  # store -> why something has not arrived there


def sync(folder: StudyFolder, *, summary: Summary) -> Synced:
    """Tell both stores all that the study's folder holds; `summary` reads the answer of a report.

    Raises Busy while a driver holds the study, Damaged, CorruptStream and LedgerError for what can't be read,
    CannotRun for a store that can't be.
    """
    with hold(folder.lock, what="ablate sync"):
        plan = read_plan(folder)
        for name, kind in (("factors", dict), ("question", str)):
            if not isinstance(plan.get(name), kind):
                raise Damaged(f"{folder.plan}: damaged: {name} is missing; {REMEDY}")
        uri, storage = stated(folder)
        check_stores(uri, storage, folder)
        cells = [Cell(cell["arm"], cell["seed"], cell["trial"]) for cell in plan["cells"]]
        with open_projections(plan, uri, folder, storage=storage, live=False) as (ledger, tracking):
            ledger.reconcile(cells)
            found = {cell: _tell(cell, plan, folder, ledger, tracking) for cell in cells}
            ended = sum(result is not None for result in found.values())
            report = None
            if ended == len(cells) and not _undrawn(plan):
                report = (folder.report / "report.json").is_file()
                if report:
                    tracking.finish_study(folder.report, summary(folder.report))
        begun = sum(folder.trial(cell.trial).events.exists() for cell, result in found.items() if result is None)
        return Synced(folder.name, ended, begun, len(cells), tracking.place,
                      optuna_storage.described(storage, folder), report, unreachable(ledger, tracking))  # fmt: skip


def _tell(
    cell: Cell, plan: Mapping[str, Any], folder: StudyFolder, ledger: LedgerQueue, tracking: Tracking
) -> TrialResult | None:
    """Tell of one cell what its trial's folder holds; its outcome if there is one."""
    trial = folder.trial(cell.trial)
    stream = events.read(trial.events)
    if not stream:
        return None
    result = finished(cell.trial, trial)
    tracking.mirror(cell, TrialSpec.from_json(read_spec(trial)), result)
    if result is not None:
        ledger.finish(cell, result)
        return result
    ledger.begin(cell)
    metric = plan["metric"]
    for step, _, value in events.fold(cell.trial, stream).curves.get((metric["split"], metric["name"]), ()):
        ledger.report(cell, step, value)
    return None


def _undrawn(plan: Mapping[str, Any]) -> int:
    """Arms that a search has still to draw."""
    search = plan.get("search")
    return search["trials"] - sum("sampled" in arm for arm in plan["arms"]) if search else 0


def describe(synced: Synced) -> str:
    """What was told, in a line, and a line for each store that could not be brought up to date."""
    said = f"{synced.ended} of {synced.cells} cells with their outcome"
    said += f", {synced.begun} with what they measured so far" if synced.begun else ""
    said += ", the report" if synced.report else ""
    records = "Optuna's storage" + (f" ({synced.storage})" if synced.storage else "")
    places = [place for place in (f"MLflow ({synced.place})" if synced.place else "", records) if place]
    there = [place for place in places if place.partition(" (")[0] not in synced.unreachable]
    lines = [f"{synced.study}: {' and '.join(there)} up to date: {said}"] if there else []
    lines += [f"{synced.study}: {behind(store, why)}" for store, why in synced.unreachable.items()]
    if synced.report is False:
        lines.append(f"{synced.study}: all trials have ended, its report is not written: ablate report {synced.study}")
    return "\n".join(lines)


def behind(store: str, why: str) -> str:
    """That a store lacks something, for people."""
    return f"{store} could not be brought up to date: {why}"

