"""Which reader RESULTS means: a file, a folder or a URI."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate import optuna_storage, postgresql
from ablate.problems import Problem, StudyError, redacted
from ablate.readers.experiment import read_experiment
from ablate.readers.found import Found
from ablate.readers.optuna_study import read_study
from ablate.readers.sqlitefile import are_mlflows, are_optunas, is_sqlite, tables
from ablate.readers.tables import read_table
from ablate.records import StudyFolder
from ablate.sqlite import address, misread


@dataclass(frozen=True)
class Asked:
    """RESULTS and what says which part of a store is meant."""

    results: str
    runs: Path
    experiment: str | None = None
    study: str | None = None
    filter: str = ""


def read(asked: Asked, environment: Mapping[str, str] = os.environ) -> Found:
    """The rows that RESULTS holds. Raises StudyError where it holds none, or can't be told what it is."""
    if asked.experiment and asked.study:
        raise _refused(asked, "--experiment belongs to MLflow and --study to Optuna; give one of the two")
    if asked.results.startswith("mlflow:"):
        uri = environment.get("MLFLOW_TRACKING_URI") or _local_store(asked)
        return _experiment(asked, uri, asked.results.removeprefix("mlflow:") or asked.experiment)
    if asked.results.startswith("optuna:"):
        return _of_the_team(asked, environment.get(optuna_storage.VARIABLE, ""))
    if postgresql.is_address(asked.results):
        return _on_server(asked, asked.results)
    if asked.results.startswith("sqlite:///"):
        return _database(asked, Path(asked.results.removeprefix("sqlite:///").split("?")[0]), asked.results)
    if "://" in asked.results or asked.results.startswith(("file:", "databricks")):
        if asked.study:
            return read_study(asked.results, asked.study, beside=Path())
        return _experiment(asked, asked.results, asked.experiment)
    return _file(asked, Path(asked.results))


def _file(asked: Asked, path: Path) -> Found:
    if path.is_dir():
        return _folder(asked, path)
    if path.is_file() and is_sqlite(path):
        return _database(asked, path, _address(asked, path))
    if path.is_file() and _is_journal(path):
        return read_study(path, asked.study, beside=path.parent)
    return read_table(path)


def _folder(asked: Asked, path: Path) -> Found:
    if (path / "plan.json").is_file():
        raise _refused(asked, f"is a study of ablate: its report is written by `ablate report {path.name}`")
    if any(path.glob("*/meta.yaml")):
        return _experiment(asked, path.absolute().as_uri(), asked.experiment)
    raise _refused(asked, "is a folder, neither a study nor MLflow's mlruns; expected a file such as results.csv")


def _database(asked: Asked, path: Path, uri: str) -> Found:
    if not path.is_file():
        raise _refused(asked, f"no such file: {path}")
    return _by_tables(asked, uri, tables(path), beside=path.parent)


def _of_the_team(asked: Asked, url: str) -> Found:
    """`optuna:STUDY`: so that no password need stand in a command."""
    if not url:
        said = f"set {optuna_storage.VARIABLE}, or give the storage's URL (or file) and --study"
        raise _refused(asked, said)
    if wrong := optuna_storage.unusable("auto", {optuna_storage.VARIABLE: url}):
        raise _refused(asked, wrong)
    return read_study(url, asked.results.removeprefix("optuna:") or asked.study, beside=Path())


def _on_server(asked: Asked, url: str) -> Found:
    """Looked at before MLflow or Optuna opens it: either would make its own tables in the other's database."""
    if wrong := postgresql.mistake(url) or postgresql.driver_missing():
        raise _refused(asked, wrong)
    try:
        there = postgresql.tables(url)
    except postgresql.Unreachable as error:
        raise _refused(asked, f"the database can't be read: {error}") from None
    return _by_tables(asked, url, there, beside=Path())


def _by_tables(asked: Asked, uri: str, there: set[str], *, beside: Path) -> Found:
    optuna, mlflow = are_optunas(there), are_mlflows(there)
    if optuna and not asked.experiment:
        return read_study(uri, asked.study, beside=beside)
    if mlflow and not asked.study:
        return read_experiment(uri, asked.experiment, beside=beside, filter=asked.filter)
    holds = "an Optuna study" if optuna else "MLflow experiments" if mlflow else "neither MLflow's nor Optuna's tables"
    raise _refused(asked, f"the database holds {holds}" + (": leave the option out" if optuna or mlflow else ""))


def _experiment(asked: Asked, uri: str, name: str | None) -> Found:
    return read_experiment(uri, name, beside=Path(), filter=asked.filter)


def _local_store(asked: Asked) -> str:
    store = StudyFolder(asked.runs, "").mlflow
    if not store.is_file():
        said = f"there is no MLflow store at {store}; set MLFLOW_TRACKING_URI, or give the store's URI and --experiment"
        raise _refused(asked, said)
    return _address(asked, store)


def _address(asked: Asked, path: Path) -> str:
    if found := misread(path.absolute()):
        said = f"its path holds {found!r}, which the address of a SQLite file can't: {path.absolute()}; move the file"
        raise _refused(asked, said)
    return address(path.absolute())


def _is_journal(path: Path) -> bool:
    """Optuna's journal: a JSON object with an `op_code` per line."""
    with open(path, "rb") as file:
        first = file.readline(100_000)
    try:
        return first.startswith(b"{") and "op_code" in json.loads(first)
    except ValueError:
        return False


def _refused(asked: Asked, message: str) -> StudyError:
    return StudyError([Problem(redacted(asked.results, asked.results), 0, 0, "", message)])
