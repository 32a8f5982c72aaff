"""Runs folders whose path means something in the address of a SQLite file: `?` ends it there, `%41` is A."""

from __future__ import annotations

import json
import shutil

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

from ablate.plan import make_plan
from ablate.preconditions import CannotRun, check_stores, no_address
from ablate.problems import StudyError
from ablate.readers.sources import Asked, read
from ablate.records import StudyFolder
from ablate.sqlite import address
from ablate.study import load
from tests.ablate import studies
from tests.ablate.commands import ablate, tree

READ_AS_ELSE = {"r?n": "'?'", "r%41n": "'%41'", "r%3f": "'%3f'"}
PLAIN = ["r n", "r#n", "r@n:&", "100%", "50% of é"]


def planned(place, folder: StudyFolder) -> None:
    folder.root.mkdir(parents=True)
    folder.study.write_bytes((place / "tiny.yaml").read_bytes())
    folder.plan.write_text(json.dumps(make_plan(load(place / "tiny.yaml")).to_json()))


@pytest.fixture(params=READ_AS_ELSE)
def odd(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return request.param


def test_a_run_is_refused_before_anything_is_written(odd, tmp_path):
    studies.write(tmp_path)
    before = tree(tmp_path)
    ended = ablate("run", "tiny.yaml", "--runs", odd)
    assert ended.code == 4 and f"the runs folder's path holds {READ_AS_ELSE[odd]}, which" in ended.err, ended.err
    assert f"{tmp_path}/{odd}/mlflow.db; move the folder, or name another with --runs" in ended.err
    assert tree(tmp_path) == before


def test_so_is_one_in_a_folder_of_that_name_and_doctor_says_it_too(odd, tmp_path, monkeypatch):
    studies.write(tmp_path / odd)
    monkeypatch.chdir(tmp_path / odd)
    assert ablate("run", "tiny.yaml").code == 4
    assert "the runs folder's path holds" in no_address(tmp_path / odd / "runs")
    assert [path.name for path in (tmp_path / odd).iterdir()] == ["tiny.yaml"]


def test_the_stores_of_a_folder_copied_there_are_left_alone_and_its_status_is_told(odd, tmp_path, empty_store):
    studies.write(tmp_path)
    folder = StudyFolder(tmp_path / odd, "tiny")
    planned(tmp_path, folder)
    shutil.copy(empty_store, folder.mlflow)
    refused = [ablate("sync", "--runs", odd), ablate("ui", "--runs", odd)]
    for ended in refused:
        assert ended.code == 4 and "the runs folder's path holds" in ended.err, ended
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([odd, "tiny.yaml"])
    told = ablate("status", "--runs", odd)
    assert told.code == 0 and told.out.startswith("tiny: stopped; 4 trials: 4 waiting"), told


def test_only_databases_under_the_runs_folder_matter(tmp_path):
    folder = StudyFolder(tmp_path / "r?n", "tiny")
    server = "postgresql+psycopg://host/ablate"
    check_stores("http://host:5000", server, folder)
    check_stores(None, server, folder)
    for uri, storage in (("auto", server), (None, "auto")):
        with pytest.raises(CannotRun, match="holds '\\?'"):
            check_stores(uri, storage, folder)


def test_analyse_refuses_such_a_file_and_makes_no_other(odd, tmp_path, empty_store):
    (tmp_path / odd).mkdir()
    shutil.copy(empty_store, tmp_path / odd / "mlflow.db")
    for results in (f"{odd}/mlflow.db", "mlflow:tiny"):
        with pytest.raises(StudyError, match="its path holds"):
            read(Asked(results, tmp_path / odd), {})
    assert [path.name for path in tmp_path.iterdir()] == [odd]


@pytest.mark.parametrize("name", PLAIN)
def test_any_other_path_is_the_files_own_to_optuna_and_mlflow(tmp_path, empty_store, name):
    place = tmp_path / name / "mlflow.db"
    place.parent.mkdir()
    shutil.copy(empty_store, place)
    assert no_address(place) == ""
    assert [one.name for one in MlflowClient(address(place)).search_experiments()] == ["empty", "Default"]
    with create_engine(address(place)).connect() as connection:
        assert connection.execute(text("select count(*) from experiments")).scalar() == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]
