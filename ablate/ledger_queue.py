"""The driver's line to Optuna's storage: what it says is queued, so that no fault of it ever holds up training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ablate.disk import DiskFull
from ablate.ledger import Ledger, LedgerError, key
from ablate.outbox import Outbox, Patience
from ablate.records import Arm, Cell, TrialResult


class LedgerQueue:
    """Takes what a `Ledger` takes and returns at once, but for the first `reconcile`.

    The beginning of that one is carried out before anything is started, as opening is: both raise LedgerError where
    there is no usable database. What waits is bounded by the plan: a few calls a cell, and the evaluations of
    running trials.
    """

    def __init__(self, ledger: Ledger, *, patience: Patience | None = None, aloud: bool = True):
        self._ledger = ledger
        self._outbox = Outbox("ledger", answers=ledger.reachable, words=_words, patience=patience, aloud=aloud)
        self._reconciled = False
        self._curves: dict[str, dict[int, float]] = {}  # of running cells, what waits: step -> value

    @property
    def unreachable(self) -> str | None:
        """Why something has not arrived; None while all is well."""
        return self._outbox.unreachable

    @property
    def waiting(self) -> int:
        """How many calls have yet to be carried out."""
        return len(self._outbox)

    def add(self, arm: Arm, sampled: Mapping[str, Any]) -> None:
        """An arm of a search, before any of its cells."""
        self._ledger.add(arm, sampled)

    def reconcile(self, cells: Sequence[Cell]) -> None:
        """Queue a record for every cell that has none; at the first time the first ones at once."""
        if not self._reconciled:
            self._ledger.reconcile(cells, most=self._ledger.at_once)
            self._reconciled = True
            if len(cells) <= self._ledger.at_once:
                return
        self._outbox.put("plan", "the plan", partial(self._ledger.reconcile, cells))

    def begin(self, cell: Cell) -> None:
        """The cell's record is RUNNING."""
        self._curves[key(cell)] = {}
        self._put(f"begin of {key(cell)}", partial(self._ledger.begin, cell))

    def report(self, cell: Cell, step: int, value: float) -> None:
        """An intermediate value of a begun cell."""
        self._curves[key(cell)][step] = value
        self._outbox.put(("curve", key(cell)), f"values of {key(cell)}", partial(self._report, cell))

    def finish(self, cell: Cell, result: TrialResult) -> None:
        """The cell's outcome, with all of its intermediate values."""
        self._curves.pop(key(cell), None)
        self._put(f"outcome of {key(cell)}", partial(self._ledger.finish, cell, result))

    def retry(self, cell: Cell) -> None:
        """A further record for a cell that failed."""
        self._put(f"retry of {key(cell)}", partial(self._ledger.retry, cell))

    def flush(self, limit: float) -> bool:
        """Whether all that was queued has been dealt with, after waiting `limit` seconds at most."""
        return self._outbox.flush(limit)

    def close(self, limit: float = 30.0, most: float = 600.0) -> None:
        """Wait for what is queued: `limit` seconds for a storage that is away, `most` for one that is slow."""
        self._outbox.close(limit, most)

    def _put(self, what: str, call: Any) -> None:
        """In its own place: a failed attempt's outcome, the retry and the new outcome follow one another."""
        self._outbox.put(object(), what, call)

    def _report(self, cell: Cell) -> None:
        curve = self._curves.get(key(cell), {})
        for step, value in list(curve.items()):
            self._ledger.report(cell, step, value)
            curve.pop(step, None)


def _words(what: str, error: Exception) -> str:
    said = str(error) if isinstance(error, LedgerError | DiskFull) else f"{type(error).__name__}: {error}"
    return f"{what}: {said}"
