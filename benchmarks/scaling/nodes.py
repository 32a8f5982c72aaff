"""What one driver takes a trial and in memory, over the course of a study on a cluster of many nodes.

    python -m benchmarks.scaling.nodes [--trials 2000] [--nodes 64]

The cluster is a script on a clock of its own (tests/ablate/scripted.py): nodes are lost and jobs pre-empted half-way,
and half-way through the study the driver is replaced by another, which finds the jobs that run. What the script itself
takes is not counted. It prints a line of JSON for every so many trials that have ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.scaling.driver import ROOT, resident

TRIALS, NODES, POINTS = 2000, 64, 20
LOST, PREEMPTED = 50, 40  # of so many first attempts one


@dataclass(frozen=True)
class Followed:
    """After so many trials: milliseconds of the processor a trial since the point before, MB of memory now, per cent
    of a core by the cluster's clock, trials taken up again so far; seconds that a new driver took to come back."""

    trials: int
    nodes: int
    milliseconds: float
    memory: float
    share: float
    again: int
    came_back: float


def measure(trials: int, nodes: int) -> Iterator[Followed]:
    """In a process of its own, so that its memory is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", __name__, "--trials", str(trials), "--nodes", str(nodes)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{trials} trials: {done.stderr[-2000:]}")
    yield from (Followed(**json.loads(line)) for line in done.stdout.splitlines())


def fate(trial: str, attempt: int) -> str:
    """Half-way through some first attempts a node is lost, or the job pre-empted."""
    if attempt > 1 or trial == "references":
        return ""
    number = int(trial, 16)
    return "lost" if number % LOST == 0 else "preempted" if number % PREEMPTED == 0 else ""


class Replaced(Exception):
    """Stands for the driver's death."""


def drive(root: Path, trials: int, nodes: int) -> list[Followed]:
    """Plan such a study and follow it to its end."""
    from ablate.driver import Driver
    from ablate.plan import make_plan
    from ablate.planfile import write_plan
    from ablate.records import StudyFolder
    from ablate.study import load
    from benchmarks.scaling.driver import text
    from reports.race import leaving
    from tests.ablate.fakes import Silent
    from tests.ablate.scripted import Cluster, ScriptedExecutor
    from tests.ablate.studies import write

    plan = make_plan(load(write(root / "study", text("cluster", trials))))
    folder = StudyFolder(root / "runs", plan.study.name)
    write_plan(plan, folder)
    cluster, every = Cluster(nodes, fate=fate), max(1, trials // POINTS)
    clock = Clock(cluster)
    marks, ended = [clock.mark(0)], set()

    class Counting(Silent):
        def ended(self, cell, result) -> None:
            ended.add(result.id)
            if len(ended) >= marks[-1].trials + every:
                marks.append(clock.mark(len(ended)))
                if marks[-1].trials >= trials / 2 > marks[-2].trials:
                    raise Replaced

    for _ in range(2):
        executor = ScriptedExecutor(cluster, slots=nodes)

        def sleep(seconds: float, executor=executor) -> None:
            clock.goes_on()
            executor.wait(seconds)

        driver = Driver(plan, folder, executor, Silent(), Silent(), Counting(), leaving, sleep=sleep,
                        clock=lambda: cluster.now)  # fmt: skip
        try:
            results = driver.run()
        except Replaced:
            clock.stands()
    assert len(results) == len(plan.specs) == trials and all(result.scores for result in results.values())
    assert cluster.most == nodes
    return [after.since(before, nodes, clock.took) for before, after in pairwise(marks)]


@dataclass(frozen=True)
class Mark:
    trials: int
    used: float  # seconds of the processor
    now: float  # by the cluster's clock
    memory: float
    again: int

    def since(self, before: Mark, nodes: int, came_back: float) -> Followed:
        used = self.used - before.used
        each, share = 1e3 * used / (self.trials - before.trials), 100 * used / (self.now - before.now)
        return Followed(self.trials, nodes, each, self.memory, share, self.again, came_back)


class Clock:
    """The driver's own time of the processor, without the script's and without what coming back takes."""

    def __init__(self, cluster):
        self.cluster, self.took, self._left_out, self._since = cluster, 0.0, 0.0, None
        self._began = time.process_time()

    def mark(self, trials: int) -> Mark:
        again = sum(self.cluster.attempts.values()) - len(self.cluster.attempts)
        return Mark(trials, self._used(), self.cluster.now, resident(), again)

    def stands(self) -> None:
        self._since = self._used()

    def goes_on(self) -> None:
        if self._since is not None:
            self.took = self._used() - self._since
            self._left_out, self._since = self._left_out + self.took, None

    def _used(self) -> float:
        return time.process_time() - self._began - self.cluster.spent - self._left_out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--nodes", type=int, default=NODES)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        for point in drive(Path(temporary), asked.trials, asked.nodes):
            print(json.dumps(asdict(point)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
