"""A wall clock that jumps don't reach, and whose monotonic clock it is (standard library only)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def steady(*, not_before: float = 0.0) -> Callable[[], float]:
    """A clock of seconds since 1970 that never goes back: the wall's time now, or `not_before`, and what passes since.

    A wall clock that is set meanwhile (NTP, a machine that wakes up) would be taken for hours of training.
    """
    began, at = max(time.time(), not_before), time.monotonic()
    return lambda: began + (time.monotonic() - at)


def boot() -> str:
    """A name of the running kernel's start; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
