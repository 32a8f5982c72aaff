"""Ends ranks that are stopped (SIGSTOP, a debugger left behind): they can't see it themselves.

A peer that waits for one ends by its own watchdog, but a lone rank has no peer. Watched from the launcher; time in
which that one was frozen as well does not count.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablate import processes

TICK = 2.0  # seconds between looks

log = logging.getLogger(__name__)


class Stopped:
    """Counts how long each rank of a job has been stopped; a rank is a process whose output is the trial's log."""

    def __init__(self, output: Path, *, limit: float, proc: Path = processes.PROC):
        self._output, self._limit, self._proc = output, limit, proc
        self._seconds: dict[int, float] = {}

    def tick(self, seconds: float) -> list[int]:
        """Pids that have now been stopped for longer than the limit, `seconds` after the last look."""
        ranks = processes.speaking_into(self._output, proc=self._proc)
        stopped = {pid for pid in ranks if processes.state(pid, proc=self._proc) in processes.STOPPED}
        self._seconds = {pid: self._seconds.get(pid, 0.0) + seconds for pid in stopped}
        return sorted(pid for pid, total in self._seconds.items() if total > self._limit)


@contextmanager
def ended(output: Path, *, limit: float) -> Iterator[None]:
    """For the time of the block, ranks that have been stopped for longer than `limit` seconds are killed."""
    over, stopped = threading.Event(), Stopped(output, limit=limit)

    def watch() -> None:
        while not over.wait(TICK):
            for pid in stopped.tick(TICK):
                log.warning("pid %d of %s has been stopped for %.0f s: it is killed", pid, output.parent.name, limit)
                os.kill(pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="stopped-ranks").start()
    try:
        yield
    finally:
        over.set()
