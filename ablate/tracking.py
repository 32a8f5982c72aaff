"""The driver's line to MLflow: calls are queued and one background thread carries them out.

Training never waits for tracking. While the store does not answer, the queue waits and is tried again;
what is still in it at the end is lost to MLflow only, since the trial folders hold everything.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ablate.events import Event
from ablate.ledger import key
from ablate.mlflow_runs import MlflowRuns
from ablate.mlflow_store import redacted, resolve
from ablate.records import Arm, Cell, StudyFolder, TrialResult, TrialSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to insist. A call that a reachable store refuses is given up after `attempts`.

    Four attempts outlast a SQLite file locked for a minute (MLflow waits 20 s for its lock).
    """

    attempts: int = 4
    first: float = 0.5  # seconds before the second attempt; doubles
    longest: float = 30.0  # seconds between attempts during an outage


class Tracking:
    """Queues the study's facts for MLflow; with no runs to write to, every call does nothing.

    `unreachable` is the reason why something has not arrived, None while all is well.
    """

    def __init__(self, runs: MlflowRuns | None, *, uri: str = "", patience: Patience | None = None):
        self.unreachable: str | None = None
        self._runs, self._uri, self._patience = runs, uri, patience or Patience()
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._refused: str | None = None
        self._arrived = 0  # calls that went through
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        if runs is not None:
            self._submit("opening the store", runs.connect)
            self._thread.start()

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
    ) -> Tracking:
        """Tracking at `uri` ("auto", any MLflow URI, None for none); returns at once, connects behind."""
        place = resolve(uri, folder)
        if place is None:
            return cls(None)
        runs = MlflowRuns(place, folder, arms=arms, factors=factors, question=question)
        return cls(runs, uri=place, patience=patience)

    @property
    def place(self) -> str:
        """The tracking URI, safe to show; empty without tracking."""
        return redacted(self._uri, self._uri)

    def add(self, arm: Arm) -> None:
        """An arm that a search has drawn, before any of its cells."""
        if self._runs:
            self._runs.add(arm)

    def begin(self, cell: Cell, spec: TrialSpec) -> None:
        """The cell's run opens (or opens again)."""
        if self._runs:
            self._submit(f"run {key(cell)}", partial(self._runs.begin, cell, spec))

    def follow(self, cell: Cell, events: Iterable[Event]) -> None:
        """New events of a begun cell's trial; after a start of the driver from the first event on."""
        events = tuple(events)
        if self._runs and events:
            self._submit(f"metrics of {key(cell)}", partial(self._runs.follow, cell, events))

    def end(self, cell: Cell, result: TrialResult) -> None:
        """The outcome of a begun cell."""
        if self._runs:
            self._submit(f"outcome of {key(cell)}", partial(self._runs.end, cell, result))

    def mirror(self, cell: Cell, spec: TrialSpec, result: TrialResult) -> None:
        """All of an ended cell, from its folder; costs nothing where the store already holds this outcome."""
        if self._runs:
            self._submit(f"run {key(cell)}", partial(self._runs.mirror, cell, spec, result))

    def finish_study(self, report: Path, summary: str) -> None:
        """The report folder and the answer (markdown) go to the parent run, which ends FINISHED."""
        if self._runs:
            self._submit("the report", partial(self._runs.finish_study, report, summary))

    def interrupt(self) -> None:
        """The driver stops with work left: no run stays RUNNING."""
        if self._runs:
            self._submit("closing the runs", self._runs.interrupt)

    def flush(self, limit: float) -> bool:
        """Whether all that was queued before has been dealt with, after waiting `limit` seconds at most."""
        if self._runs is None:
            return True
        done = threading.Event()
        self._submit("flush", done.set)
        return done.wait(limit)

    def close(self, limit: float = 30.0) -> None:
        """Wait for the queue while it moves; `limit` seconds without an arrival end the wait.

        `unreachable` then says what did not arrive.
        """
        arrived = -1
        while not (drained := self.flush(limit)) and arrived != self._arrived:
            arrived = self._arrived
        self._given_up.set()
        self._queue.put(None)
        if not drained and not self.unreachable:
            self.unreachable = f"{self.place}: still writing after {limit:.0f} s"

    def _submit(self, what: str, call: Callable[[], None]) -> None:
        self._queue.put((what, call))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None and not self._given_up.is_set():
            self._carry_out(*item)

    def _carry_out(self, what: str, call: Callable[[], None]) -> None:
        """Try until it works, the store refuses it for good, or the driver gives up."""
        delay, refusals = self._patience.first, 0
        while not self._given_up.is_set():
            try:
                call()
            except Exception as error:  # whatever it is, training goes on
                self._note(what, error)
                refusals += self._runs.reachable()
                if refusals >= self._patience.attempts:
                    self._refused = self.unreachable
                    return
            else:
                self.unreachable = self._refused
                self._arrived += 1
                return
            self._given_up.wait(delay)
            delay = min(2 * delay, self._patience.longest)

    def _note(self, what: str, error: Exception) -> None:
        cause = (str(error).splitlines() or [""])[0]
        reason = redacted(f"{self._uri}: {what}: {type(error).__name__}: {cause[:300]}", self._uri)
        if reason != self.unreachable:
            log.warning("tracking: %s", reason)
        self.unreachable = reason
