"""Every way in which a store can fail while a study runs: training is never held up, nothing is lost or doubled.

A real MLflow server, one for this file, behind a proxy where needed; real SQLite files locked by another process.
Slow: servers, and locks of a minute.
"""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from ablate.records import StudyFolder
from ablate.run import Exit
from ablate.sync import sync
from tests.ablate import studies
from tests.ablate.faulty_server import DROP, ERROR, PASS, Proxy, Server, first_reply_lost, free_port
from tests.ablate.live import ANSWER, Locker, PacedExecutor, Ran, differing, drive_live, every_row, facts_in, plan_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CELLS = {"base/1", "lr_ratio=half/1", "base/2", "lr_ratio=half/2"}
ONE_SEED = studies.STUDY.replace("seeds: 2", "seeds: 1")


@pytest.fixture(scope="module")
def only_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.send(signal.SIGKILL)


@pytest.fixture
def server(only_server):
    """The server, which answers whatever a test before has done to it."""
    if only_server.process.poll() is not None:
        only_server.start(wait=False)
    only_server.send(signal.SIGCONT)
    only_server.wait()
    return only_server


@pytest.fixture
def proxy(server):
    proxy = Proxy(server)
    yield proxy
    proxy.close()


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


class Watch:
    """Looks out for something in the background, so that the driver's loop need not."""

    def __init__(self, condition):
        self.seen = False
        threading.Thread(target=self._look, args=(condition,), daemon=True).start()

    def _look(self, condition) -> None:
        while not condition():
            time.sleep(0.2)
        self.seen = True


def drive(runs, uri: str, text: str = studies.STUDY, **options) -> Ran:
    """A study tracked at `uri`, which its study.yaml does not say: `auto` and the environment do."""
    plan = plan_at(runs.parent, text)
    return drive_live(plan, runs, PacedExecutor(**options), uri)


def tell(folder: StudyFolder, uri: str, monkeypatch) -> None:
    """`ablate sync`, twice: all arrives, and the second call changes nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert not sync(folder, summary=lambda report: ANSWER).unreachable


def assert_whole(ran: Ran, server: Server, empty_store, monkeypatch) -> None:
    """The server holds what a store that never failed is told of the same folder: each row once."""
    fresh = ran.folder.runs.parent / "fresh.db"
    shutil.copy(empty_store, fresh)
    tell(ran.folder, f"sqlite:///{fresh}", monkeypatch)
    there, expected = facts_in(server.database, ran.folder), facts_in(fresh, ran.folder)
    note = {facts[""]["tags"].pop("mlflow.note.content") for facts in (there, expected)}
    assert ANSWER in note and not differing(there, expected)
    assert {facts["status"] for facts in there.values()} == {"FINISHED"}
    cells = cells_in(server.database, ran.folder)
    pictures = [cells.get(path.parts[-4]) for path in (server.folder / "served").rglob("images/*.webp")]
    assert sorted(filter(None, pictures)) == sorted(cells.values())
    assert all(states == ["COMPLETE"] for states in studies.optuna_states(ran.folder).values())


def cells_in(database: Path, folder: StudyFolder) -> dict[str, str]:
    """Run id -> cell, of a folder's runs."""
    own = "select run_uuid from tags where key = 'ablate.uid' and value = ?"
    cells = "select run_uuid, value from tags where key = 'ablate.cell' and run_uuid in "
    with sqlite3.connect(database) as store:
        alive = f"(select run_uuid from runs where lifecycle_stage = 'active' and run_uuid in ({own}))"
        return dict(store.execute(cells + alive, (folder.uid.read_text().strip(),)))


def test_a_server_that_is_not_there_is_exit_3_and_sync_tells_it_all_later(runs, server, empty_store, monkeypatch):
    ran = drive(runs, f"http://127.0.0.1:{free_port()}")
    ran.assert_never_held_up()
    assert ran.code is Exit.storage and list(ran.unreachable) == ["MLflow"]
    tell(ran.folder, server.url, monkeypatch)
    assert_whole(ran, server, empty_store, monkeypatch)
    before = every_row(server.database)
    tell(ran.folder, server.url, monkeypatch)
    assert every_row(server.database) == before


def test_a_server_killed_in_the_middle_and_back_lacks_nothing(runs, server, empty_store, monkeypatch):
    def at(written: int) -> None:
        if written == 10:
            server.send(signal.SIGKILL)
        if written == 20:
            server.start(wait=False)
            back.append(Watch(server.healthy))

    back: list[Watch] = []
    ran = drive(runs, server.url, at=at, every=5, waits=lambda: bool(back) and not back[0].seen)
    ran.assert_never_held_up()
    assert ran.code is Exit.done and not ran.unreachable
    assert_whole(ran, server, empty_store, monkeypatch)


def test_a_server_that_is_frozen_and_goes_on_lacks_nothing(runs, server, empty_store, monkeypatch):
    """Requests that timed out are carried out late, when it goes on."""

    def at(written: int) -> None:
        if written == 3:
            server.send(signal.SIGSTOP)
            thaw.start()

    thaw = threading.Timer(45, lambda: server.send(signal.SIGCONT))
    ran = drive(runs, server.url, at=at, every=5, waits=thaw.is_alive)
    ran.assert_never_held_up()
    assert ran.code is Exit.done and not ran.unreachable
    assert_whole(ran, server, empty_store, monkeypatch)


