"""Trials an hour over slots, and what the driver and its ranks take while trials run: `ablate run` on a small study.

Trials are real ones of one rank and one thread. What is counted lies between the first trial's start and the last one's
end: loading torch, opening the stores and writing the report do not enter. Slots take turns, as the machine drifts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "studies/quick.yaml"
ALONE = ("resources.ranks=1", "resources.threads=1")
EVALUATIONS = 4  # of a trial
LOOK, LOOK_AT_RANKS = 0.1, 1.0  # seconds between looks
TICK, MB = os.sysconf("SC_CLK_TCK"), 1e6


@dataclass(frozen=True)
class Ran:
    """A study that ran: its trials an hour; the driver's share of one core from the first trial's end to the last
    one's, in [0, 1], as it opens its stores before; MB at most.
    """

    slots: int
    trials: int
    updates: int
    seconds: float  # from the first start to the last end
    share: float
    driver: float
    rank: float

    @property
    def an_hour(self) -> float:
        return 3600 * self.trials / self.seconds


@dataclass
class Watched:
    """What was seen of a driver from outside: (time, seconds of the processor until then), and peaks of memory."""

    pid: int
    used: list[tuple[float, float]] = field(default_factory=list)
    driver: float = 0.0
    rank: float = 0.0

    def look(self) -> None:
        """Raises OSError once it has ended."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        self.used.append((time.time(), (int(fields[11]) + int(fields[12])) / TICK))
        self.driver = max(self.driver, _peak(self.pid))

    def look_at_ranks(self, study: Path) -> None:
        from tests.processes import ranks

        self.rank = max([self.rank, *(_peak(rank.pid) for rank in ranks(study))])

    def share(self, since: float, until: float) -> float:
        """Seconds of the processor a second, between two times."""
        began, before = max(one for one in self.used if one[0] <= since)
        ended, after = min((one for one in self.used if one[0] >= until), default=self.used[-1])
        return (after - before) / (ended - began)


def measure(slots: int, *, seeds: int, updates: int, study: Path = STUDY, sets: Sequence[str] = ()) -> Ran:
    """Run the study anew in a folder of its own. Raises RuntimeError with what it said where it fails."""
    asked = [*ALONE, f"resources.slots={slots}", f"seeds={seeds}", f"base.budget.generator_updates={updates}",
             f"base.evaluate.every={max(1, updates // EVALUATIONS)}", *sets]  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        runs, said = Path(temporary) / "runs", Path(temporary) / "said.txt"
        words = [sys.executable, "-P", "-m", "ablate.cli", "run", str(study), "--runs", str(runs)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with open(said, "wb") as output:
            driver = subprocess.Popen([*words, *(word for one in asked for word in ("--set", one))], cwd=temporary,
                                      env=environment, stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
        watched = _watch(driver, runs / study.stem)
        if driver.returncode:
            raise RuntimeError(f"ended with {driver.returncode}: {said.read_text()[-2000:]}")
        return _folded(runs / study.stem, watched, slots, updates)


def _watch(driver: subprocess.Popen, study: Path) -> Watched:
    watched, ranks_seen = Watched(driver.pid), time.time()
    while driver.poll() is None:
        watched.look()
        if time.time() - ranks_seen > LOOK_AT_RANKS:
            watched.look_at_ranks(study)
            ranks_seen = time.time()
        time.sleep(LOOK)
    return watched


def _folded(study: Path, watched: Watched, slots: int, updates: int) -> Ran:
    streams = [path.read_text().splitlines() for path in study.glob("trials/*/events.jsonl")]
    began = min(json.loads(lines[0])["time"] for lines in streams)
    ends = sorted(json.loads(lines[-1])["time"] for lines in streams)
    assert all(json.loads(lines[-1])["status"] == "done" for lines in streams)
    share = watched.share(ends[0], ends[-1])
    return Ran(slots, len(streams), updates, ends[-1] - began, share, watched.driver, watched.rank)


def _peak(pid: int) -> float:
    """MB of a process at most until now; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / MB for line in lines if line.startswith("VmHWM")), 0.0)
