"""One driver per study, by a kernel lock: it is gone with its holder, however that one ended.

The lock's file says who took it last, and, once that one has let go by itself, when and how: no such word, and the
holder died.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ablate.clock import boot
from ablate.disk import File, make_folder

DRIVER = "driver"


class Busy(Exception):
    """Somebody else holds the study; the text says who."""


@dataclass(frozen=True)
class Holder:
    """Who took a lock last; `ended` is None where it has not let go by itself. Times are seconds since 1970."""

    pid: int
    host: str
    start: float
    boot: str = ""  # of the machine's kernel: a container's host name changes, this does not
    what: str = DRIVER
    ended: float | None = None
    error: str = ""  # the kind of exception that ended it

    @property
    def seen_from_here(self) -> bool:
        """Whether a lock that it holds would show here: locks of another machine may not."""
        return self.boot == boot() if self.boot and boot() else self.host == socket.gethostname()


@contextmanager
def hold(path: Path, *, what: str = DRIVER) -> Iterator[None]:
    """Hold the lock file for the time of the block. Raises Busy at once if somebody else does.

    Whoever is no driver leaves what the file says of the last driver as it was.
    """
    make_folder(path.parent)
    with File(path, "a+") as file:
        if not _taken(file):
            raise Busy(describe(path))
        before = 0 if what == DRIVER else os.fstat(file.fileno()).st_size
        file.truncate(before)
        me = {"pid": os.getpid(), "host": socket.gethostname(), "start": time.time(), "boot": boot(), "what": what}
        _say(file, me)
        try:
            yield
        except BaseException as error:
            _let_go(file, before, what, type(error).__name__)
            raise
        _let_go(file, before, what, "")


def _say(file: File, facts: dict[str, Any]) -> None:
    """A JSON document a line, begun by its newline: what was said before stays whole."""
    lead = b"\n" if os.fstat(file.fileno()).st_size else b""
    file.write(lead + json.dumps(facts).encode())


def _let_go(file: File, before: int, what: str, error: str) -> None:
    with suppress(OSError):  # of a full disk: the lock itself needs no space
        if what == DRIVER:
            _say(file, {"ended": time.time(), "error": error})
        else:
            file.truncate(before)


def _taken(file: IO[bytes], *, tries: int = 10, pause: float = 0.05) -> bool:
    """Take the lock; a few tries, since `is_held` in another process has it for an instant."""
    for _ in range(tries):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(pause)
    return False


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock file for the time of the block, after whoever holds it now: for what takes a moment."""
    make_folder(path.parent)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def last_driver(path: Path) -> Holder | None:
    """The driver that took the lock last; None where there was none, or it has not yet said who it is."""
    documents = _documents(path)
    found = _holder(documents[0]) if documents else None
    if found is None or len(documents) < 2 or not isinstance(documents[1].get("ended"), int | float):
        return found
    ended = documents[1]
    return Holder(**{**vars(found), "ended": float(ended["ended"]), "error": str(ended.get("error") or "")})


def is_run(path: Path) -> bool:
    """Whether a living driver holds the lock file, and not one who does something else with the study."""
    holders = _holders(path)
    return is_held(path) and (not holders or holders[-1].what == DRIVER)


def _documents(path: Path) -> list[dict[str, Any]]:
    """What the file holds, line by line up to one that is no document: a holder may be writing it."""
    found: list[dict[str, Any]] = []
    try:
        for line in path.read_text().splitlines():
            document = json.loads(line)
            if not isinstance(document, dict):
                break
            found.append(document)
    except (OSError, ValueError, RecursionError):
        pass
    return found


def _holder(document: dict[str, Any]) -> Holder | None:
    try:
        return Holder(int(document["pid"]), str(document["host"]), float(document["start"]),
                      str(document["boot"]), str(document["what"]))  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None  # somebody else's, or of a version that did not say when a driver ended


def _holders(path: Path) -> list[Holder]:
    """A driver, and whoever took the lock after it without being one."""
    return [found for document in _documents(path) if (found := _holder(document))]


def describe(path: Path) -> str:
    """Who holds the lock, as far as its file says."""
    holders = _holders(path)
    if not holders:
        return "another driver runs this study"  # it has not yet said who it is
    last = holders[-1]
    who = "another driver runs" if last.what == DRIVER else f"`{last.what}` works on"
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.start))
    return f"{who} this study: pid {last.pid} on {last.host}, since {began}"
