"""A study small enough to run for real in tests, and ways to run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ablate import events
from ablate.records import StudyFolder
from tests.processes import alive as alive
from tests.processes import descendants

STUDY = """\
name: tiny
question: Does anything change?
base:
  data: {layout: synthetic, tile: 32, scenes: 4, size: 64}
  generator: {name: unet, width: 4, norm: instance}
  discriminator: {name: patchgan, width: 4, layers: 2, norm: instance}
  batch: 4
  budget: {generator_updates: 6}
  evaluate: {every: 3}
factors:
  lr_ratio:
    half: {optimizer.lr_ratio: 0.5}
design: one_at_a_time
seeds: 2
metric: {name: gmsd, smallest_effect: 0.005}
also: [psnr, mae]
resources: {ranks: 2}
"""
CELLS = 4
ELSEWHERE = os.environ.get("ABLATE_TEST_EXECUTOR", "")  # slurm, ray: where every `ablate run` of tests runs its trials


def write(folder: Path, text: str = STUDY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def ablate(
    *arguments: object, cwd: Path, timeout: float = 300, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in `cwd`, with `more` in its environment."""
    environ = environment() | dict(more or {})
    return subprocess.run(
        _command(*arguments), cwd=cwd, env=environ, capture_output=True, text=True, timeout=timeout
    )  # fmt: skip


@contextmanager
def hang_up(handling: signal.Handlers) -> Iterator[None]:
    """What is started here is born with SIGHUP handled so; whoever runs the tests may have had it ignored (nohup)."""
    before = signal.signal(signal.SIGHUP, handling)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def start(
    *arguments: object, cwd: Path, into: IO[bytes] | None = None, more: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """The command, started in `cwd` with `more` in its environment; what it says goes into a pipe, or `into` a file."""
    return subprocess.Popen(
        _command(*arguments), cwd=cwd, env=environment() | dict(more or {}), stdout=into or subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _command(*arguments: object) -> list[str]:
    elsewhere = ["--set", f"resources.executor={ELSEWHERE}"] if ELSEWHERE and arguments[0] == "run" else []
    return [sys.executable, "-m", "ablate.cli", *map(str, arguments), *elsewhere]


def environment() -> dict[str, str]:
    """The caller's, without stores that it may know."""
    known = ("MLFLOW_", "PG", "ABLATE_OPTUNA_STORAGE")
    return {key: value for key, value in os.environ.items() if not key.startswith(known)}


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll until the condition holds; fails with `what` when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def measured(folder: StudyFolder) -> int:
    """Measurements on disk, over all trials."""
    streams = folder.root.glob("trials/*/events.jsonl")
    return sum(isinstance(event, events.Measured) for path in streams for event in events.read(path))


def kill(process: subprocess.Popen[str]) -> set[int]:
    """SIGKILL the driver alone; the pids that lived below it."""
    below = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return below


def scores(folder: StudyFolder) -> dict[str, dict[str, float]]:
    """Final scores of every trial, by id."""
    return {
        path.parent.name: dict(events.fold(path.parent.name, events.read(path)).scores)
        for path in folder.root.glob("trials/*/events.jsonl")
    }


def plan(folder: StudyFolder) -> dict:
    return json.loads(folder.plan.read_text())


def optuna_states(folder: StudyFolder) -> dict[str, list[str]]:
    """Cell -> states of its Optuna trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder.optuna}")
    found: dict[str, list[str]] = {}
    for trial in study.trials:
        found.setdefault(trial.user_attrs["cell"], []).append(trial.state.name)
    return found


def mlflow_runs(folder: StudyFolder) -> dict[str, list[str]]:
    """Cell (`parent` for the study's own) -> states of this folder's MLflow runs."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.mlflow}")
    experiment = client.get_experiment_by_name(folder.name)
    found: dict[str, list[str]] = {}
    own = f"tags.`ablate.uid` = '{folder.uid.read_text().strip()}'"
    for run in client.search_runs([experiment.experiment_id], own, max_results=1000):
        found.setdefault(run.data.tags.get("ablate.cell") or "parent", []).append(run.info.status)
    return found


def spec_of(trial: Path) -> dict:
    """The specification in a trial's folder."""
    return json.loads((trial / "spec.json").read_text())["spec"]
