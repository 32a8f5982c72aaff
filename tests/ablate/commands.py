"""Commands called in this process, as a person types them, and what must hold of each refusal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

from ablate.problems import printable
from tests.ablate import studies

SECONDS = 2  # of this process, whatever else the machine does
Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """What is typed (beside the study `tiny.yaml`), what the refusal says, and the exit code.

    `files` are written before, `prepare` may do more; `environment` is added to that of the process.
    """

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    code: int = 2
    files: tuple[tuple[str, str | bytes], ...] = ()
    prepare: Prepare | None = None
    environment: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return printable(" ".join(self.arguments))[:60]


def bad(*arguments: str, says: str | tuple[str, ...], code: int = 2, prepare: Prepare | None = None,
        files: dict[str, str | bytes] | None = None, environment: dict[str, str] | None = None) -> Bad:  # fmt: skip
    said = (says,) if isinstance(says, str) else says
    return Bad(arguments, said, code, tuple((files or {}).items()), prepare, tuple((environment or {}).items()))


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    seconds: float


def ablate(*arguments: str, environment: dict[str, str] | None = None) -> Ended:
    """Run a command in this process and the current folder."""
    from ablate.cli import main

    out, err, began = StringIO(), StringIO(), time.process_time()
    known = studies.environment() | {"COLUMNS": "1000", "TERM": "dumb"} | (environment or {})
    with (redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", ["ablate", *arguments]),
          mock.patch.dict("os.environ", known, clear=True)):  # fmt: skip
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Ended(code, out.getvalue(), err.getvalue(), time.process_time() - began)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below a folder."""
    stats = {path.relative_to(folder).as_posix(): path.lstat() for path in folder.rglob("*")}
    return {name: (found.st_size, found.st_mtime_ns) for name, found in stats.items()}


def refused(case: Bad, folder: Path) -> list[str]:
    """The lines that a bad input is answered with, after what holds of every answer has been checked."""
    studies.write(folder)
    for name, content in case.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if case.prepare:
        case.prepare(folder)
    before = tree(folder)
    ended = ablate(*case.arguments, environment=dict(case.environment))
    assert ended.code == case.code, (ended.code, ended.err)
    assert ended.out == "" and "Traceback" not in ended.err
    for words in case.says:
        assert words in ended.err, ended.err
    lines = ended.err.splitlines()
    assert lines and all(printable(line) == line and len(line) < 3000 for line in lines)
    assert tree(folder) == before, "something was written"
    assert ended.seconds < SECONDS
    return lines
