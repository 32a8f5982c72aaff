"""The driver's line to MLflow: it names the cells whose folders have news, and an outbox sees to the rest.

Training never waits for tracking. While the store does not answer, the names wait; what has still not arrived at the
end is lost to MLflow only, since the trial folders hold everything and `ablate sync` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ablate.ledger import key
from ablate.mlflow_runs import MlflowRuns
from ablate.mlflow_store import reason, resolve
from ablate.outbox import Outbox, Patience
from ablate.problems import redacted
from ablate.records import Arm, Cell, StudyFolder, TrialResult, TrialSpec
from ablate.sqlite import FULL

SERVER_SECONDS, FILE_SECONDS = 30.0, 90.0  # to wait at the end for a store that is away
FOLLOW_SECONDS = 20.0  # that news of a running trial wait for more: told line by line, they take 3 % of a core a trial


@dataclass(frozen=True)
class _Told:
    """What the store should know of a cell besides the events in its folder."""

    cell: Cell
    spec: TrialSpec
    result: TrialResult | None = None


class Tracking:
    """Queues the study's facts for MLflow; with no runs to write to, every call does nothing.

    `live` is for a driver, whose parent run is RUNNING meanwhile.
    """

    def __init__(
        self, runs: MlflowRuns | None, *, uri: str = "", patience: Patience | None = None, live: bool = True
    ):
        self._runs, self._uri = runs, uri
        self._cells: dict[str, _Told] = {}
        self._report: tuple[Path, str] | None = None
        if runs is not None:
            self._outbox = Outbox("tracking", answers=runs.reachable, words=self._words, patience=patience, aloud=live)
            self._outbox.put("store", "opening the store", runs.open_study if live else runs.connect)

    @classmethod
    def open(
        cls,
        uri: str | None,
        folder: StudyFolder,
        *,
        arms: Iterable[Arm],
        factors: Mapping[str, Sequence[str]],
        question: str = "",
        patience: Patience | None = None,
        live: bool = True,
    ) -> Tracking:
        """Tracking at `uri` ("auto", any MLflow URI, None for none); returns at once, connects behind."""
        place = resolve(uri, folder)
        if place is None:
            return cls(None)
        runs = MlflowRuns(place, folder, arms=arms, factors=factors, question=question)
        return cls(runs, uri=place, patience=patience, live=live)

    @property
    def place(self) -> str:
        """The tracking URI, safe to show; empty without tracking."""
        return redacted(self._uri, self._uri)

    @property
    def unreachable(self) -> str | None:
        """Why something has not arrived; None while all is well."""
        return self._outbox.unreachable if self._runs else None

    @property
    def waiting(self) -> int:
        """How many calls have yet to be carried out."""
        return len(self._outbox) if self._runs else 0

    def add(self, arm: Arm) -> None:
        """An arm that a search has drawn, before any of its cells."""
        if self._runs:
            self._runs.add(arm)

    def begin(self, cell: Cell, spec: TrialSpec) -> None:
        """The cell's run opens (or opens again)."""
        self._tell(_Told(cell, spec))

    def follow(self, cell: Cell) -> None:
        """A begun cell's folder holds new events."""
        if self._runs:
            self._tell(self._cells[key(cell)], rest=FOLLOW_SECONDS)

    def end(self, cell: Cell, result: TrialResult) -> None:
        """The outcome of a begun cell; its folder holds all that led to it."""
        if self._runs:
            self._tell(replace(self._cells[key(cell)], result=result))

    def mirror(self, cell: Cell, spec: TrialSpec, result: TrialResult | None) -> None:
        """All of a cell, from its folder; costs nothing where the store already holds this outcome."""
        self._tell(_Told(cell, spec, result))

    def finish_study(self, report: Path, summary: str) -> None:
        """The report folder and the answer (markdown) go to the parent run, which ends FINISHED."""
        if self._runs:
            self._report = report, summary
            self._outbox.put("report", "the report", partial(self._runs.finish_study, report, summary))

    def interrupt(self) -> None:
        """The driver stops: no run stays RUNNING, and what the store turns out to lack is told once more."""
        if self._runs:
            self._outbox.put("end", "closing the runs", self._look_again)

    def flush(self, limit: float) -> bool:
        """Whether all that was queued has been dealt with, after waiting `limit` seconds at most."""
        return self._outbox.flush(limit) if self._runs else True

    def close(self, limit: float | None = None, most: float = 600.0) -> None:
        """Wait for what is queued: `most` seconds for a store that is slow, `limit` for one that is away.

        By default that is 30 s for a server, and 90 s for a file, which somebody may have locked for a minute.
        """
        if self._runs:
            patient = FILE_SECONDS if self._uri.startswith("sqlite:") else SERVER_SECONDS
            self._outbox.close(patient if limit is None else limit, most)

    def _tell(self, told: _Told, *, rest: float = 0.0) -> None:
        """Only the cell's name waits: what there is to say is looked up when its turn has come."""
        if self._runs:
            name = key(told.cell)
            self._cells[name] = told
            otherwise = partial(self._end_at_least, name)
            self._outbox.put(("cell", name), f"run {name}", partial(self._mirror, name), otherwise=otherwise, rest=rest)

    def _mirror(self, name: str) -> None:
        told = self._cells[name]
        self._runs.mirror(told.cell, told.spec, told.result)

    def _end_at_least(self, name: str) -> None:
        """Where some of the events are refused (pictures, if the place for files is at fault): the outcome."""
        told = self._cells[name]
        if told.result is not None:
            self._runs.end(told.cell, told.result, whole=False)

    def _look_again(self) -> None:
        """Requests that an overloaded store carries out late, or data that it lost, may undo what has arrived."""
        self._runs.interrupt()
        self._outbox.forgive("store")
        for name, told in list(self._cells.items()):
            if told.result is None:
                continue
            if self._runs.holds(told.cell, told.result):
                self._outbox.forgive(("cell", name))
            else:
                self._tell(told)
        if self._report:
            self.finish_study(*self._report)

    def _words(self, what: str, error: Exception) -> str:
        cause = f"{type(error).__name__}: database or {FULL}" if FULL in str(error) else reason(error)
        return redacted(f"{self._uri}: {what}: {cause}", self._uri)
