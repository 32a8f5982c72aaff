"""What the driver takes a trial, in time and memory, over the number of trials of a study whose jobs do nothing.

    python -m benchmarks.scaling.driver 1000 [--projected] [--readings 50]

One size a process, so that its peak of memory is its own; it prints a line of JSON. The study is read, planned, run and
folded as `benchmarks.overhead` does it, in the driver's own path or with both projections open beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS, MOST_LEVELS = 5, 400  # seeds an arm, twice as many where a study would have more levels than it may
SIZES = (10, 30, 100, 315, 1000, 3160)  # half decades
FLOOR, MB = 50, 1e6


@dataclass(frozen=True)
class Driven:
    """Seconds to read and plan a study, to run it to its last outcome, and of the processor for both; MB of memory."""

    trials: int
    readings: int
    projected: bool
    planned: float
    ran: float
    processor: float
    floor: float  # seconds a trial of bare durable writes, before and after
    told: float  # seconds more until both projections had been told
    before: float
    after: float
    peak: float


def measure(trials: int, *, projected: bool = False, readings: int = 0) -> Driven:
    """One size, in a process of its own."""
    words = [str(trials), *(["--projected"] if projected else []), "--readings", str(readings)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", __name__, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{trials} trials: {done.stderr[-2000:]}")
    return Driven(**json.loads(done.stdout.splitlines()[-1]))


def text(name: str, trials: int) -> str:
    """A study of that many trials: the base and levels of two factors, one at a time."""
    from tests.ablate.studies import STUDY

    seeds = SEEDS if trials // SEEDS <= MOST_LEVELS else 2 * SEEDS
    arms = range(1, trials // seeds)
    levels = {
        "lr": [f"    lr{at}: {{optimizer.lr: {1e-4 + 1e-7 * at:.7f}}}" for at in arms[::2]],
        "ratio": [f"    ratio{at}: {{optimizer.lr_ratio: {0.5 + 1e-4 * at:.4f}}}" for at in arms[1::2]],
    }
    factors = [line for factor, named in levels.items() if named for line in (f"  {factor}:", *named)]
    head, _, rest = STUDY.replace("name: tiny", f"name: {name}").partition("factors:\n")
    tail = rest[rest.index("design:") :].replace("seeds: 2", f"seeds: {seeds}")
    return "\n".join([f"{head}factors:", *factors, tail])


def drive(root: Path, trials: int, *, projected: bool, readings: int) -> Driven:
    """Run such a study under `root`, in this process."""
    from ablate.plan import make_plan
    from ablate.study import load
    from benchmarks.overhead import Empty, Studies, run_with
    from tests.ablate.studies import write

    bare = Studies(root, FLOOR).floor  # a disk that others use drifts
    first = make_plan(load(write(root / "first", text("first", SIZES[0]))))  # what is imported for it does not count
    run_with(first, root / "runs", Empty(), projected=False)
    floor = bare() / 2
    before, began, used = resident(), time.perf_counter(), time.process_time()
    plan = make_plan(load(write(root / "study", text("scaled", trials))))
    planned = time.perf_counter() - began
    assert len(plan.specs) == trials
    ran, told = run_with(plan, root / "runs", Empty(readings), projected=projected)
    used = time.process_time() - used
    floor += bare() / 2
    return Driven(trials, readings, projected, planned, ran, used, floor, told, before, resident(), peak())


def resident() -> float:
    """MB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int, help=f"a multiple of {SEEDS}")
    parser.add_argument("--projected", action="store_true", help="with Optuna's SQLite and MLflow's beside it")
    parser.add_argument("--readings", type=int, default=0, help="lines of training that each stream holds")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        found = drive(Path(temporary), asked.trials, projected=asked.projected, readings=asked.readings)
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
