"""A study as it lies on disk: its plan, the trials' streams, and the records of Optuna and MLflow."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ablate import artifacts, events
from ablate.ledger import key
from ablate.optuna_storage import study_name
from ablate.records import Cell, StudyFolder, TrialFolder, TrialResult
from tests import projections


@dataclass
class OnDisk:
    """Read once each, when asked for; what can't be read is left out, and told by `damaged`."""

    folder: StudyFolder
    shared: projections.Shared | None = None  # in place of the study's own stores

    @cached_property
    def plan(self) -> dict:
        """Empty before it was written."""
        return json.loads(self.folder.plan.read_text()) if self.folder.plan.exists() else {}

    @cached_property
    def cells(self) -> dict[str, str]:
        """Cell -> trial, as planned."""
        return {key(cell): cell.trial for cell in (Cell(**each) for each in self.plan.get("cells", ()))}

    @cached_property
    def trials(self) -> dict[str, TrialFolder]:
        """Folders of trials by name, without those that were put aside to run again."""
        paths = sorted(self.folder.root.glob("trials/*"))
        return {path.name: TrialFolder(path) for path in paths if ".failed-" not in path.name}

    @cached_property
    def damaged(self) -> list[str]:
        """Sentences on streams with a line that is no event."""
        return [found for folder in self.trials.values() if isinstance(found := _stream(folder), str)]

    @cached_property
    def streams(self) -> dict[str, list[events.Event]]:
        """Trial -> its events."""
        return {id: found for id, folder in self.trials.items() if isinstance(found := _stream(folder), list)}

    @cached_property
    def results(self) -> dict[str, TrialResult]:
        """Of the trials that have ended."""
        return {id: events.fold(id, stream) for id, stream in self.streams.items() if artifacts.ended(stream)}

    @cached_property
    def records(self) -> dict[str, list[projections.Record]]:
        """Cell -> Optuna's records."""
        found: dict[str, list[projections.Record]] = {}
        if self.shared:
            name = study_name(self.shared.optuna, self.folder)
            read = projections.records(self.shared.optuna, name)
        else:
            read = _read(projections.records, self.folder.optuna, self.folder.name)
        for record in read:
            found.setdefault(record.facts.get("cell", "?"), []).append(record)
        return found

    @cached_property
    def runs(self) -> list[projections.Run]:
        """MLflow's, of this folder or of nobody."""
        own = self.folder.uid.read_text().strip() if self.folder.uid.exists() else ""
        if self.shared:
            found = projections.runs(self.shared.mlflow, self.folder.name, self.shared.served)
        else:
            found = _read(projections.runs, self.folder.mlflow, self.folder.name)
        return [run for run in found if run.tags.get("ablate.uid", own) == own]

    def run(self, cell: str) -> projections.Run | None:
        return next((run for run in self.runs if run.cell == cell), None)


def _stream(folder: TrialFolder) -> list[events.Event] | str:
    try:
        return events.read(folder.events)
    except events.CorruptStream as error:
        return str(error)


def _read(reader: Callable, database: Path, name: str) -> list:
    """What a projection holds; nothing where there is none yet, or where it is damaged (SQLite's own check says so)."""
    try:
        return reader(database, name) if database.exists() and database.stat().st_size else []
    except sqlite3.Error:
        return []
