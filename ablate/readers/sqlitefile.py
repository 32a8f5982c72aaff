"""Whose database a SQLite file is, asked without writing to it. What the tables say holds on a server too."""

from __future__ import annotations

import sqlite3
from pathlib import Path

MAGIC = b"SQLite format 3\0"


def is_sqlite(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def tables(path: Path) -> set[str]:
    """Names of its tables; empty where it is no SQLite database."""
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as database:
            return {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def are_mlflows(tables: set[str]) -> bool:
    return {"experiments", "runs", "metrics"} <= tables


def are_optunas(tables: set[str]) -> bool:
    return {"studies", "trials", "trial_values"} <= tables
