"""Time of `reports.analyse`: many small studies, and single large ones, on one core.

    OMP_NUM_THREADS=1 python benchmarks/analysis_speed.py

Goals: 1,000 balanced studies of 10 arms and 5 seeds in under 60 s; 2,000 trials in under 5 s and 1 GB. Processor time
is compared, so that a busy machine changes little. Exit code 1 where a goal is missed.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator

import numpy as np
import pandas

import reports

STUDIES, LARGE = 1_000, ((40, 50, 0), (400, 5, 0), (40, 50, 0.08), (400, 5, 0.08), (2000, 1, 0))
GOALS = {"studies": 60.0, "large": 5.0, "memory": 1_000.0}  # seconds, seconds, MB


def frame(arms: int, seeds: int, random: np.random.Generator, *, holes: float = 0.0) -> pandas.DataFrame:
    values = random.normal(size=(arms, seeds)) + random.normal(size=seeds)
    names = ["base", *(f"arm{arm}" for arm in range(1, arms))]
    lost = (random.random((arms, seeds)) < holes) & (np.arange(arms) > 0)[:, None]
    rows = [
        (names[arm], seed, values[arm, seed], "diverged" if lost[arm, seed] else "done")
        for arm in range(arms)
        for seed in range(seeds)
    ]
    return pandas.DataFrame(rows, columns=["arm", "seed", "psnr", "status"])


def seconds(tables: Iterator[pandas.DataFrame]) -> float:
    """Processor time of analysing the tables, made before the clock starts."""
    made = list(tables)
    began = time.process_time()
    for table in made:
        reports.analyse(table, metric="psnr", goal="max", baseline="base")
    return time.process_time() - began


def main() -> int:
    random = np.random.default_rng(0)
    small = seconds(frame(10, 5, random) for _ in range(STUDIES))
    print(f"{STUDIES} studies of 10 arms x 5 seeds: {small:.1f} s", flush=True)
    met = small < GOALS["studies"]
    for arms, seeds, holes in LARGE:
        large = seconds(iter([frame(arms, seeds, random, holes=holes)]))
        print(f"{arms} arms x {seeds} seeds, {holes:.0%} diverged: {large:.1f} s", flush=True)
        met &= large < GOALS["large"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest memory: {memory:.0f} MB")
    return 0 if met and memory < GOALS["memory"] else 1


if __name__ == "__main__":
    sys.exit(main())
