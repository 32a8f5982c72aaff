"""Calls on a store that nobody waits for: one background thread carries them out, in order, until they arrive.

The trial folders hold everything. What waits here is no more than a hint of what a store has yet to be told, so
that a day without the store costs the memory of a few hints, and whatever is given up can be told again from disk.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, replace

NEWS_SECONDS = 60
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to insist. A call that fails `attempts` times while its store answers is given up.

    A lost reply looks like that too: a cell's run takes some ten calls, each of which may lose one.
    """

    attempts: int = 12
    first: float = 0.5  # seconds before the next attempt; doubles while the store is away
    longest: float = 30.0  # seconds between attempts during an outage


@dataclass(frozen=True)
class _Call:
    what: str
    make: Callable[[], None]
    otherwise: Callable[[], None] | None
    due: float  # when it may rest no longer, on the monotonic clock


class Outbox:
    """A queue of calls, all of which may be repeated; `put` takes no longer than a moment, whatever the store does.

    A call under a key that still waits takes its place, so that no more waits than there are keys. One that may rest
    gives others under its key the time to do so; it rests no longer once anything else is due. `answers` says
    whether the store is there at all, which tells an outage from a call that it refuses; `words` puts a failure of
    a call (what it was, the error) into a sentence that may be shown. Unless `aloud`, trouble is kept for the log and
    whoever asks for it at the end.
    """

    def __init__(
        self,
        name: str,
        *,
        answers: Callable[[], bool],
        words: Callable[[str, Exception], str],
        patience: Patience | None = None,
        aloud: bool = True,
    ):
        self._name, self._words, self._patience = name, words, patience or Patience()
        self._store_answers, self._aloud = answers, aloud
        self._waiting: dict[Hashable, _Call] = {}  # in their order
        self._changed = threading.Condition()
        self._busy = False
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._trouble: str | None = None
        self._refused: dict[Hashable, str] = {}
        self._late: str | None = None
        self._told: float | None = None  # when people were last told of trouble
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @property
    def unreachable(self) -> str | None:
        """Why something has not arrived; None while all is well."""
        return self._late or self._trouble or next(iter(self._refused.values()), None)

    def put(self, key: Hashable, what: str, call: Callable[[], None], *, otherwise: Callable[[], None] | None = None,
            rest: float = 0.0) -> None:  # fmt: skip
        """Have the call carried out, after `rest` seconds at most if nothing else is at work; `what` names it for
        people. `otherwise` is tried once where it is refused.
        """
        due = time.monotonic() + rest
        with self._changed:
            if key in self._waiting:
                due = min(due, self._waiting[key].due)
            self._waiting[key] = _Call(what, call, otherwise, due)
            self._changed.notify_all()

    def forgive(self, key: Hashable) -> None:
        """What was refused under the key has turned out to be there."""
        self._refused.pop(key, None)

    def flush(self, limit: float) -> bool:
        """Whether nothing waits any more, after `limit` seconds at most; what rests is carried out now."""
        with self._changed:
            self._waiting.update({key: replace(call, due=0.0) for key, call in self._waiting.items()})
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, limit)

    def close(self, limit: float = 30.0, most: float = 600.0) -> None:
        """Wait for what is left: `limit` seconds for a store that does not answer, `most` for one that is slow."""
        self._closing.set()
        end, slow = time.monotonic() + most, False
        while not (drained := self.flush(limit)) and time.monotonic() < end and self._answers():
            if not slow:
                log.warning("%s: still writing, %d calls wait; waiting for them", self._name, len(self) + 1)
            slow = True
        with self._changed:
            self._given_up.set()
            self._changed.notify_all()
            if not drained:
                why = TimeoutError("still writing" if slow else "no answer")
                self._late = self._trouble or self._words(f"{len(self._waiting) + 1} calls", why)

    def _work(self) -> None:
        while True:
            with self._changed:
                key = self._next()
                if self._given_up.is_set():
                    return
                call = self._waiting.pop(key)
                self._busy = True
            try:
                self._carry_out(key, call)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _next(self) -> Hashable:
        """The key of the first call, as soon as any call is due; anything once all is given up."""
        while not self._given_up.is_set():
            due = min((call.due for call in self._waiting.values()), default=math.inf)
            if due <= time.monotonic() or (self._waiting and self._closing.is_set()):
                return next(iter(self._waiting))
            self._changed.wait(None if due == math.inf else due - time.monotonic())
        return None

    def _carry_out(self, key: Hashable, call: _Call) -> None:
        """Try until it works, the store refuses it for good, or nobody waits any more."""
        delay, failures = self._patience.first, 0
        while not self._given_up.is_set():
            try:
                call.make()
            except Exception as error:  # whatever it is, training goes on
                self._note(self._words(call.what, error))
                if self._answers():
                    failures, delay = failures + 1, self._patience.first
                if failures >= self._patience.attempts:
                    self._give_up(key, call)
                    return
            else:
                self._trouble = None
                self._refused.pop(key, None)
                return
            self._pause(delay)
            delay = min(2 * delay, self._patience.longest)

    def _give_up(self, key: Hashable, call: _Call) -> None:
        self._refused[key], self._trouble = self._trouble, None
        with suppress(Exception):  # what was refused is said anyway
            if call.otherwise:
                call.otherwise()

    def _pause(self, seconds: float) -> None:
        """Somebody who waits for the end is not kept waiting longer than for the first attempts."""
        if self._closing.wait(seconds):
            self._given_up.wait(self._patience.first)

    def _answers(self) -> bool:
        try:
            return self._store_answers()
        except Exception:  # an answer would have been one
            return False

    def _note(self, reason: str) -> None:
        """People are told once a minute at most, the log each time that the reason changes."""
        if reason != self._trouble:
            now = time.monotonic()
            is_news = self._told is None or now - self._told > NEWS_SECONDS
            self._told = now if is_news else self._told
            level = logging.WARNING if is_news and self._aloud else logging.INFO
            log.log(level, "%s: %s", self._name, reason)
        self._trouble = reason

