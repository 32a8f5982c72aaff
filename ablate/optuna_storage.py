"""Where Optuna's records of a study are, and how that is opened: its own SQLite file, or a team's PostgreSQL.

One Optuna study per study folder. In a storage that others share its name carries the folder's uid, since names of
studies repeat between people.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ablate import postgresql
from ablate.disk import full
from ablate.mlflow_store import own_uid
from ablate.problems import redacted
from ablate.readers.sqlitefile import are_mlflows, are_optunas
from ablate.records import StudyFolder
from ablate.sqlite import FULL, address, made_whole

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Connection

VARIABLE = "ABLATE_OPTUNA_STORAGE"
LOCKED_SECONDS = 70  # to wait for another process, such as a backup that takes a minute
UID_DIGITS = 12
MLFLOWS = "the database holds MLflow's tables; Optuna needs one of its own"
MAKING = 0x61626C617465  # the advisory lock of whoever makes the tables: "ablate" in ASCII


class NotOptunas(RuntimeError):
    """A database that holds something else."""


class Place(Protocol):
    """A database of Optuna's. `at_once` is how many records are written to it before training begins."""

    at_once: int

    def open(self) -> RDBStorage:
        """Optuna's storage, with its tables."""

    def answers(self, storage: RDBStorage) -> bool:
        """Whether it can be read at all; within seconds where nobody holds it."""

    def problem(self, cause: str) -> str:
        """What can't be done and what helps, as a sentence without secrets. Raises DiskFull if that is the cause."""


class File:
    """A SQLite file that belongs to one study."""

    at_once = 50  # 30 ms each, on a disk that others use

    def __init__(self, path: Path):
        self.path = path

    def open(self) -> RDBStorage:
        from optuna.storages import RDBStorage

        made_whole(self.path, lambda beside: RDBStorage(beside).engine.dispose())
        return RDBStorage(address(self.path), engine_kwargs={"connect_args": {"timeout": LOCKED_SECONDS}})

    def answers(self, storage: RDBStorage) -> bool:
        return storage.get_all_studies() is not None

    def problem(self, cause: str) -> str:
        if FULL in cause:
            raise full(self.path)
        remedy = "and it is rebuilt from them once it is moved away"
        if "locked" in cause:
            remedy = f"another process has kept it locked for {LOCKED_SECONDS} s"
        return f"{self.path}: Optuna's database cannot be used ({cause}); the trial folders are whole, {remedy}"


class Server:
    """A PostgreSQL database that many studies share.

    A server that stands still holds up whoever waits for its answer, for as long as it does: but for opening, that is
    the background thread of a `LedgerQueue` alone.
    """

    at_once = 0

    def __init__(self, url: str):
        self._url = url

    def open(self) -> RDBStorage:
        """Optuna makes its tables one by one: of several drivers one does so, the others wait for it."""
        from optuna.storages import RDBStorage
        from sqlalchemy import NullPool, text

        with postgresql.engine(self._url, poolclass=NullPool).connect() as lock:
            lock.execute(text(f"set lock_timeout = '{LOCKED_SECONDS}s'"))
            lock.execute(text("select pg_advisory_xact_lock(:number)"), {"number": MAKING})
            _check_whose(lock)
            return RDBStorage(f"{postgresql.DIALECT}://", engine_kwargs=postgresql.engine_options(self._url))

    def answers(self, storage: RDBStorage) -> bool:
        return postgresql.answers(self._url)

    def problem(self, cause: str) -> str:
        said = redacted(cause, self._url)
        return (f"{redacted(self._url, self._url)}: Optuna's storage cannot be used ({said}); the trial folders are"
                " whole, and it is brought up to date from them once it answers")  # fmt: skip


def unanswered(where: Path | str) -> str:
    """Why nothing can be started with records there, and what helps; empty for a file, and where a server answers."""
    if isinstance(where, Path):
        return ""
    try:
        tables = postgresql.tables(where)
    except postgresql.Unreachable as error:
        said, helps = str(error), postgresql.remedy(where, str(error))
    else:
        if not mlflows_alone(tables):
            return ""
        said, helps = MLFLOWS, "make another database, and name that"
    who = f" as user {redacted(name, where)}" if (name := postgresql.user(where)) else ""
    helps += " " if helps.endswith("?") else "; "
    return (f"{redacted(where, where)}: Optuna's storage cannot be used{who} ({said}); nothing was started: {helps}"
            "`ablate doctor` asks again")  # fmt: skip


def _check_whose(connection: Connection) -> None:
    """Raises NotOptunas for MLflow's database: both keep the version of their tables in a table of the same name."""
    from sqlalchemy import inspect

    if mlflows_alone(set(inspect(connection).get_table_names())):
        raise NotOptunas(MLFLOWS)


def mlflows_alone(tables: set[str]) -> bool:
    """Whether a database holds MLflow's tables and not Optuna's."""
    return are_mlflows(tables) and not are_optunas(tables)


def place_of(where: Path | str) -> Place:
    """The place at a path or an address."""
    return File(where) if isinstance(where, Path) else Server(where)


def resolve(stated: str, folder: StudyFolder, environment: Mapping[str, str] = os.environ) -> Path | str:
    """Where a study's records are: `auto` is $ABLATE_OPTUNA_STORAGE, else the SQLite file in its folder."""
    return (environment.get(VARIABLE) if stated == "auto" else stated) or folder.optuna


def study_name(where: Path | str, folder: StudyFolder) -> str:
    """The study's name in Optuna: in a storage of its own the plain one."""
    return folder.name if isinstance(where, Path) else f"{folder.name}-{own_uid(folder)[:UID_DIGITS]}"


def described(stated: str, folder: StudyFolder) -> str:
    """A shared storage and the study's name in it, safe to show; empty for a file in the study's folder."""
    where = resolve(stated, folder)
    return "" if isinstance(where, Path) else f"{redacted(where, where)}, study {study_name(where, folder)}"


def unusable(stated: str, environment: Mapping[str, str] = os.environ) -> str:
    """Why there can be no storage where the study and the environment say, whatever runs there; else empty."""
    url = environment.get(VARIABLE) if stated == "auto" else stated
    if not url:
        return ""
    who = f"{VARIABLE}: " if stated == "auto" else "tracking.optuna: "
    wrong = postgresql.mistake(url) or postgresql.driver_missing()
    return f"{who}{wrong}" if wrong else ""