def test_a_server_that_stays_frozen_is_exit_3_and_sync_mends_what_it_did_late(runs, server, empty_store, monkeypatch):
    def at(written: int) -> None:
        if written == 10:
            server.send(signal.SIGSTOP)

    try:
        ran = drive(runs, server.url, at=at)
    finally:
        server.send(signal.SIGCONT)
    ran.assert_never_held_up()
    assert ran.code is Exit.storage and "MLflow" in ran.unreachable
    time.sleep(5)  # for what it does late
    tell(ran.folder, server.url, monkeypatch)
    assert_whole(ran, server, empty_store, monkeypatch)


def test_500_for_a_while_is_outlasted_and_500_to_the_end_is_exit_3(runs, server, proxy, empty_store, monkeypatch):
    proxy.fault = lambda request: ERROR
    ran = drive(runs, proxy.url)
    ran.assert_never_held_up()
    assert ran.code is Exit.storage and "MLflow" in ran.unreachable and set(proxy.counts) == {ERROR}
    proxy.fault = lambda request: PASS
    tell(ran.folder, proxy.url, monkeypatch)
    assert_whole(ran, server, empty_store, monkeypatch)


def test_500_in_the_middle_loses_nothing(runs, server, proxy, empty_store, monkeypatch):
    def at(written: int) -> None:
        proxy.fault = lambda request: ERROR if 6 <= written < 20 else PASS

    ran = drive(runs, proxy.url, at=at, every=10)
    ran.assert_never_held_up()
    assert ran.code is Exit.done and proxy.counts[ERROR] >= 1
    assert_whole(ran, server, empty_store, monkeypatch)


def test_a_call_whose_first_reply_is_always_lost_is_not_made_twice(runs, server, proxy, empty_store, monkeypatch):
    proxy.fault = first_reply_lost()
    ran = drive(runs, proxy.url, every=10)
    ran.assert_never_held_up()
    print(proxy.counts)
    assert ran.code is Exit.done and proxy.counts[DROP] > 50
    assert_whole(ran, server, empty_store, monkeypatch)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_replies_lost_at_random_lose_and_double_nothing(runs, server, proxy, empty_store, monkeypatch, seed):
    chance = random.Random(seed)
    proxy.fault = lambda request: chance.choices([PASS, DROP, ERROR], [6, 3, 1])[0]
    ran = drive(runs, proxy.url, every=10)
    ran.assert_never_held_up()
    print(proxy.counts, ran.unreachable)
    if ran.unreachable:  # given up in time; what is left is told
        assert ran.code is Exit.storage
        proxy.fault = lambda request: PASS
        tell(ran.folder, proxy.url, monkeypatch)
    assert_whole(ran, server, empty_store, monkeypatch)


@pytest.mark.long
def test_a_server_that_takes_5_s_for_every_call_is_waited_for(runs, server, proxy, empty_store, monkeypatch):
    proxy.fault = lambda request: 5.0
    began = time.monotonic()
    ran = drive(runs, proxy.url, ONE_SEED, every=10)
    ran.assert_never_held_up()
    print(f"{proxy.counts} calls, {time.monotonic() - began:.0f} s")
    assert ran.code is Exit.done and not ran.unreachable
    assert_whole(ran, server, empty_store, monkeypatch)


@pytest.mark.parametrize("which", ["mlflow.db", "tiny/optuna.db"])
def test_a_file_locked_for_a_minute_by_another_process_lacks_nothing(runs, empty_store, monkeypatch, which):
    """The study itself ends long before the minute does."""
    shutil.copy(empty_store, runs / "mlflow.db")
    holder = Locker(runs / which, 60)

    def at(written: int) -> None:
        if written == 10:
            holder.begin()

    ran = drive(runs, "auto", at=at, every=5)
    holder.wait()
    ran.assert_never_held_up()
    assert ran.code is Exit.done and not ran.unreachable
    told = facts_in(ran.folder.mlflow, ran.folder)
    assert {facts["status"] for facts in told.values()} == {"FINISHED"} and set(told) == CELLS | {""}
    assert studies.optuna_states(ran.folder) == {cell: ["COMPLETE"] for cell in CELLS}
    before = every_row(ran.folder.mlflow), every_row(ran.folder.optuna)
    tell(ran.folder, f"sqlite:///{ran.folder.mlflow}", monkeypatch)
    assert (every_row(ran.folder.mlflow), every_row(ran.folder.optuna)) == before


def test_both_files_locked_from_the_start_delay_the_start_and_nothing_else(runs, empty_store):
    """Opening Optuna's storage waits for the lock; a study that has run is found again."""
    shutil.copy(empty_store, runs / "mlflow.db")
    assert drive(runs, "auto").code is Exit.done
    held = [Locker(runs / which, 30).hold() for which in ("mlflow.db", "tiny/optuna.db")]
    ran = drive(runs, "auto")
    for one in held:
        one.wait()
    ran.assert_never_held_up()
    assert ran.code is Exit.done and not ran.unreachable
