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

TICK = 2.0  # seconds between looks
STOPPED = ("T", "t")

log = logging.getLogger(__name__)


class Stopped:
    """Counts how long each rank of a job has been stopped; a rank is a process whose output is the trial's log."""

    def __init__(self, output: Path, *, limit: float, proc: Path = Path("/proc")):
        self._output, self._limit, self._proc = str(output.resolve()), limit, proc
        self._seconds: dict[int, float] = {}

    def tick(self, seconds: float) -> list[int]:
        """Pids that have now been stopped for longer than the limit, `seconds` after the last look."""
        stopped = {pid for pid in self._ranks() if self._state(pid) in STOPPED}
        self._seconds = {pid: self._seconds.get(pid, 0.0) + seconds for pid in stopped}
        return sorted(pid for pid, total in self._seconds.items() if total > self._limit)

    def _ranks(self) -> Iterator[int]:
        for process in self._proc.glob("[0-9]*"):
            try:
                if os.readlink(process / "fd" / "1") == self._output:
                    yield int(process.name)
            except OSError:
                continue  # it has ended, or is somebody else's

    def _state(self, pid: int) -> str:
        try:
            return (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""


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
