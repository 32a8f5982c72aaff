"""Preparation: a data set decoded, scaled, split and cut once, for all trials and ranks.

The result is a folder named by the fingerprint of what went into it; `trainers.tiles` reads it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ablate.disk import abandoned, sync_folder
from ablate.records import digest
from trainers.cutting import PREPARATION, cut
from trainers.families import LAYOUTS, build, part_name
from trainers.layouts._common import Data, Source
from trainers.options import places
from trainers.pairs import DataError
from trainers.tiles import damage

AFTER_READING = ("flip",)  # options that act on tiles as they are read, not on what is stored

NAME = re.compile("[0-9a-f]{12}")  # of a prepared set; other things lie in the cache too

__all__ = ["DataError", "fingerprint", "prepare", "prune"]

_used: dict[Path, int] = {}  # descriptors: a shared lock on every set that this process has prepared, while it lives


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
    cache.mkdir(parents=True, exist_ok=True)
    _use(cache, name)
    if damage(folder) is None:
        return folder
    with _locked(_build_lock(cache, name)):
        if damage(folder) is not None:
            _build(folder, _partial(cache, name), data, source)
    _remove_stale(cache)
    return folder


def prune(cache: Path, keep: Collection[str]) -> dict[str, int]:
    """Remove every prepared set whose fingerprint is not in `keep`; the bytes of each that is gone.

    Sets that another process builds, or has prepared and may be about to read, stay.
    """
    _remove_stale(cache)
    removed = {}
    for folder in sorted(cache.glob("*")):
        if NAME.fullmatch(folder.name) and folder.is_dir() and folder.name not in keep:
            size = _removed(cache, folder)
            removed |= {} if size is None else {folder.name: size}
    return removed


def in_use(cache: Path, name: str) -> bool:
    """Whether another process builds that set, or has prepared it and may be about to read."""
    locks = (_use_lock(cache, name), _build_lock(cache, name))
    return any(path.exists() and path not in _used and not abandoned(path) for path in locks)


def _removed(cache: Path, folder: Path) -> int | None:
    """The bytes of a set that nobody was using; None where somebody is, and it stays."""
    mine = _used.pop(_use_lock(cache, folder.name), None)
    if mine is not None:
        os.close(mine)
    with (
        _locked(_use_lock(cache, folder.name), wait=False) as unused,
        _locked(_build_lock(cache, folder.name), wait=False) as unbuilt,
    ):
        if not (unused and unbuilt):
            return None
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        doomed = _partial(cache, folder.name)
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(folder, doomed)  # whatever happens now, nothing that looks whole is left
        shutil.rmtree(doomed)
        return size


def _use(cache: Path, name: str) -> None:
    """Tell `prune` in other processes that this one needs the set; nothing can be pruned where nothing is writable."""
    path = _use_lock(cache, name)
    if path not in _used and os.access(cache, os.W_OK):
        _used[path] = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
        fcntl.flock(_used[path], fcntl.LOCK_SH)


def _build(folder: Path, partial: Path, data: Data, source: Source) -> None:
    """Write beside and rename; the caller holds the lock, so whatever lies at either place is a leftover."""
    for leftover in (partial, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        cut(partial, data, source, fingerprint=folder.name)
        os.replace(partial, folder)  # its names are durable since meta.json, the last of them, was written
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(cache: Path, name: str) -> Path:
    return cache / f"{name}.partial"


def _build_lock(cache: Path, name: str) -> Path:
    return cache / f".{name}.lock"


def _use_lock(cache: Path, name: str) -> Path:
    return cache / f".{name}.used"


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock, and say whether it is held; the kernel frees it when the process ends."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _remove_stale(cache: Path) -> None:
    """Remove what killed writers of other data sets left: the lock of a living one is taken."""
    for partial in cache.glob("*.partial"):
        with _locked(_build_lock(cache, partial.stem), wait=False) as held:
            if held:
                shutil.rmtree(partial, ignore_errors=True)
