"""SQLite files that appear whole: a kill while tables are made leaves no half database behind."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ablate.disk import make_folder, naming, sync_folder
from ablate.failpoints import failpoint

WAIT_SECONDS = 5  # for a writer that is at work
FULL = "disk is full"  # what SQLite says for want of space
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_MISREAD = re.compile(r"\?|%[0-9A-Fa-f]{2}")


def address(path: Path) -> str:
    """The address of a file for Optuna and MLflow; of a path that is `misread` it would be another file's."""
    return f"sqlite:///{path}"


def misread(path: Path) -> str:
    """What of a path SQLAlchemy reads as no part of it: `?` ends it, %41 is A. Empty where there is nothing.

    It can't be quoted: SQLAlchemy 2.1 undoes that, 2.0 does not.
    """
    found = _MISREAD.search(str(path))
    return found[0] if found else ""


def made_whole(path: Path, make: Callable[[str], None]) -> None:
    """Have `make` build a database at a URL beside `path`, then put it there in one step.

    Does nothing where `path` has content. The file is readable by its owner only. SQLite commits
    table by table while a library migrates its schema, so what a kill left at the final place
    could not be told from a whole database.
    """
    path = path.absolute()
    if path.exists() and path.stat().st_size:
        return
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.new")
    for leftover in (beside, *_companions(beside)):
        leftover.unlink(missing_ok=True)
    with naming(beside):
        os.close(os.open(beside, os.O_CREAT | os.O_RDWR, 0o600))
        make(address(beside))
        descriptor = os.open(beside, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        failpoint("database-made")
        os.replace(beside, path)
        sync_folder(path.parent)


def unsound(path: Path) -> str | None:
    """What SQLite's own check finds wrong with a database, or None. What a kill left half done is rolled back first.

    Nothing is said of one that a writer holds for longer than a few seconds.
    """
    try:
        place = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(place, uri=True, timeout=WAIT_SECONDS)) as database:
            found = [row[0] for row in database.execute("pragma integrity_check(3)")]
    except sqlite3.Error as error:
        return None if getattr(error, "sqlite_errorcode", None) in BUSY else f"{path}: {error}"
    return None if found == ["ok"] else f"{path}: {'; '.join(found)}"


def _companions(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{ending}") for ending in ("-journal", "-wal", "-shm")]
