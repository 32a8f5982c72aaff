"""A disk that fills up: the k-th call that needs space fails, half done where it can be."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ablate import disk


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at `place`, which `fill` really fills; skips where this user may not mount one."""
    place.mkdir()
    size = f"size={megabytes}m"
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, leave: int = 0) -> Path:
    """Fill the file system of `place` but for so many bytes; the file to remove for all to be well again."""
    ballast = place / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        piece = 1 << 24
        while piece:
            stated = os.statvfs(place)
            free = stated.f_bavail * stated.f_frsize - leave
            try:
                written = file.write(bytes(min(piece, max(0, free)))) if free > 0 else 0
            except OSError:
                written = 0
            piece = piece if written == piece else piece // 4
    return ballast


@dataclass
class Counter:
    """Calls that need space so far; from call `k` on they fail, or that one alone."""

    k: int
    for_good: bool
    calls: int = 0

    @property
    def failed(self) -> bool:
        return self.calls >= self.k

    def full(self) -> bool:
        self.calls += 1
        return self.calls == self.k or (self.for_good and self.calls > self.k)


@contextmanager
def full_disk(k: int, *, for_good: bool = False) -> Iterator[Counter]:
    """The helpers' opening for writing, writing (half of it gets there), syncing, renaming, making of folders."""
    counter = Counter(k, for_good)

    def put(file: disk.File, piece: memoryview) -> int:
        if counter.full():
            io.FileIO.write(file, piece[: len(piece) // 2])
            raise _error()
        return io.FileIO.write(file, piece)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "os", _Os(counter))
        patch.setattr(disk.File, "_put", put)
        patch.setattr(disk.File, "__init__", _failing(counter, io.FileIO.__init__))
        patch.setattr(Path, "mkdir", _failing(counter, Path.mkdir))
        yield counter


class _Os:
    """The os module that the helpers see."""

    def __init__(self, counter: Counter):
        self._counter = counter

    def __getattr__(self, name: str):
        found = getattr(os, name)
        return _failing(self._counter, found) if name in ("fsync", "replace") else found


def _failing(counter: Counter, call):
    def failing(*arguments, **options):
        if counter.full():
            raise _error()
        return call(*arguments, **options)

    return failing


def _error() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
