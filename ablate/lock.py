"""One driver per study, by a kernel lock: it is gone with its holder, however that one ended."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ablate.disk import File, make_folder


class Busy(Exception):
    """Another driver holds the study; the text says which."""


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file for the time of the block. Raises Busy at once if somebody else does."""
    make_folder(path.parent)
    with File(path, "a+") as file:
        if not _taken(file):
            raise Busy(_describe(path))
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": time.time()}).encode())
        yield


def _taken(file: IO[bytes], *, tries: int = 10, pause: float = 0.05) -> bool:
    """Take the lock; a few tries, since `is_held` in another process has it for an instant."""
    for _ in range(tries):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(pause)
    return False


def is_held(path: Path) -> bool:
    """Whether a living driver holds the lock file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _describe(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["start"]))
        return f"another driver runs this study: pid {holder['pid']} on {holder['host']}, since {began}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another driver runs this study"  # it has not yet said who it is
