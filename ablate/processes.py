"""The processes of a job on this machine, found by what any executor gives them: a rank speaks into its trial's log.

Standard library only; on systems without /proc nothing is found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
STOPPED = ("T", "t")  # by a signal, by a debugger
GONE = ("Z", "X")
UNSAID = os.EX_IOERR  # exit code of a rank that could not write its last words: its disk is full, or worse


def speaking_into(place: Path, *, proc: Path = PROC) -> Iterator[int]:
    """Pids whose standard output is the file `place`, or a file below the folder `place`."""
    if not place.exists():  # nobody has opened it: all processes need not be looked at
        return
    name = str(place.resolve())
    for process in proc.glob("[0-9]*"):
        if _speaks_into(process, name):
            yield int(process.name)


def speaks_into(pid: int, place: Path, *, proc: Path = PROC) -> bool:
    """Whether `speaking_into` would find that process: one look in place of one at every process."""
    return _speaks_into(proc / str(pid), str(place.resolve()))


def _speaks_into(process: Path, name: str) -> bool:
    try:
        output = os.readlink(process / "fd" / "1")
    except OSError:
        return False  # it has ended, or is somebody else's
    return output == name or output.startswith(f"{name}/")


def state(pid: int, *, proc: Path = PROC) -> str:
    """The kernel's letter for what a process does: R, S, D, T, ...; X where there is none."""
    try:
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def evict(place: Path) -> list[int]:
    """Kill what speaks into `place`, but for this process; stopped ones too: they can't see that their parent died."""
    found = [pid for pid in speaking_into(place) if pid != os.getpid()]
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue  # it has just ended
    return found
