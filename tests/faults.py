"""A disk that fills up: the k-th call that needs space fails, half done where it can be."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ablate import disk


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
