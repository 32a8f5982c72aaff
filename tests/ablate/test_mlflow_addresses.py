"""Which addresses MLflow has a store at, before anybody is asked: what can't be is refused before a study trains."""

from __future__ import annotations

import socket

import pytest

from ablate import doctor_stores
from ablate.mlflow_store import EXPECTED, client_of, reason, unknown_store
from ablate.problems import StudyError
from ablate.study import load
from tests.ablate import studies
from tests.ablate.commands import ablate

RIGHT = ["", "http://localhost:5000", "https://user:pw@host/path", "http://[::1]:5000", "databricks", "databricks://me",
         "sqlite:///x.db", "sqlite:////tmp/x.db", "postgresql://host/db", "postgresql+psycopg://host:5432/db",
         "mysql+pymysql://host/db", "mssql://host/db"]  # fmt: skip
WRONG = {
    "localhost:5000": ("has no http://", "http://localhost:5000"),
    "127.0.0.1:5777": ("has no http://", "http://127.0.0.1:5777"),
    "[::1]:5000": ("has no http://", "http://[::1]:5000"),
    "server:5000/base": ("has no http://", "http://server:5000/base"),
    "localhost": ("has no http://", "http://localhost"),
    "mlflow.example.org": ("has no http://", "http://mlflow.example.org"),
    "http:localhost:5000": ("lacks its ://", "http://localhost:5000"),
    "https:/host": ("lacks its ://", "https://host"),
    "sqlite:x.db": ("lacks its ://", "sqlite:///x.db"),
    "sqlite:/tmp/x.db": ("lacks its ://", "sqlite:////tmp/x.db"),
    "runs/mlflow.db": ("has no sqlite:///", "sqlite:///runs/mlflow.db"),
    "/tmp/x": ("is a folder", "sqlite:////tmp/x/mlflow.db"),
    "mlruns": ("is a folder", "sqlite:///mlruns/mlflow.db"),
    "./mlruns/": ("is a folder", "sqlite:///./mlruns/mlflow.db"),
    "file:///tmp/x": ("is a folder", "sqlite:////tmp/x/mlflow.db"),
    "file:x": ("is a folder", "sqlite:///x/mlflow.db"),
    "Databricks": ("no such kind of MLflow store", "databricks"),
}
WITHOUT_A_STORE = ["sqlite://", "sqlite:///", "sqlite://x.db", "http://", "http://host:99999", "ftp://host",
                   "SQLITE:///x.db", "postgres://host/db", "file://host:5000"]  # fmt: skip


@pytest.mark.parametrize("uri", RIGHT)
def test_an_address_of_a_store_is_fine(uri):
    assert unknown_store(uri) == ""


@pytest.mark.parametrize("uri", WRONG)
def test_an_address_without_its_beginning_is_refused_with_what_was_meant(uri):
    (found, meant), said = WRONG[uri], unknown_store(uri)
    assert found in said and EXPECTED in said and said.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("uri", [*WRONG, *WITHOUT_A_STORE])
def test_no_store_of_mlflow_is_at_what_is_refused(uri, tmp_path, monkeypatch):
    """By MLflow itself: what it may learn one day is to be allowed then."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    monkeypatch.chdir(tmp_path)
    assert unknown_store(uri)
    if uri in ("sqlite://", "sqlite:///"):
        return  # which MLflow keeps in memory
    with pytest.raises((MlflowException, ArgumentError, NoSuchModuleError)):
        client_of(uri).search_experiments(max_results=1)


@pytest.mark.parametrize("uri", ["user:S3cret@localhost:5000", "user:S3/cr@et@localhost", "S3cret@/tmp/x",
                                 "http:user:S3cret@host", "localhost:5000?token=S3cret"])  # fmt: skip
def test_no_password_of_a_bad_address_is_told(uri):
    said = unknown_store(uri)
    assert said and not any(part in said for part in ("S3", "cr@", "cret"))


@pytest.mark.parametrize("uri", ["127.0.0.1:5777", "localhost:5000", "/tmp/x", "file:///tmp/x"])
def test_a_study_its_run_and_doctor_refuse_it_before_anything_starts(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = studies.write(tmp_path)
    for command in (("check",), ("run",)):
        ended = ablate(*command, "tiny.yaml", "--set", f"tracking.mlflow={uri}")
        assert ended.code == 2 and f"tracking.mlflow: {unknown_store(uri)}" in ended.err
    ended = ablate("run", "tiny.yaml", environment={"MLFLOW_TRACKING_URI": uri})
    assert ended.code == 4 and ended.err == f"MLFLOW_TRACKING_URI: {unknown_store(uri)}\n"
    assert not (tmp_path / "runs/tiny").exists()
    studies.write(tmp_path / "runs/tiny", f"{studies.STUDY}tracking: {{mlflow: '{uri}'}}\n").rename(
        tmp_path / "runs/tiny/study.yaml")  # fmt: skip
    found = doctor_stores.examine(tmp_path / "runs", {"MLFLOW_TRACKING_URI": "sqlite:///x.db"})
    assert [(one.source, one.problem) for one in found] == [("study tiny", unknown_store(uri))]
    found = doctor_stores.examine(tmp_path, {"MLFLOW_TRACKING_URI": uri})
    assert [(one.source, one.problem) for one in found] == [("MLFLOW_TRACKING_URI", unknown_store(uri))]
    with pytest.raises(StudyError):
        load(path, sets=[f"tracking.mlflow={uri}"])


@pytest.mark.parametrize("said", ["auto", "off", "none", "''", "null"])
def test_words_of_a_study_are_no_addresses(said, tmp_path):
    assert load(studies.write(tmp_path), sets=[f"tracking.mlflow={said}"]).tracking.mlflow in ("auto", None)


def test_a_store_of_an_installed_plugin_is_let_in(tmp_path, monkeypatch):
    place = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/ours"
    assert "arn:aws" in unknown_store(place) and "plug" in unknown_store("plug://x")
    facts = tmp_path / "some_plugin-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[mlflow.tracking_store]\narn = some:Store\nplug = some:Store\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert unknown_store(place) == unknown_store("plug://x") == "" != unknown_store("plus://x")


def test_what_is_said_of_a_server_that_is_away_is_the_cause_at_the_bottom(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://ann:S3cret@127.0.0.1:{free.getsockname()[1]}"
    (found,) = doctor_stores.examine(tmp_path, {"MLFLOW_TRACKING_URI": uri})
    assert found.problem == f"{found.place} does not answer: Connection refused" and "S3cret" not in repr(found)


def test_a_reason_is_a_line_and_names_the_file_or_the_kind_of_error():
    with pytest.raises(OSError) as away:
        open("/nowhere/at/all")  # noqa: SIM115
    assert reason(away.value) == "[Errno 2] No such file or directory: '/nowhere/at/all'"
    assert reason(ValueError("one\ntwo")) == "ValueError: one" and reason(ValueError()) == "ValueError: ValueError"
    hidden = RuntimeError("refused")
    hidden.__context__, hidden.__suppress_context__ = ConnectionResetError(104, "reset"), True
    assert reason(hidden) == "RuntimeError: refused"
    hidden.__suppress_context__ = False
    assert reason(hidden) == "reset"
    assert len(reason(ValueError("x" * 1000))) == 300
