"""A team's PostgreSQL: several drivers, equal names, other people's tables, the reader, doctor and the dashboard.

Slow: one real server for this file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from ablate import doctor_stores, optuna_storage
from ablate.ledger import LedgerError
from ablate.ledger_queue import LedgerQueue
from ablate.projections import open_projections
from ablate.records import StudyFolder
from ablate.run import Exit
from ablate.sync import sync
from tests.ablate import studies
from tests.ablate.commands import ablate
from tests.ablate.faulty_server import free_port
from tests.ablate.live import ANSWER, PacedExecutor, drive_live, plan_at
from tests.ablate.test_ledger import CELLS, open_ledger, result_of
from tests.postgres import PASSWORD, QUOTED, USER
from tests.projections import records

pytestmark = pytest.mark.slow

UNTRACKED = studies.STUDY + "tracking: {mlflow: null}\n"
EVERY = {cell: "COMPLETE" for cell in ("base/1", "lr_ratio=half/1", "base/2", "lr_ratio=half/2")}
OPEN_AT_ONCE = """
import sys, time
from tests.ablate.test_ledger import CELLS, open_ledger
import optuna, psycopg
print("ready", flush=True)
sys.stdin.readline()
open_ledger(sys.argv[1], study_name=sys.argv[2]).reconcile(CELLS)
"""


@pytest.fixture
def url(postgres, monkeypatch) -> str:
    """Of an empty database without tables; the environment names it."""
    url = postgres.make_database("team")
    monkeypatch.setenv("ABLATE_OPTUNA_STORAGE", url)
    return url


def drive(place, text: str = UNTRACKED, **options):
    return drive_live(plan_at(place, text), place / "runs", PacedExecutor(pictures=False, **options), None)


def states(url: str, folder: StudyFolder) -> dict[str, str]:
    """Cell -> state, of the folder's own study; a second record of a cell fails the test."""
    name = f"{folder.name}-{folder.uid.read_text()[:12]}"
    found = [(record.facts["cell"], record.state) for record in records(url, name)]
    assert len(dict(found)) == len(found), found
    return dict(found)


