"""A crash monkey: SIGKILLs of a real study's driver, launcher and ranks at moments of a fixed seed.

    python -m tests.ablate.monkey --kills 200 --seed 7 --keep FOLDER

Every study is killed 20 times and started again after each death of its driver; after every kill, and in the end, the
oracle is asked (tests/invariants.py), and numbers are compared with those of a study that nobody disturbed. Victims,
moments and delays come from the seed; where exactly a kill falls is the machine's choice, and is told by the table.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ablate.records import StudyFolder
from tests import processes
from tests.ablate import studies
from tests.ablate.moments import MOMENTS, Moments
from tests.invariants import Acknowledged, crowded, violations

VICTIMS = ("driver", "rank 0", "rank 1", "launcher", "all")
OF_A_DRIVER = ("driver", "all")
A_STUDY = 20  # kills
# Seconds from the first sign of a moment within which the kill falls.
SPAN = {"start": 4.0, "store": 1.5, "references": 0.5, "training": 0.5, "evaluation": 0.05, "checkpoint": 0.05,
        "final": 0.05, "between": 0.2, "end": 0.5, "report": 0.6}  # fmt: skip
OPENING = ("store", "store", "start", "start", "references")
CLOSING = ("between", "end", "report", "report")
COMMAND = "python -m tests.ablate.monkey"
POLL = 0.002
PATIENCE = 300  # seconds for a moment to come, or a study to end, on a busy machine
STARTED, ATTEMPTS = b'"event":"started"', 4  # of a trial; from then on its ranks are spared: a sixth is its last

STUDY = """\
name: tiny
question: Does anything change?
base:
  data: {layout: synthetic, tile: 32, scenes: 6, size: 64}
  generator: {name: unet, width: 4, norm: instance}
  discriminator: {name: patchgan, width: 4, layers: 2, norm: instance}
  batch: 4
  budget: {generator_updates: 240}
  evaluate: {every: 80, test: true}
factors:
  lr_ratio:
    half: {optimizer.lr_ratio: 0.5}
  objective:
    hinge: {objective.name: hinge}
design: one_at_a_time
seeds: 4
metric: {name: gmsd, smallest_effect: 0.005}
also: [psnr, mae]
resources: {ranks: 2}
"""


@dataclass(frozen=True)
class Kill:
    """Whom to kill, at which moment, and how far into it (0 to 1)."""

    victim: str
    moment: str
    delay: float


def draw(seed: int, kills: int = A_STUDY) -> list[Kill]:
    """The kills of one study: its start, its trials, its end. Fewer than a study's are a sample, in order."""
    dice = random.Random(seed)
    inner = _dealt(dice, ("training", "evaluation", "checkpoint", "final"), A_STUDY - len(OPENING) - len(CLOSING))
    victims = _dealt(dice, VICTIMS, len(inner))
    pairs = [(dice.choice(OF_A_DRIVER), moment) for moment in OPENING]
    pairs += zip(victims, inner, strict=True)
    pairs += [(dice.choice(OF_A_DRIVER), moment) for moment in CLOSING]
    drawn = [Kill(victim, moment, dice.random()) for victim, moment in pairs]
    return [drawn[n] for n in sorted(dice.sample(range(len(drawn)), kills))]


def _dealt(dice: random.Random, cards: tuple[str, ...], number: int) -> list[str]:
    """Cards drawn at random, each as often as any other, give or take one."""
    dealt: list[str] = []
    while len(dealt) < number:
        dealt += dice.sample(cards, len(cards))
    return dealt[:number]


class Subject(Protocol):
    """What is killed: a study under `ablate run`, or whatever else is started by one command and goes on when it is
    started again."""

    def start(self) -> subprocess.Popen: ...

    def moment(self, since: float) -> str: ...

    def comes(self, moment: str) -> bool:
        """Whether the moment may still come, in this life of the driver or the next."""

    def pids(self, victim: str, driver: int) -> list[int]:
        """Empty where there is no such process now."""

    def watch(self) -> list[str]:
        """Looked at now and then while it runs: what is wrong."""

    def look(self, after: str) -> list[str]:
        """What is wrong after a `kill` of the driver, or the `end`."""


@dataclass
class Outcome:
    """What the kills hit, and what was found wrong, a sentence each."""

    hits: Counter[tuple[str, str]] = field(default_factory=Counter)  # (victim, moment)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.hits + other.hits, self.wrong + other.wrong, self.seconds + other.seconds)

    def table(self) -> str:
        """Kills by victim and by the moment that they hit."""
        moments = [moment for moment in MOMENTS if any(hit == moment for _, hit in self.hits)]
        rows = [["victim", *moments, "all moments"]]
        for victim in VICTIMS:
            row = [self.hits[victim, moment] for moment in moments]
            rows.append([victim, *row, sum(row)])
        rows.append(["any", *(sum(self.hits[v, moment] for v in VICTIMS) for moment in moments), self.hits.total()])
        lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
        return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def torment(subject: Subject, kills: list[Kill], say: Callable[[str], None] = print) -> Outcome:
    """Kill as told, start again after each death of the driver, and let it end."""
    began, outcome, driver, since = time.monotonic(), Outcome(), None, 0.0
    for number, kill in enumerate(kills, 1):
        if driver is None:
            driver, since = subject.start(), time.time()
        code, pids = _await(subject, kill, driver, since, outcome)
        if code is not None:  # it ended before the moment came: its next life is cut somewhere
            outcome.wrong += _said(subject, number, "end", code)
            driver, since = subject.start(), time.time()
            time.sleep(SPAN["start"] * kill.delay)
        victim = kill.victim if pids else "driver"
        moment = subject.moment(since)
        for pid in pids or [driver.pid]:
            _kill(pid)
        outcome.hits[victim, moment] += 1
        say(f"kill {number}: {victim} at {moment} (aimed at {kill.victim} at {kill.moment})")
        since = time.time()
        if victim in OF_A_DRIVER:
            driver.wait()
            driver = None
            outcome.wrong += _said(subject, number, "kill", 0)
    driver = driver or subject.start()
    outcome.wrong += _said(subject, len(kills), "end", _ended(driver))
    outcome.seconds = time.monotonic() - began
    return outcome


