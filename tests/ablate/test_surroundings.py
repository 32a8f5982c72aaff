"""What a machine may do to a study: folders that can't be written, damaged stores, no shared memory, taken ports, two
drivers at once. Each ends in a sentence and its exit code, and what has run is none the worse."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ablate.records import StudyFolder
from tests import faults
from tests.ablate import drives, studies
from tests.ablate.test_driver_faults import told, wrong


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_store) -> Path:
    """A place in which a study has run undisturbed."""
    place = tmp_path_factory.mktemp("whole")
    make_runs(place, empty_store)
    studies.write(place, drives.STUDY)
    ended = drives.run(place, "tiny.yaml")
    assert ended.code == 0, ended.said
    return place


def make_runs(place: Path, store: Path) -> None:
    (place / "runs").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(store, place / "runs" / "mlflow.db")


def study_in(place: Path) -> StudyFolder:
    return StudyFolder(place / "runs", "tiny")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder, a file system of its own, can't be written meanwhile: as for root too on a failing disk."""
    for option in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
        if option == "ro":
            yield


@pytest.mark.slow
@pytest.mark.parametrize("where", ["runs", "runs/tiny", "runs/tiny/trials"])
def test_a_folder_that_cannot_be_written_ends_the_run_and_once_it_can_the_result_is_the_same(
    whole, tmp_path, empty_store, where
):
    studies.write(tmp_path, drives.STUDY)
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    with faults.small_disk(tmp_path / where, 400):
        make_runs(tmp_path, empty_store)
        with read_only(tmp_path / where):
            ended = drives.run(tmp_path, "tiny.yaml")
        assert ended.code == 4 and "Traceback" not in ended.said, ended.said
        assert where in ended.said.splitlines()[-1], ended.said
        again = drives.run(tmp_path, "tiny.yaml")
        assert again.code == 0, again.said
        assert told(study_in(tmp_path)) == told(study_in(whole))
        assert wrong(study_in(tmp_path)) == []


@pytest.mark.parametrize("name", ["tiny/optuna.db", "mlflow.db"])
def test_a_damaged_database_is_named_before_anything_starts(whole, tmp_path, name):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    database = tmp_path / "runs" / name
    data = bytearray(database.read_bytes())
    data[8192:-8192] = bytes(len(data) - 16384)
    database.write_bytes(data)
    ended = drives.run(tmp_path, "tiny.yaml")
    assert ended.code == 3 and "Traceback" not in ended.said, ended.said
    assert f"runs/{name}: " in ended.said and "the trial folders are whole: move the file away" in ended.said
    assert "started" not in ended.said and database.read_bytes() == data


@pytest.mark.slow
def test_two_drivers_that_start_at_the_same_moment_are_one_and_one_that_is_turned_away(whole, tmp_path):
    studies.write(tmp_path, drives.STUDY)
    held = "study-written=sleep:8"  # the other one is at the lock by then
    with ThreadPoolExecutor(2) as pool:
        starts = [pool.submit(drives.run, tmp_path, "tiny.yaml", failpoints=held, said=f"said-{n}.txt") for n in (1, 2)]
        ended = sorted((start.result() for start in starts), key=lambda end: end.code)
    assert [end.code for end in ended] == [0, 75], [end.said for end in ended]
    said = ended[1].said
    assert "another driver runs this study: pid " in said and f" on {socket.gethostname()}, since 20" in said, said
    assert told(study_in(tmp_path)) == told(study_in(whole))
    assert wrong(study_in(tmp_path)) == []


def test_a_port_that_is_taken_is_said_before_the_server_is_started(whole):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = studies.ablate("ui", "--port", port, cwd=whole)
    assert done.returncode == 4 and done.stdout == ""
    assert done.stderr == f"port {port} on 127.0.0.1: Address already in use; choose another with --port\n"


@pytest.mark.slow
def test_a_taken_port_of_torchs_and_next_to_no_shared_memory_are_no_obstacles(tmp_path):
    """Two real gloo ranks: they choose a port of their own, and tell each other nothing by /dev/shm."""
    studies.write(tmp_path)
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of its own")
    run = [sys.executable, "-m", "ablate.cli", "run", "tiny.yaml", "--set", "seeds=1"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        more = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        done = subprocess.run([*small, *run], cwd=tmp_path, env=studies.environment() | more, capture_output=True,
                              text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0 and "2 trials: 2 done" in done.stdout, done.stdout + done.stderr
