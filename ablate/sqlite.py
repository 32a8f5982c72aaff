"""SQLite files that appear whole: a kill while tables are made leaves no half database behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def made_whole(path: Path, make: Callable[[str], None]) -> None:
    """Have `make` build a database at a URL beside `path`, then put it there in one step.

    Does nothing where `path` has content. The file is readable by its owner only. SQLite commits
    table by table while a library migrates its schema, so what a kill left at the final place
    could not be told from a whole database.
    """
    path = path.absolute()
    if path.exists() and path.stat().st_size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    for leftover in (beside, beside.with_name(f"{beside.name}-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(beside, os.O_CREAT | os.O_RDWR, 0o600))
    make(f"sqlite:///{beside}")
    descriptor = os.open(beside, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(beside, path)
