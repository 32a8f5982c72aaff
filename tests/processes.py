"""Processes of a study, found by what any executor guarantees: a rank's standard output is its trial's log, and rank 0
holds the trial's stream. Nothing here knows how they were started.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXITING = 0x4  # of the flags of a process in /proc/PID/stat


@dataclass(frozen=True, order=True)
class Rank:
    """A living rank; those that hold their trial's stream come first in any order."""

    trial: str
    peer: bool  # whether it is another than rank 0
    pid: int


def ranks(folder: Path) -> list[Rank]:
    """The living ranks of all trials below a study's folder."""
    root, found = f"{folder.resolve()}/trials/", {}
    for pid in living():
        try:
            output = os.readlink(f"/proc/{pid}/fd/1")
        except OSError:
            continue  # it has ended, or is somebody else's
        if output.startswith(root) and output.endswith("/log.txt"):
            stream = Path(output).with_name("events.jsonl")
            found[pid] = Rank(stream.parent.name, stream not in open_files(pid), pid)
    above = parents() if found else {}
    # What a rank has forked (a command it calls) has its files until it is another program.
    return sorted(rank for pid, rank in found.items() if above.get(pid) not in found and not _doomed(pid))


def holders(folder: Path) -> dict[int, set[Path]]:
    """Living processes, this one apart, that have files below a folder open, and which."""
    root = folder.resolve()
    inside = {pid: {file for file in open_files(pid) if file.is_relative_to(root)} for pid in living()}
    return {pid: files for pid, files in inside.items() if files and pid != os.getpid()}


def open_files(pid: int) -> set[Path]:
    """What a process has open; nothing where it has ended or is somebody else's."""
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            found.add(Path(os.readlink(entry.path)))
    except OSError:
        pass
    return found


def living() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())


def descendants(pid: int) -> set[int]:
    """All living processes below one."""
    below: dict[int, list[int]] = {}
    for child, parent in parents().items():
        below.setdefault(parent, []).append(child)
    found, queue = set(), [pid]
    while queue:
        queue += [child for child in below.get(queue.pop(), ()) if child not in found and not found.add(child)]
    return found


def between(top: int, bottom: int) -> list[int]:
    """Processes on the way down from one to another, the first that `top` has started first; empty if it has none."""
    above, way = parents(), []
    while bottom in above and (bottom := above[bottom]) != top:
        way.insert(0, bottom)
    return way if bottom == top else []


def parents() -> dict[int, int]:
    """Pid -> pid of the process that started it, of all that live."""
    found = {}
    for pid in living():
        if (fields := _state(pid)) is not None:
            found[pid] = int(fields[1])
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that live (a zombie does not)."""
    return {pid for pid in pids if (fields := _state(pid)) is not None and fields[0] not in "ZX"}


def _doomed(pid: int) -> bool:
    """Whether a process runs no more of its program: it is being taken down, which takes a while on a busy machine."""
    try:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
        flags = int((_state(pid) or [])[6])
    except (OSError, LookupError):
        return True
    return bool(pending >> (signal.SIGKILL - 1) & 1 or flags & EXITING)


def _state(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None where it has ended between a listing and this."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
