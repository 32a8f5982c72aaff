"""A study folder beside a real SQLite MLflow store; a second object over the same store stands for a restart."""

from __future__ import annotations

import os
import shutil

import pytest

from ablate.mlflow_runs import MlflowRuns
from ablate.mlflow_store import resolve
from ablate.records import StudyFolder
from tests import raycluster, slurm
from tests.ablate.scripted_slurm import cluster, trial  # noqa: F401  # fixtures
from tests.ablate.stores import PLAN
from tests.ablate.studies import ELSEWHERE
from tests.postgres import Postgres


@pytest.fixture(scope="session", autouse=True)
def elsewhere():
    """The Slurm or the Ray cluster where the tests' studies run their trials, if they are to."""
    if ELSEWHERE == "slurm":
        slurm.needed()
    elif ELSEWHERE == "ray":
        os.environ["RAY_ADDRESS"] = raycluster.needed().address


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A created store: making one takes seconds, copying it does not."""
    folder = StudyFolder(tmp_path_factory.mktemp("store"), "empty")
    MlflowRuns(resolve("auto", folder, {}), folder, **PLAN).connect()
    return folder.mlflow


@pytest.fixture(scope="session")
def postgres():
    """One PostgreSQL for all tests of a process; what needs another state of it makes a database of its own."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path, empty_store) -> StudyFolder:
    folder = StudyFolder(tmp_path / "runs", "quick")
    folder.runs.mkdir()
    shutil.copy(empty_store, folder.mlflow)
    return folder


@pytest.fixture
def client(folder):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder.mlflow}")


@pytest.fixture
def colleague(tmp_path) -> StudyFolder:
    """Another runs folder with a study of the same name."""
    return StudyFolder(tmp_path / "colleague", "quick")
