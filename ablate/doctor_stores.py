"""The stores that the environment and the studies under a runs folder name: whether they answer, and how soon."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from ablate import optuna_storage, postgresql
from ablate.mlflow_store import client_of, reason, unknown_store
from ablate.problems import StudyError, redacted
from ablate.readers.sqlitefile import are_mlflows, are_optunas
from ablate.records import StudyFolder
from ablate.stored import stated

OPTUNA, MLFLOW = "Optuna's storage", "MLflow"
TRACKING = "MLFLOW_TRACKING_URI"
VERSION_SECONDS = 5


@dataclass(frozen=True)
class Store:
    """A store that somebody has named in `source`; `place` is safe to show, `problem` empty where all is well."""

    kind: str
    source: str
    place: str
    version: str = ""
    milliseconds: float | None = None  # that a question to it takes, once it is open
    problem: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} ({self.source})"


def examine(runs: Path, environment: Mapping[str, str] = os.environ) -> list[Store]:
    """Every store that is named, asked once however many studies name it; files of SQLite are looked at by `run`."""
    asked: dict[tuple[str, str], Store] = {}
    for kind, source, url in _named(runs, environment):
        if (kind, url) not in asked:
            store = Store(kind, source, redacted(url, url))
            asked[kind, url] = _optuna(store, url) if kind == OPTUNA else _mlflow(store, url)
    return list(asked.values())


def describe(store: Store) -> str:
    if store.problem:
        return f"{store.name}: {store.place}: does not work"
    version = store.version or "version unknown"
    return f"{store.name}: {version} at {store.place}, answers in {store.milliseconds:.0f} ms"


def _named(runs: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if url := environment.get(optuna_storage.VARIABLE):
        yield OPTUNA, optuna_storage.VARIABLE, url
    if (uri := environment.get(TRACKING)) and not _is_local(uri):
        yield MLFLOW, TRACKING, uri
    for path in sorted(runs.glob("*/study.yaml")):
        try:
            uri, url = stated(StudyFolder(runs, path.parent.name))
        except (StudyError, OSError, AttributeError):
            continue  # the commands that read it say what is wrong
        if url != "auto":
            yield OPTUNA, f"study {path.parent.name}", url
        if uri not in (None, "auto") and not _is_local(uri):
            yield MLFLOW, f"study {path.parent.name}", uri


def _is_local(uri: str) -> bool:
    return uri.startswith("sqlite:") and not unknown_store(uri)


def _optuna(store: Store, url: str) -> Store:
    whose = optuna_storage.mlflows_alone
    return _on_postgresql(store, url, lambda tables: optuna_storage.MLFLOWS if whose(tables) else "")


def _mlflow(store: Store, uri: str) -> Store:
    if wrong := unknown_store(uri):
        return replace(store, problem=wrong)
    if postgresql.is_address(uri):
        return _on_postgresql(store, uri, lambda tables: "" if are_mlflows(tables) or not are_optunas(tables)
                              else "the database holds Optuna's tables; MLflow needs one of its own")  # fmt: skip
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = client_of(uri)
        client.search_experiments(max_results=1)  # opens the connection
        began = time.monotonic()
        client.search_experiments(max_results=1)
        taken = 1000 * (time.monotonic() - began)
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:  # requests' errors are OSErrors
        return replace(store, problem=f"{store.place} does not answer: {redacted(reason(error), uri)}")
    return replace(store, version=_server_version(uri), milliseconds=taken)


def _on_postgresql(store: Store, url: str, wrong_tables: Callable[[set[str]], str]) -> Store:
    if wrong := postgresql.mistake(url) or postgresql.driver_missing():
        return replace(store, problem=wrong)
    try:
        version = postgresql.version(url)
        began = time.monotonic()
        tables = postgresql.tables(url)
    except postgresql.Unreachable as error:
        return replace(store, problem=f"{store.place}: {error}; {postgresql.remedy(url, str(error))}")
    taken = 1000 * (time.monotonic() - began)
    return replace(store, version=f"PostgreSQL {version}", milliseconds=taken, problem=wrong_tables(tables))


def _server_version(uri: str) -> str:
    """Of MLflow's server, which tells it without a password; empty where it does not."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return ""
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/version", query="")
    try:
        with urllib.request.urlopen(bare.geturl(), timeout=VERSION_SECONDS) as reply:
            found = reply.read(40).decode(errors="replace").strip()
    except (OSError, ValueError):
        return ""
    return f"MLflow {found}" if found[:1].isdigit() else ""
