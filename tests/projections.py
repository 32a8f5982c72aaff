"""Optuna's and MLflow's records as they lie in SQLite files or PostgreSQL, read past both libraries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shared:
    """Stores that a study has in place of its files: databases by URL, and where a server keeps artifacts."""

    optuna: str
    mlflow: str
    served: Path


@dataclass(frozen=True)
class Record:
    """A trial of Optuna: `facts` are its user attributes."""

    number: int
    state: str
    values: tuple[float | None, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of MLflow's metrics; `time` in ms."""

    key: str
    step: int
    value: float
    time: int


@dataclass(frozen=True)
class Run:
    """A run that MLflow shows; `cell` is empty for the parent and for what is nobody's."""

    id: str
    state: str
    artifacts: Path
    tags: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    @property
    def cell(self) -> str:
        return self.tags.get("ablate.cell", "")


def records(database: Path | str, study: str) -> list[Record]:
    """Every trial of a study in Optuna's database, by number. Raises sqlite3.Error for a file that is none."""
    with closing(_open(database)) as store:
        found = []
        trials = "select t.trial_id, t.number, t.state from trials t join studies s using (study_id)"
        for id, number, state in store.execute(f"{trials} where s.study_name = ? order by t.number", [study]):
            facts = store.execute("select key, value_json from trial_user_attributes where trial_id = ?", [id])
            values = store.execute("select value from trial_values where trial_id = ? order by objective", [id])
            found.append(
                Record(number, state, tuple(value for (value,) in values), {k: json.loads(v) for k, v in facts})
            )
        return found


def runs(database: Path | str, experiment: str, served: Path = Path()) -> list[Run]:
    """Every run of an experiment that is not deleted; a server keeps artifacts in `served`. Raises sqlite3.Error for a
    file that is no database."""
    with closing(_open(database)) as store:
        found = []
        shown = "select run_uuid, status, artifact_uri from runs join experiments e using (experiment_id)"
        for id, state, place in store.execute(
            f"{shown} where e.name = ? and runs.lifecycle_stage = 'active' order by start_time, run_uuid", [experiment]
        ):
            tags = dict(store.execute("select key, value from tags where run_uuid = ?", [id]))
            rows = store.execute("select key, step, value, timestamp from metrics where run_uuid = ?", [id])
            artifacts = Path(place.removeprefix("file://").replace("mlflow-artifacts:", str(served)))
            found.append(Run(id, state, artifacts, tags, [Row(*row) for row in rows]))
        return found


class _Postgres:
    """A connection that takes SQLite's placeholders."""

    def __init__(self, url: str):
        import psycopg

        self._connection = psycopg.connect(url.replace("+psycopg:", ":"), autocommit=True, connect_timeout=10)

    def execute(self, statement: str, values: list[Any]) -> Iterator[tuple]:
        return iter(self._connection.execute(statement.replace("?", "%s"), values).fetchall())

    def close(self) -> None:
        self._connection.close()


def _open(database: Path | str) -> sqlite3.Connection | _Postgres:
    """What a kill left half done is rolled back, as by any other reader."""
    if isinstance(database, str):
        return _Postgres(database)
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=5)
