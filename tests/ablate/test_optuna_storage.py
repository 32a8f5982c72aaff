"""Where Optuna's records go, and what is said of an address before anybody is asked: no password, whatever is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import doctor_stores, optuna_storage, postgresql
from ablate.mlflow_store import unknown_store
from ablate.plan import make_plan
from ablate.planfile import write_plan
from ablate.records import StudyFolder
from ablate.stored import stated
from ablate.study import load
from tests.ablate import studies
from tests.ablate.commands import ablate

GOOD = "postgresql+psycopg://user:pw@host:5432/optuna"
OTHER = "postgresql+psycopg://host/optuna"
NAMED = {"ABLATE_OPTUNA_STORAGE": GOOD}
FORM = "expected postgresql+psycopg://HOST:PORT/DATABASE"
MISTAKES = {
    "postgres://user:S3cret@host/db": f"{FORM}, found postgres://...",
    "postgresql+psycopg2://user:S3cret@host/db": f"{FORM}, found postgresql+psycopg2://...",
    "mysql://user:S3cret@host/db": f"{FORM}, found mysql://...",
    "sqlite:///optuna.db": f"{FORM}, found sqlite://...",
    "user:S3cret@host/db": f"{FORM}, found no scheme that is known",
    "S3cret@pg://host/db": f"{FORM}, found no scheme that is known",
    "postgresql://user:S3cret@host": f"names no database; {FORM}",
    "postgresql://user:S3cret@host:5432/": f"names no database; {FORM}",
    "postgresql://user:S3/cret@host/db": "its port is no number; in a password",
    "postgresql://user:S3#cret@host/db": "its port is no number; in a password",
    "postgresql://user:S3cret@host:port/db": "its port is no number",
    "postgresql://user:S3cret@host:99999/db": "its port is no number",
    "postgresql://user:S3 cret@host/db": "it holds a space; in a password that is %20",
}


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    (tmp_path / "runs/tiny").mkdir(parents=True)
    return StudyFolder(tmp_path / "runs", "tiny")


def test_a_study_that_says_nothing_has_a_file_of_its_own_or_what_the_environment_names(folder):
    assert optuna_storage.resolve("auto", folder, {}) == folder.optuna
    assert optuna_storage.resolve("auto", folder, {"ABLATE_OPTUNA_STORAGE": ""}) == folder.optuna
    assert optuna_storage.resolve("auto", folder, NAMED) == GOOD
    assert optuna_storage.resolve("postgresql://other/db", folder, NAMED) == "postgresql://other/db"


def test_in_a_shared_storage_the_name_says_whose_the_study_is_and_stays(folder, tmp_path):
    (tmp_path / "colleague/tiny").mkdir(parents=True)
    other = StudyFolder(tmp_path / "colleague", "tiny")
    assert optuna_storage.study_name(folder.optuna, folder) == "tiny" and not folder.uid.exists()
    names = [optuna_storage.study_name(GOOD, one) for one in (folder, other, folder, other)]
    assert names[:2] == names[2:] and names[0] != names[1]
    assert all(name.startswith("tiny-") and len(name) == len("tiny-") + 12 for name in names)


@pytest.mark.parametrize("url", MISTAKES)
def test_a_mistake_in_an_address_is_a_sentence_without_its_password(url, tmp_path, monkeypatch):
    said = optuna_storage.unusable("auto", {"ABLATE_OPTUNA_STORAGE": url})
    assert said.startswith("ABLATE_OPTUNA_STORAGE: ") and MISTAKES[url] in said
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path)
    for command in ("run", "tiny.yaml"), ("analyse", "optuna:tiny"):
        ended = ablate(*command, environment={"ABLATE_OPTUNA_STORAGE": url})
        assert ended.code == (4 if command[0] == "run" else 2) and MISTAKES[url] in ended.err
        assert not any(part in ended.out + ended.err for part in ("S3", "cret", "Traceback"))
    assert not (tmp_path / "runs/tiny").exists()


@pytest.mark.parametrize("url", ["postgresql://host/db", GOOD, "POSTGRESQL://host/db", "postgresql:///db?host=/run/pg",
                                 "postgresql://[::1]:5432/db?sslmode=require"])  # fmt: skip
def test_both_spellings_sockets_and_options_of_libpq_are_fine(url):
    assert postgresql.mistake(url) == ""
    assert optuna_storage.unusable(url) in ("", f"tracking.optuna: {postgresql.NO_DRIVER}")


def test_what_an_address_says_goes_to_the_driver_in_its_own_words_and_may_be_more_patient():
    said = postgresql._arguments("postgresql://me:a%40b%7Bc@host:1/db?sslmode=require&connect_timeout=60")
    assert {"user": "me", "password": "a@b{c", "host": "host", "port": 1, "dbname": "db", "sslmode": "require",
            "connect_timeout": "60"}.items() <= said.items()  # fmt: skip
    assert postgresql._arguments("postgresql:///db")["connect_timeout"] == 5


def test_what_helps_follows_from_what_the_server_says_and_names_the_user_without_the_password(monkeypatch):
    url = "postgresql://ann:S3cret@host:5433/db"
    for said, helps in {
        'FATAL:  password authentication failed for user "ann"': "PGPASSWORD, or write host:5433:*:ann:PASSWORD into",
        "fe_sendauth: no password supplied": "~/.pgpass (chmod 600 ~/.pgpass)",
        'FATAL:  database "db" does not exist': "createdb -h host -p 5433 -U ann db",
        'FATAL:  role "ann" does not exist': "createuser -h host -p 5433 --pwprompt ann",
        "connection refused": "is a server running at host:5433?",
    }.items():
        assert helps in postgresql.remedy(url, said) and "S3" not in postgresql.remedy(url, said)
    assert postgresql.remedy("postgresql:///db", "refused") == "is a server running at localhost:5432?"
    assert "PASSWORD into" in postgresql.remedy("postgresql://same:same@host/db", "password") != "same"
    assert "same" not in postgresql.remedy("postgresql://same:same@host/db", "password")
    monkeypatch.setenv("PGUSER", "bob")
    assert [postgresql.user(f"postgresql://{at}host/db") for at in ("", "ann@")] == ["bob", "ann"]
    assert postgresql.user("postgresql://host/db?user=eve") == "eve"
    monkeypatch.delenv("PGUSER")
    assert postgresql.user("postgresql://host/db?service=x") == "" != postgresql.user("postgresql://host/db")
    monkeypatch.setattr(postgresql.os, "geteuid", lambda: 2**31 - 7)  # of nobody, as in containers
    assert postgresql.user("postgresql://host/db") == "" and "-U USER db" in postgresql.remedy(
        "postgresql://host/db", 'database "db" does not exist')  # fmt: skip


def test_without_its_driver_a_study_ends_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path)
    for variable in ("ABLATE_OPTUNA_STORAGE", "MLFLOW_TRACKING_URI"):
        ended = ablate("run", "tiny.yaml", environment={variable: "postgresql://u:S3cret@127.0.0.1:9/db"})
        assert ended.code == 4 and "S3cret" not in ended.err
        assert ended.err == f"{variable}: {postgresql.NO_DRIVER}\n"
    assert not (tmp_path / "runs/tiny").exists()


def test_a_server_that_is_not_there_is_exit_3_and_nothing_is_started(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path)
    ended = ablate("run", "tiny.yaml", environment={"ABLATE_OPTUNA_STORAGE": "postgresql://u:S3cret@127.0.0.1:9/db"})
    assert ended.code == 3 and "Traceback" not in ended.err
    assert "postgresql://***@127.0.0.1:9/db: Optuna's storage cannot be used as user u (" in ended.err
    assert "nothing was started: is a server running at 127.0.0.1:9? `ablate doctor` asks again" in ended.err
    assert "trial folders" not in ended.err and not (tmp_path / "runs/cache").exists(), "before data are prepared"
    assert "Connection refused" in ended.err and not list((tmp_path / "runs").rglob("events.jsonl"))
    written = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert written and "S3cret" not in ended.out + ended.err and not [text for text in written if b"S3cret" in text]


@pytest.mark.parametrize("url", ["postgresql://u:pw@host/db", "postgresql://host/db?password=pw",
                                 "postgresql://host/db?sslpassword=pw", "postgresql://u:p/w@host/db"])  # fmt: skip
def test_a_study_must_not_hold_a_password(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path, studies.STUDY + f"tracking: {{optuna: '{url}'}}\n")
    for command in ("check", "run"):
        ended = ablate(command, "tiny.yaml")
        assert ended.code == 2 and "tracking.optuna: the URL holds a password" in ended.err and "pw" not in ended.err
    assert not (tmp_path / "runs").exists()


def test_a_study_may_name_a_server_and_a_user(tmp_path):
    from ablate.study import load

    url = "postgresql+psycopg://me@host/db"
    study = load(studies.write(tmp_path, studies.STUDY + f"tracking: {{optuna: '{url}'}}\n"))
    assert study.tracking.optuna == url and study.tracking.mlflow == "auto"


LETTERS = "abcXYZ0189%.~!$&'()*+,;=:@-_/#?[]{} "
SECRETS = st.text(st.sampled_from(LETTERS), min_size=4, max_size=12).map("S3cret".__add__)


@given(SECRETS, st.sampled_from(["postgres", "postgresql", "postgresql+psycopg", "http", "mysql"]))
def test_no_piece_of_a_password_is_told_however_badly_it_is_written(secret, scheme):
    url = f"{scheme}://user:{secret}@host:x/db"
    for said in (postgresql.mistake(url), optuna_storage.unusable(url), unknown_store(url)):
        assert "S3cret" not in said


def test_a_study_that_names_other_stores_is_the_same_plan_and_its_folder_says_so(tmp_path):
    """`ablate sync` and `ablate doctor` read there which stores a study has."""
    path, folder = studies.write(tmp_path), StudyFolder(tmp_path / "runs", "tiny")
    write_plan(make_plan(load(path)), folder)
    plan, written = folder.plan.read_bytes(), folder.study.stat().st_ino
    write_plan(make_plan(load(path)), folder)
    assert stated(folder) == ("auto", "auto") and folder.study.stat().st_ino == written, "nothing to write"
    studies.write(tmp_path, f"{studies.STUDY}tracking: {{mlflow: 'http://127.0.0.1:9', optuna: '{OTHER}'}}\n")
    write_plan(make_plan(load(path)), folder)
    assert stated(folder) == ("http://127.0.0.1:9", OTHER) and folder.plan.read_bytes() == plan


def test_doctor_says_of_a_store_of_another_kind_why_it_does_not_work(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+pymysql://user:S3cretC4nary@127.0.0.1/mlflow")
    monkeypatch.delenv("ABLATE_OPTUNA_STORAGE", raising=False)
    (found,) = doctor_stores.examine(tmp_path)
    assert "pymysql" in found.problem and "C4nary" not in repr(found)
