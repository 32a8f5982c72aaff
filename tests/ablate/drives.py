"""`ablate run` in a process of its own whose jobs are over at once: what a kill of the driver leaves, in a second."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate.executor import Outcome
from tests.ablate import studies
from tests.ablate.fakes import Handle, InstantExecutor

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["mlflow", "optuna", "pandas", "scipy.stats", "matplotlib", "ablate.cli", "ablate.run",
                                 "reports", "tests.ablate.fakes"])  # fmt: skip

STUDY = studies.STUDY.replace("resources: {ranks: 2}", "resources: {ranks: 1}")
SPOILT = "spoilt"  # a file beside the study that names an lr_ratio whose jobs break
SECONDS = 120


@dataclass(frozen=True)
class Ended:
    code: int  # negative: the signal that ended it
    said: str


class Breaking(InstantExecutor):
    """Jobs of one lr_ratio raise in their part, as long as the file that names it is there."""

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        spoilt = Path(SPOILT).read_text() if Path(SPOILT).exists() else ""
        if kind == "run" and spoilt == str(_ratio(folder)):
            words = {"time": 1.0, "rank": 0, "kind": "arm", "type": "ValueError", "message": "no power iteration today"}
            (folder / "error.0.json").write_text(json.dumps(words))
            return Broken()
        return super().start(kind, folder, ranks=ranks, threads=threads)


class Broken(Handle):
    def poll(self) -> Outcome:
        super().poll()
        return Outcome({0: 1})


def _ratio(folder: Path) -> float:
    return json.loads((folder / "spec.json").read_text())["spec"]["recipe"]["optimizer"]["lr_ratio"]


def run(
    cwd: Path, *arguments: str, failpoints: str = "", more: Mapping[str, str] | None = None, said: str = "said.txt"
) -> Ended:  # fmt: skip
    """`ablate run ARGUMENTS` in `cwd`, with jobs that end at once and the faults asked for."""
    return _ended(cwd, arguments, failpoints, dict(more or {}), cwd / said)


def _ended(cwd: Path, arguments: tuple[str, ...], failpoints: str, more: dict[str, str], said: Path) -> Ended:
    process = _context.Process(target=_run, args=(cwd, arguments, failpoints, more, said))
    process.start()
    process.join(SECONDS)
    assert process.exitcode is not None, f"the command has not ended within {SECONDS} s"
    return Ended(process.exitcode, said.read_text())


def _run(cwd: Path, arguments: tuple[str, ...], failpoints: str, more: dict[str, str], said: Path) -> None:
    os.chdir(cwd)
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ |= more
    sys.argv = ["ablate", "run", *arguments]
    from ablate import executors
    from ablate import failpoints as faults
    from ablate.cli import main

    executors.LocalExecutor = lambda slots, log, devices: Breaking(slots=slots)
    faults.arm(failpoints)
    main()
