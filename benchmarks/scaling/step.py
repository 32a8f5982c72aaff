"""What an update and the memory of a rank take over batch and tile: pix2pix with narrow networks on one thread.

One tile size a process, batches from the smallest on, so that the peak of memory after each is that batch's own. Times
are of the processor, so that others on the machine count less.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TILES, BATCHES, WIDTH = (64, 128, 256), (1, 2, 4, 8, 16), 16
SECONDS, FEWEST, MOST = 4.0, 3, 20  # of updates at each point


@dataclass(frozen=True)
class Point:
    """Seconds of the processor that an update takes, the median of some; MB of the process at most until then."""

    tile: int
    batch: int
    width: int
    seconds: float
    updates: int
    peak: float


def measure(tile: int, batches: tuple[int, ...] = BATCHES, width: int = WIDTH) -> list[Point]:
    """One tile size, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", __name__, json.dumps([tile, batches, width])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"tile {tile}: {done.stderr[-2000:]}")
    return [Point(**json.loads(line)) for line in done.stdout.splitlines()]


def timed(root: Path, tile: int, batch: int, width: int) -> Point:
    """The first update makes the optimisers' state and is not counted."""
    from benchmarks.full_step import recipe
    from tests.trainers import tiny

    folder = root / f"tiles{tile}"
    if not folder.exists():
        tiny.prepared(folder, tiles=max(BATCHES) + 12, tile=tile)
    training = tiny.training(recipe(tile, width, batch=batch), folder)
    training.advance()
    found: list[float] = []
    while len(found) < FEWEST or (sum(found) < SECONDS and len(found) < MOST):
        began = time.process_time()
        training.advance()
        found.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return Point(tile, batch, width, statistics.median(found), len(found), peak)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    asked_tile, asked_batches, asked_width = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        for asked_batch in asked_batches:
            print(json.dumps(asdict(timed(Path(temporary), asked_tile, asked_batch, asked_width))), flush=True)
