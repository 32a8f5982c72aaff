"""Getting started: a starter study, and the tracking UI."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from ablate.disk import SHARED, write_atomically
from ablate.mlflow_moved import bring_along
from ablate.mlflow_store import locked
from ablate.preconditions import CannotRun, check_address
from ablate.problems import Problem, StudyError, no_such
from ablate.records import StudyFolder
from ablate.sqlite import address

SCHEMA = "study.schema.json"


def examples() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files("studies").iterdir() if entry.name.endswith(".yaml")
    )


def write_starter(folder: Path, example: str) -> list[Path]:
    """Copy a study, what it extends and the editors' schema into `folder`; never over an existing file."""
    if example not in examples():
        raise StudyError([Problem("--example", 0, 0, "", no_such("study", example, examples()))])
    source = files("studies")
    names = [f"{example}.yaml", SCHEMA]
    parent = _extended(source.joinpath(names[0]).read_text(encoding="utf-8"))
    names += [parent] if parent else []
    targets = [folder / name for name in names]
    taken = [path for path in targets if path.exists() and path.name != SCHEMA]
    if taken:
        raise StudyError([Problem(str(path), 0, 0, "", "is there already; it is left as it is") for path in taken])
    for name, target in zip(names, targets, strict=True):
        write_atomically(target, source.joinpath(name).read_bytes(), mode=SHARED)
    return targets


def _extended(text: str) -> str | None:
    lines = (line for line in text.splitlines() if line.startswith("extends:"))
    return next((line.split(":", 1)[1].strip() for line in lines), None)


def mlflow_ui(folder: StudyFolder, port: int) -> int:
    """Serve MLflow's UI over the store under the runs folder until it is stopped; its exit code."""
    if not folder.mlflow.exists():
        raise CannotRun(f"there is no MLflow store yet: {folder.mlflow}; run a study first")
    check_address(folder.mlflow)
    _check_free(port)
    try:
        with locked(folder):
            bring_along(folder)
    except sqlite3.Error as error:
        raise CannotRun(f"{folder.mlflow}: MLflow's store cannot be used: {error}") from None
    store = address(folder.mlflow.absolute())
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1"]
    command += ["--default-artifact-root", folder.artifacts.absolute().as_uri(), "--port", str(port), "--workers", "1"]
    # MLflow opens in its view for language models; this address opens the one for training.
    print(f"MLflow: http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning", flush=True)
    print("(it answers in about 20 seconds; Ctrl-C ends it)", flush=True)
    # A session of its own: MLflow starts helpers, and all of them are to end with it.
    server = subprocess.Popen(command, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, start_new_session=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end_group(server)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotRun(f"port {port} on 127.0.0.1: {error.strerror}; choose another with --port") from None


def _end_group(server: subprocess.Popen) -> None:
    """End the server and its helpers: politely, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)