def _await(
    subject: Subject, kill: Kill, driver: subprocess.Popen, since: float, outcome: Outcome
) -> tuple[int | None, list[int]]:
    """Wait for the moment of the kill: the driver's exit code if it ends before, and whom to kill if they are there."""
    end, looked = time.monotonic() + PATIENCE, 0.0
    while time.monotonic() < end:
        if (code := driver.poll()) is not None:
            return code, []
        if not (comes := subject.comes(kill.moment)) or subject.moment(since) == kill.moment:
            time.sleep(SPAN[kill.moment if comes else "start"] * kill.delay)
            if (pids := subject.pids(kill.victim, driver.pid)) or not comes:
                return driver.poll(), pids
        if time.monotonic() - looked > 0.5:
            looked = time.monotonic()
            outcome.wrong += subject.watch()
        time.sleep(POLL)
    outcome.wrong.append(f"{kill.moment} has not come within {PATIENCE} s")
    return None, []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was faster


def _ended(driver: subprocess.Popen) -> int:
    try:
        return driver.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def _said(subject: Subject, number: int, after: str, code: int) -> Iterator[str]:
    if code:
        yield f"after kill {number}: the driver ended with code {code} by itself"
    yield from (f"after kill {number}: {words}" for words in subject.look(after))


# -- a study under `ablate run` -------------------------------------------------------------------


@dataclass
class Ablate:
    """The study in `root`; what the driver says is kept in `said.txt`."""

    root: Path
    undisturbed: StudyFolder | None = None

    def __post_init__(self) -> None:
        studies.write(self.root, STUDY)
        self.folder = StudyFolder(self.root / "runs", "tiny")
        self._moments, self._acknowledged = Moments(self.folder), Acknowledged()

    def start(self) -> subprocess.Popen:
        with open(self.root / "said.txt", "ab") as said:
            return studies.start("run", "tiny.yaml", cwd=self.root, into=said)

    def moment(self, since: float) -> str:
        self._moments.since = since
        return self._moments.now()

    def comes(self, moment: str) -> bool:
        if moment == "store":
            return not (self.folder.mlflow.exists() and self.folder.optuna.exists())
        if moment == "references":
            return b'"event":"ended"' not in _content(self.folder.references.events)
        return moment in ("start", "report") or not self._moments.all_ended() or self._moments.now() == "end"

    def pids(self, victim: str, driver: int) -> list[int]:
        below = processes.descendants(driver)
        if victim in OF_A_DRIVER:
            return [driver, *below] if victim == "all" else [driver]
        ranks = [rank for rank in processes.ranks(self.folder.root) if rank.pid in below]
        if len(ranks) < 2 or _content(self.folder.trial(ranks[0].trial).events).count(STARTED) > ATTEMPTS:
            return []
        return [processes.between(driver, ranks[0].pid)[0] if victim == "launcher" else ranks[int(victim[-1])].pid]

    def watch(self) -> list[str]:
        self._acknowledged.look(self.folder)
        return crowded(self.folder)

    def look(self, after: str) -> list[str]:
        self._acknowledged.look(self.folder)
        undisturbed = self.undisturbed if after == "end" else None
        return violations(self.folder, after=after, undisturbed=undisturbed, acknowledged=self._acknowledged)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


# -- the command ----------------------------------------------------------------------------------


def rounds(kills: int, seed: int, root: Path, *, keep: bool = True, say: Callable[[str], None] = print) -> Outcome:
    """Studies below `root`, each killed 20 times (the last one less), with seeds from `seed` on."""
    undisturbed = Ablate(root / "undisturbed")
    wrong = [*_said(undisturbed, 0, "end", _ended(undisturbed.start()))]
    assert not wrong, f"{undisturbed.root}, which nobody disturbed: {wrong}"
    found = Outcome()
    for number, done in enumerate(range(0, kills, A_STUDY)):
        own = seed + number
        say(f"study {number + 1}, seed {own}")
        study = Ablate(root / f"seed-{own}", undisturbed.folder)
        outcome = torment(study, draw(own, min(A_STUDY, kills - done)), say)
        found += outcome
        for words in outcome.wrong:
            say(f"WRONG: {words}")
        if outcome.wrong:
            say(f"kept: {study.root}; again: {COMMAND} --kills {min(A_STUDY, kills - done)} --seed {own}")
        elif not keep:
            shutil.rmtree(study.root)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=A_STUDY)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where all studies stay; else only what is wrong")
    given = parser.parse_args(arguments)
    root = given.keep or Path(tempfile.mkdtemp(prefix="monkey-"))
    found = rounds(given.kills, given.seed, root.absolute(), keep=given.keep is not None)
    print(f"\n{found.table()}\n\n{found.hits.total()} kills, seed {given.seed}, {found.seconds:.0f} s: ", end="")
    print(f"{len(found.wrong)} violations" if found.wrong else "no violation")
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
