"""A real small study with a secret planted around it: who may read what it leaves, what tells it, who is called.

Slow: runs of real training.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.ablate import studies

pytestmark = pytest.mark.slow

CANARY = "C4naryS3cret"
PLANTED = {
    "AWS_SECRET_ACCESS_KEY": CANARY, "MLFLOW_TRACKING_PASSWORD": CANARY, "MLFLOW_TRACKING_TOKEN": CANARY,
    "SOMEBODYS_PASSWORD": CANARY, "DATABASE_URL": f"postgresql://user:{CANARY}@127.0.0.1/db",
}  # fmt: skip
STUDY = studies.STUDY.replace("seeds: 2", "seeds: 1").replace("ranks: 2", "ranks: 1")
STUDY = STUDY.replace("name: tiny", f"name: tiny  # {CANARY}").replace("also: [psnr, mae]", "also: [mae]")
# Put before every Python process of the run: whatever leaves this machine is noted and refused.
GUARD = '''
import os, socket
def guarded(usual):
    def call(self, address, *rest):
        local = self.family == socket.AF_UNIX or str(address[0]) in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")
        if not local:
            with open({file!r}, "a") as file:
                file.write(repr(address) + "\\n")
            raise OSError("no network in this test: " + repr(address))
        return usual(self, address, *rest)
    return call
for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
'''


# The first makes the runs folder.
COMMANDS = {
    "measure": ("plan", "tiny.yaml", "--measure"), "run": ("run", "tiny.yaml"), "sync": ("sync",),
    "confirm": ("confirm", "tiny", "--arm", "lr_ratio=half", "--seeds", "2"),
    "analyse": ("analyse", "runs/tiny/optuna.db", "--metric", "gmsd", "--baseline", "base"),
    "again": ("run", "tiny.yaml"), "status": ("status",), "report": ("report", "tiny"), "plan": ("plan", "tiny.yaml"),
    "clean": ("clean",), "prune": ("data", "cache", "--prune"),
}  # fmt: skip
AWAY = ("again", "status", "report", "plan")  # with a tracking server that is not there
CODES = dict.fromkeys(COMMANDS, 0) | {"again": 3}  # the results are whole, tracking was away


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder, and all that was printed by every command that writes there, the last ones without their server."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "guard").mkdir()
    (folder / "guard/sitecustomize.py").write_text(GUARD.format(file=str(folder / "called")))
    studies.write(folder, STUDY)
    path = os.pathsep.join([str(folder / "guard"), str(Path(__file__).parents[2])])
    more = PLANTED | {"PYTHONPATH": path}
    away = {"MLFLOW_TRACKING_URI": f"http://user:{CANARY}@127.0.0.1:9/x?token={CANARY}"}
    before = os.umask(0o022)
    try:
        ended = {name: studies.ablate(*command, cwd=folder, more=more | (away if name in AWAY else {}))
                 for name, command in COMMANDS.items()}  # fmt: skip
    finally:
        os.umask(before)
    return folder, ended


def everything(folder: Path) -> list[Path]:
    return [path for path in (folder / "runs").rglob("*") if not path.is_symlink()]


def test_the_commands_end_as_they_should(ran):
    _, ended = ran
    said = {name: done.stderr for name, done in ended.items() if done.returncode != CODES[name]}
    assert {name: done.returncode for name, done in ended.items()} == CODES, said
    assert "the results are whole under runs/; once it answers: ablate sync tiny\n" in ended["again"].stdout


def test_no_file_under_runs_is_anybodys_but_the_owners(ran):
    folder, _ = ran
    open_to_others = [path for path in everything(folder) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not open_to_others and len(everything(folder)) > 30
    assert stat.S_IMODE((folder / "runs").stat().st_mode) == 0o700
    for database in (folder / "runs/mlflow.db", folder / "runs/tiny/optuna.db"):
        assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_the_secret_stands_in_nothing_that_was_written_or_said(ran):
    folder, ended = ran
    told = [path for path in everything(folder) if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert not told
    assert not [done.args for done in ended.values() if CANARY in done.stdout + done.stderr]
    assert CANARY in (folder / "tiny.yaml").read_text()  # where its owner put it


def test_nobody_outside_of_this_machine_was_called(ran):
    folder, _ = ran
    assert not (folder / "called").exists(), (folder / "called").read_text()


def test_the_guard_itself_sees_a_call(ran, tmp_path):
    import subprocess

    (tmp_path / "sitecustomize.py").write_text(GUARD.format(file=str(tmp_path / "called")))
    code = "import socket; socket.create_connection(('192.0.2.1', 9), 1)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True)
    assert done.returncode == 1 and "192.0.2.1" in (tmp_path / "called").read_text()


def test_no_traceback_reached_the_terminal(ran):
    _, ended = ran
    assert not [done.args for done in ended.values() if "Traceback" in done.stdout + done.stderr]