def test_four_drivers_that_make_the_tables_at_once_all_go_on(postgres, url):
    command = [sys.executable, "-c", OPEN_AT_ONCE, url]
    started = [subprocess.Popen([*command, f"study{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True) for number in range(4)]  # fmt: skip
    assert [one.stdout.readline() for one in started] == ["ready\n"] * 4
    for one in started:
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [one.communicate(timeout=120) for one in started]
    assert [one.returncode for one in started] == [0] * 4, ended
    assert [len(records(url, f"study{number}")) for number in range(4)] == [len(CELLS)] * 4


def test_two_people_with_a_study_of_one_name_do_not_touch_each_others(url, tmp_path):
    mine, theirs = drive(tmp_path / "me"), drive(tmp_path / "colleague", UNTRACKED.replace("seeds: 2", "seeds: 1"))
    assert mine.code is theirs.code is Exit.done
    again = drive(tmp_path / "me")
    assert again.code is Exit.done and states(url, mine.folder) == EVERY
    assert set(states(url, theirs.folder)) == {"base/1", "lr_ratio=half/1"}
    assert not mine.folder.optuna.exists() and not theirs.folder.optuna.exists()


def test_a_study_that_moves_to_the_server_and_loses_it_is_told_again_from_its_folder(postgres, url, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ABLATE_OPTUNA_STORAGE")
        ran = drive(tmp_path)
    assert ran.folder.optuna.exists() and not ran.folder.uid.exists()
    for _ in range(2):
        assert not sync(ran.folder, summary=lambda report: ANSWER).unreachable
        assert states(url, ran.folder) == EVERY
        before = postgres.rows("team")
        assert not sync(ran.folder, summary=lambda report: ANSWER).unreachable
        assert postgres.rows("team") == before
        postgres.make_database("team")


def test_connections_that_a_restart_has_ended_are_replaced_unseen(postgres, url):
    ledger = open_ledger(url)
    ledger.reconcile(CELLS)
    for cell in CELLS[:2]:
        postgres.stop()
        postgres.start()
        ledger.begin(cell)
        ledger.finish(cell, result_of(cell))
    assert [record.state for record in records(url, "quick")][:3] == ["COMPLETE", "COMPLETE", "WAITING"]


def test_a_server_that_stands_still_holds_up_no_call_and_is_given_up_in_time(postgres, url, tmp_path):
    """It freezes while the study runs and does not come back before the end."""
    ran = None
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LedgerQueue.close, "__defaults__", (4.0, 6.0))
            ran = drive(tmp_path, at=lambda written: written == 5 and postgres.freeze())
    finally:
        postgres.thaw()
    ran.assert_never_held_up()
    assert ran.code is Exit.storage and list(ran.unreachable) == ["Optuna's storage"]
    assert len(studies.scores(ran.folder)) == 4
    assert drive(tmp_path).code is Exit.done and states(url, ran.folder) == EVERY


def test_what_the_server_refuses_is_a_sentence_without_the_password(postgres, url, tmp_path):
    for wrong, said in (
        (postgres.url("team", password="S3cretC4nary"), "password authentication failed for user"),
        (postgres.url("nothere"), 'database "nothere" does not exist'),
        (url.replace("127.0.0.1", "nowhere.invalid"), "resolve host"),
    ):
        with pytest.raises(LedgerError) as raised:
            open_ledger(wrong)
        chain, error = [], raised.value
        while error is not None:
            chain, error = [*chain, f"{error!r} {error}"], error.__cause__ or error.__context__
        assert said in chain[0] and "the trial folders are whole" in chain[0]
        assert not [text for text in chain if any(secret in text for secret in ("S3cretC4nary", PASSWORD, QUOTED))]


def test_what_the_server_refuses_at_the_start_says_so_and_what_helps(postgres, url, tmp_path):
    no_role = url.replace(f"//{USER}", "//nobodys")
    for wrong, said, helps in (
        (postgres.url("team", password="S3cretC4nary"), "password authentication failed", "set PGPASSWORD"),
        (no_role, "password authentication failed", f"127.0.0.1:{postgres.port}:*:nobodys:PASSWORD"),
        (postgres.url("nothere"), "does not exist", f"createdb -h 127.0.0.1 -p {postgres.port} -U {USER} nothere"),
    ):
        found = optuna_storage.unanswered(wrong)
        assert said in found and "nothing was started: " in found and helps in found
        assert f"cannot be used as user {'nobodys' if wrong == no_role else USER} (" in found
        assert not any(secret in found for secret in ("S3cretC4nary", PASSWORD, QUOTED))
    assert optuna_storage.unanswered(url) == "" == optuna_storage.unanswered(tmp_path / "optuna.db")


def test_optuna_itself_holds_no_password(url):
    store = open_ledger(url)._storage._backend
    config = store._version_manager._create_alembic_config()
    held = [repr(store.engine), str(store.engine.url), store.url, config.get_main_option("sqlalchemy.url")]
    assert not [text for text in held if PASSWORD in text or QUOTED in text]


def test_mlflows_database_is_not_taken_for_optunas(postgres, url, tmp_path):
    with postgres.connect("team") as connection:
        for table in ("experiments", "runs", "metrics", "alembic_version"):
            connection.execute(f"create table {table} (id int)")
    before = postgres.rows("team")
    assert "Optuna needs one of its own); nothing was started: make another" in optuna_storage.unanswered(url)
    with pytest.raises(LedgerError, match="the database holds MLflow's tables; Optuna needs one of its own"):
        open_ledger(url)
    (found,) = doctor_stores.examine(tmp_path)
    assert found.problem == "the database holds MLflow's tables; Optuna needs one of its own"
    assert postgres.rows("team") == before


def test_doctor_says_version_and_latency_and_what_is_wrong(url, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (found,) = doctor_stores.examine(tmp_path / "runs")
    assert found.source == "ABLATE_OPTUNA_STORAGE" and found.version.startswith("PostgreSQL ") and not found.problem
    assert 0 < found.milliseconds < 5000 and found.place.startswith("postgresql+psycopg://***@127.0.0.1")
    monkeypatch.setenv("ABLATE_OPTUNA_STORAGE", url.replace(QUOTED, "S3cretC4nary"))
    (found,) = doctor_stores.examine(tmp_path / "runs")
    assert "password authentication failed" in found.problem and "C4nary" not in repr(found)


def test_doctor_asks_the_server_that_a_study_names_once(postgres, url, tmp_path, monkeypatch):
    monkeypatch.delenv("ABLATE_OPTUNA_STORAGE")
    plain = f"postgresql://127.0.0.1:{postgres.port}/team"
    monkeypatch.setenv("PGUSER", USER)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    for name in ("one", "two"):
        text = UNTRACKED.replace("name: tiny", f"name: {name}").replace("null", f"null, optuna: '{plain}'")
        ran = drive(tmp_path, text)
        assert ran.code is Exit.done and states(url, ran.folder) == EVERY
    found = doctor_stores.examine(tmp_path / "runs")
    assert [(one.source, one.problem) for one in found] == [("study one", "")]


def test_the_reader_of_results_knows_whose_tables_it_finds(postgres, url, tmp_path, monkeypatch):
    folder = drive(tmp_path).folder
    name = f"tiny-{folder.uid.read_text()[:12]}"
    monkeypatch.chdir(tmp_path)
    named = {"ABLATE_OPTUNA_STORAGE": url}
    for arguments in ((f"optuna:{name}",), (url,), (url.replace("+psycopg", ""), "--study", name)):
        ended = ablate("analyse", *arguments, "--json", "--out", str(tmp_path / "out"), environment=named)
        assert ended.code == 0, ended.err
        assert {row["arm"] for row in json.loads(ended.out)["runs"]} == {"base", "lr_ratio=half"}
        assert PASSWORD not in ended.out and QUOTED not in ended.out
    before = postgres.rows("team")
    for arguments, said in (
        (("optuna:nobodys",), f"no such study: 'nobodys'; there is {name}"),
        ((url, "--experiment", "x"), "the database holds an Optuna study: leave the option out"),
        ((postgres.make_database("empty"),), "the database holds neither MLflow's nor Optuna's tables"),
        ((url.replace("/team", "/nothere"),), 'database "nothere" does not exist'),
    ):
        ended = ablate("analyse", *arguments, environment=named)
        assert ended.code == 2 and said in ended.err and "Traceback" not in ended.err, ended.err
        assert PASSWORD not in ended.err and QUOTED not in ended.err
    assert postgres.rows("team") == before and not postgres.rows("empty")


def test_records_of_a_large_plan_are_written_behind_training(postgres, url, tmp_path):
    """A server far away takes long for each: opening it makes none."""
    plan = plan_at(tmp_path, UNTRACKED.replace("seeds: 2", "seeds: 60"))
    folder = StudyFolder(tmp_path / "runs", "tiny")
    folder.root.mkdir(parents=True)
    with postgres.connect("team") as other, open_projections(plan.to_json(), None, folder) as (ledger, _):
        with other.transaction():
            other.execute("lock table trials in exclusive mode")
            began = time.monotonic()
            ledger.reconcile(plan.cells)
            assert time.monotonic() - began < 5 and ledger.waiting <= 1
        assert ledger.flush(60)
    assert len(states(url, folder)) == 120


@contextmanager
def dashboard(address: str, **environment: str):
    """The real command, on a port of this machine."""
    port = free_port()
    command = [sys.executable, "-m", "optuna_dashboard._cli", address, "--port", str(port), "--host", "127.0.0.1"]
    process = subprocess.Popen([*command, "--server", "wsgiref"], env=os.environ | environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        studies.wait_until(lambda: listens(port) or process.poll() is not None, seconds=120, what="it listens")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_optuna_dashboard_opens_the_storage_over_http(postgres, url, tmp_path):
    pytest.importorskip("optuna_dashboard")
    folder = drive(tmp_path).folder
    plain = f"postgresql+psycopg://{USER}@127.0.0.1:{postgres.port}/team"
    with dashboard(plain, PGPASSWORD=PASSWORD) as api:
        (summary,) = json.load(urllib.request.urlopen(f"{api}/studies", timeout=30))["study_summaries"]
        assert summary["study_name"] == f"tiny-{folder.uid.read_text()[:12]}"
        study = json.load(urllib.request.urlopen(f"{api}/studies/{summary['study_id']}?after=0", timeout=30))
    assert [trial["state"] for trial in study["trials"]] == ["Complete"] * 4
    assert {attribute["key"] for attribute in study["trials"][0]["user_attrs"]} >= {"cell", "arm", "seed", "gmsd"}
