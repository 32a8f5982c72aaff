"""Ends a rank that makes no progress: a stopped peer, a lost message and a hanging disk all look alike from here.

Every rank says which phase it enters; a thread counts the time since. Time in which the process itself was frozen
(a suspended machine, a paused container) does not count.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from ablate import processes
from ablate.records import TrialFolder
from trainers import lastwords
from trainers.lastwords import Stalled

ENVIRONMENT = "ABLATE_LIMITS"
TICK = 0.5  # seconds between looks
SLOWER = 20  # times the slowest update so far is no hang either
TROUBLE = {"T": "is stopped", "t": "is stopped by a debugger"}  # by the kernel's letter
SPEAK_SECONDS = 10  # for last words, on a disk that may be what hangs


@dataclass(frozen=True)
class Limits:
    """Seconds without progress in each phase; `collective` ends what waits for a peer that the watchdog can't see.

    A phase ends when the first update after it is done: ranks that have nothing to save wait there.
    """

    start: float = 300
    step: float = 300
    evaluation: float = 600  # to the next batch of it
    checkpoint: float = 300
    collective: float = 660

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """The limits, changed by ABLATE_LIMITS="step=60,start=600". Raises ValueError for anything else in it."""
        changes = {}
        for part in filter(None, environment.get(ENVIRONMENT, "").split(",")):
            name, _, seconds = part.strip().partition("=")
            try:
                changes[name] = float(seconds)
            except ValueError:
                changes[name] = 0.0
            known = [field.name for field in fields(cls)]
            if name not in known or not changes[name] > 0:
                expected = f"one of {', '.join(known)} = seconds above 0"
                raise ValueError(f"{ENVIRONMENT}: {part.strip()!r}: expected {expected}")
        return replace(cls(), **changes)


class Watchdog:
    """Counts the seconds since a rank last got on. `expire` is called once, with what to say."""

    def __init__(
        self, limits: Limits | None = None, *, expire: Callable[[Stalled], None] = lambda stalled: None,
        clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        self.limits, self._expire, self._clock = limits or Limits(), expire, clock
        self.phase, self.step, self._idle, self._slowest = "start", 0, 0.0, 0.0
        self._entered = clock()
        self.peers: tuple[Process, ...] = ()
        self._over = threading.Event()

    def enter(self, phase: str, step: int) -> None:
        """A phase begins, `step` updates being done. From `step` to `step` is one update: its time is taken."""
        now = self._clock()
        if phase == self.phase == "step" and step == self.step + 1:
            self._slowest = max(self._slowest, now - self._entered)
        self.phase, self.step, self._entered, self._idle = phase, step, now, 0.0

    def beat(self) -> None:
        """The phase gets on."""
        self._idle = 0.0

    @property
    def limit(self) -> float:
        """Seconds that the present phase may take without a beat."""
        return max(getattr(self.limits, self.phase), SLOWER * self._slowest)

    def tick(self, seconds: float) -> None:
        """Count `seconds` more without progress."""
        self._idle += seconds
        if self._idle > self.limit and not self._over.is_set():
            self._over.set()
            self._expire(Stalled(self._words()))

    def _words(self) -> str:
        states = [words for process in self.peers if (words := process.trouble())]
        where = f"no progress for {self._idle:.0f} s in phase {self.phase}, {self.step} updates being done"
        return "; ".join([f"{where} (limit {self.limit:.0f} s)", *states])

    @contextmanager
    def running(self) -> Iterator[Watchdog]:
        """Watch, in a thread, for the time of the block."""

        def watch() -> None:
            while not self._over.wait(TICK):
                self.tick(TICK)

        watching = threading.Thread(target=watch, daemon=True, name="watchdog")
        watching.start()
        try:
            yield self
        finally:
            self._over.set()
            watching.join()


@dataclass(frozen=True)
class Process:
    """A rank of this job, by its pid where it is on this machine."""

    rank: int
    host: str
    pid: int

    def trouble(self, here: str | None = None) -> str:
        """`rank 1 (pid 7) is stopped`, or `is gone`; empty where it runs or can't be seen from here."""
        if self.host != (here or os.uname().nodename) or not (processes.PROC / "self" / "stat").exists():
            return ""
        found = processes.state(self.pid)
        words = "is gone" if found in processes.GONE else TROUBLE.get(found)
        return f"rank {self.rank} (pid {self.pid}) {words}" if words else ""


def end_rank(paths: TrialFolder) -> Callable[[Stalled], None]:
    """What ends this process for good: where every thread stood goes to the log, the reason to its last words."""

    def end(stalled: Stalled) -> None:
        last = threading.Timer(SPEAK_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()
        faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
        lastwords.write(paths, stalled)
        os._exit(1)

    return end
