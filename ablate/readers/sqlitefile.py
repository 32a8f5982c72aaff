"""Whose database a SQLite file is, asked without writing to it."""

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


def holds_mlflow(path: Path) -> bool:
    return {"experiments", "runs", "metrics"} <= tables(path)


def holds_optuna(path: Path) -> bool:
    return {"studies", "trials", "trial_values"} <= tables(path)
