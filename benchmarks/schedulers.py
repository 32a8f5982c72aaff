"""C8: what a short trial costs beside its own time in a job of a scheduler that many share, against the local pool.

The same study of one rank a trial, one trial at a time, by `ablate run`: here on ranks that stay, and as one job of Slurm
(`trials_per_job`). Told is what passes from the first start to the last end beyond the trials' own seconds, a trial; and
the whole command, in which a scheduler's wait and the start of its job count too. Without Slurm there is no row.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.paired import Row, ratios, take_turns

ROOT = Path(__file__).resolve().parents[1]
TRIALS, GOAL = 16, 2.0
PATIENCE = 600


def measure(*, pairs: int, quick: bool) -> list[Row]:
    """Rows for Slurm; none where it is not to be had."""
    from tests import slurm

    if why := slurm.why_not():
        print(f"C8: no row: {why}", file=sys.stderr)
        return []
    trials, pairs = (4, 1) if quick else (TRIALS, pairs)
    between: dict[str, list[float]] = {"local": [], "slurm": []}
    with tempfile.TemporaryDirectory() as temporary:
        runs = Runs(Path(temporary), trials, between)
        whole = take_turns({way: partial(runs.whole, way) for way in between}, pairs)
    facts = {"trials": trials, "between": between, "whole": whole}
    what = f"{trials} short trials in one job of Slurm against the local pool"
    return [
        Row("C8", f"{what}: beside their own time, a trial", ratios(between["slurm"], between["local"]), GOAL,
            at_most=True, facts=facts),
        Row("C8", f"{what}: the whole command", ratios(whole["slurm"], whole["local"])),
    ]  # fmt: skip


class Runs:
    """Each call runs the study in a folder of its own."""

    def __init__(self, root: Path, trials: int, between: dict[str, list[float]]):
        self.root, self.trials, self.between, self._numbers = root, trials, between, count()

    def whole(self, way: str) -> float:
        """Seconds of the command."""
        from tests.ablate import studies

        folder = self.root / str(next(self._numbers))
        folder.mkdir()
        study = studies.write(folder, studies.STUDY.replace("seeds: 2", f"seeds: {self.trials // 2}"))
        asked = {"ranks": 1, "slots": 1}
        if way == "slurm":
            asked |= {"executor": "slurm", "trials_per_job": self.trials, "slots": self.trials}
        options = [word for key, value in asked.items() for word in ("--set", f"resources.{key}={value}")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "ablate.cli", "run", str(study), *options], cwd=folder,
                              env=environment, capture_output=True, text=True, timeout=PATIENCE)  # fmt: skip
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{way}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        self.between[way].append(self._between(folder / "runs/tiny/trials"))
        return seconds

    def _between(self, trials: Path) -> float:
        """Seconds a trial between the first start and the last end that belong to none."""
        from ablate import events

        spans = []
        for path in trials.glob("*/events.jsonl"):
            stream = events.read(path)
            spans.append((stream[0].time, stream[-1].time))
        assert len(spans) == self.trials
        whole = max(end for _, end in spans) - min(start for start, _ in spans)
        return (whole - sum(end - start for start, end in spans)) / (self.trials - 1)
