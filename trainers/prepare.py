"""Preparation: a data set decoded, scaled, split and cut once, for all trials and ranks.

The result is a folder named by the fingerprint of what went into it; `trainers.tiles` reads it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ablate.records import digest
from trainers.cutting import PREPARATION, cut
from trainers.families import LAYOUTS, build, part_name
from trainers.layouts._common import Data, Source
from trainers.options import places
from trainers.pairs import DataError
from trainers.tiles import damage

AFTER_READING = ("flip",)  # options that act on tiles as they are read, not on what is stored

__all__ = ["DataError", "fingerprint", "prepare"]


def fingerprint(data: Data) -> str:
    """12 hex digits of what determines the prepared numbers: options, content of the files, names, scenes.

    Where the files lie does not enter. Raises DataError where the data set can't be listed.
    """
    return _fingerprint(data, build(LAYOUTS, data))


def _fingerprint(data: Data, source: Source) -> str:
    left_out = {*places(type(data)), *AFTER_READING}
    chosen = {key: value for key, value in asdict(data).items() if key not in left_out}
    return digest([PREPARATION, part_name(data), chosen, source.identity()])


def prepare(data: Data, cache: Path) -> Path:
    """The folder of the prepared data set below `cache`, built if it is absent or damaged. Raises DataError.

    Safe for several processes at once: one builds, the others wait. It is written beside and renamed, so that a
    killed writer leaves nothing that looks whole, and what it did leave is removed by the next.
    """
    source = build(LAYOUTS, data)
    name = _fingerprint(data, source)
    folder = cache / name
    if damage(folder) is None:
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache, name):
        if damage(folder) is not None:
            _build(folder, _partial(cache, name), data, source)
    _remove_stale(cache)
    return folder


def _build(folder: Path, partial: Path, data: Data, source: Source) -> None:
    """Write beside and rename; the caller holds the lock, so whatever lies at either place is a leftover."""
    for leftover in (partial, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        cut(partial, data, source, fingerprint=folder.name)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(cache: Path, name: str) -> Path:
    return cache / f"{name}.partial"


@contextmanager
def _locked(cache: Path, name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of one fingerprint, and say whether it is held; the kernel frees it when the process ends."""
    with open(cache / f".{name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _remove_stale(cache: Path) -> None:
    """Remove what killed writers of other data sets left: the lock of a living one is taken."""
    for partial in cache.glob("*.partial"):
        with _locked(cache, partial.stem, wait=False) as held:
            if held:
                shutil.rmtree(partial, ignore_errors=True)
