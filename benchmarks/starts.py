"""C2: from asking for a trial to its ranks being ready for their first step, against torchrun.

The trial is real: two gloo ranks that open tiles and build both networks; it is ready when it writes its `started`
event. `torchrun` starts fresh interpreters. The isolated way (ABLATE_WORKERS=fresh) forks the ranks of every trial from
a process that holds torch; in the pool the ranks of the trial before stay. Both are told after their launcher is ready
and has run a trial, since one launcher serves a whole study.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.paired import Row, ratios, take_turns

if TYPE_CHECKING:
    from ablate.executor import LocalExecutor

ROOT = Path(__file__).resolve().parents[1]
RANKS, PATIENCE = 2, 300  # seconds for one trial
GOALS = {"isolated": 20.0, "in the pool": 1000.0}
WORKERS = {"isolated": "fresh", "in the pool": ""}  # ABLATE_WORKERS of each way's launcher


def measure(*, pairs: int, quick: bool) -> list[Row]:
    """A row for every way of starting."""
    with tempfile.TemporaryDirectory() as temporary:
        starts = Starts(Path(temporary))
        try:
            for start in starts.ways.values():
                start()  # the first one loads what the next ones find loaded
            found = take_turns({"torchrun": starts.by_torchrun, **starts.ways}, 1 if quick else pairs)
        finally:
            starts.close()
    return [
        Row("C2", f"ready for the first step, {RANKS} ranks, {way}, against torchrun",
            ratios(found["torchrun"], found[way]), goal, facts={"seconds": {k: found[k] for k in ("torchrun", way)}})
        for way, goal in GOALS.items()
    ]  # fmt: skip


class Starts:
    """Ways to start the same trial, in a new folder each and to its end; each gives the seconds until it was ready."""

    def __init__(self, root: Path):
        from ablate.executor import LocalExecutor

        self.root, self._numbers = root, count()
        self._executors: list[LocalExecutor] = []
        self.ways: dict[str, Callable[[], float]] = {}
        for way, workers in WORKERS.items():
            executor = LocalExecutor(1, root / f"{way}.log")
            with patch.dict(os.environ, {"ABLATE_WORKERS": workers}):
                executor.warm_up()
            self._executors.append(executor)
            self.ways[way] = partial(self._launched, executor)

    def _launched(self, executor: LocalExecutor) -> float:
        folder, began = self._trial(), time.time()
        handle = executor.start("run", folder, ranks=RANKS, threads=1)
        while (outcome := handle.poll()) is None:
            if time.time() - began > PATIENCE:
                handle.stop()
                raise TimeoutError(f"a trial of one step did not end within {PATIENCE} s")
            time.sleep(0.002)
        assert outcome.clean, (folder / "log.txt").read_text()[-2000:]
        return _ready(folder) - began

    def by_torchrun(self) -> float:
        folder = self._trial()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS),
                   "-m", "trainers", "run", str(folder)]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        began = time.time()
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=PATIENCE)
        return _ready(folder) - began

    def _trial(self) -> Path:
        from tests.trainers import tiny

        spec = tiny.spec(tiny.recipe(steps=1, every=1), ranks=RANKS)
        return tiny.trial_folder(self.root, spec, name=f"{next(self._numbers)}", metrics=("psnr",)).root

    def close(self) -> None:
        for executor in self._executors:
            executor.close()


def _ready(folder: Path) -> float:
    """When the trial wrote that it had started, in seconds since 1970."""
    return json.loads((folder / "events.jsonl").read_text().splitlines()[0])["time"]
