"""Where trials run. An executor starts a job in its folder and says how it ended; no more.

The local executor keeps one launcher process per slot (see `trainers.launcher`), whose ranks stay from job to job
where that is safe. This module never imports torch.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from ablate import processes

READY_SECONDS = 300  # for a launcher to load torch, on a busy or slow machine too
STOP_SECONDS = 15  # from SIGTERM to SIGKILL; the launcher itself gives its ranks 10
FROZEN_SECONDS = 30  # that a launcher may be stopped (SIGSTOP)
DESERTED_SECONDS = 120  # that it may say nothing of a job none of whose ranks can be found
BESIDE = "ABLATE_BESIDE"  # tells a job how many trials may share its device
LOOK_SECONDS = 2  # between looks at the processes


@dataclass(frozen=True)
class Outcome:
    """How a job ended: exit codes of the ranks that failed (negative: a signal). `lost` when its launcher died.

    A scheduler that knows more says it in `said`: that the job was `preempted`, or that what ended it was the
    `arms` own doing, as memory over its limit.
    """

    failures: Mapping[int, int] = field(default_factory=dict)
    lost: bool = False
    said: str = ""
    preempted: bool = False
    arms: bool = False

    @property
    def clean(self) -> bool:
        return not self.failures and not self.lost


class CannotLaunch(RuntimeError):
    """No job can start here: the environment is at fault, not a trial."""


class Handle(Protocol):
    def poll(self) -> Outcome | None:
        """The outcome, the same however often one asks, or None while the job runs."""

    def stop(self) -> None:
        """End the job now; its last checkpoint stays."""


class Executor(Protocol):
    outlives: bool  # whether its jobs go on when the driver has gone

    def warm_up(self) -> None:
        """Do ahead of the first job what takes time. Raises CannotLaunch where none could start."""

    def free(self) -> int:
        """How many more jobs can start now."""

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        """Start a job whose spec.json lies in `folder`."""

    def adopt(self, folder: Path) -> Handle | None:
        """The job in `folder` that an earlier driver has started and that still runs or waits."""

    def wait(self, seconds: float) -> None:
        """Sleep until a job may have ended, that long at most."""

    def leave(self) -> None:
        """The driver goes and jobs go on, where they outlive it; what has not begun need not be kept for them."""

    def close(self) -> None:
        """End everything that was started."""


def _last_line(path: str) -> str:
    lines = Path(path).read_text(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")


@dataclass
class Stuck:
    """Whether a launcher does its work no more: it was stopped, or its ranks have gone and it has not noticed.

    Between two looks few seconds count, however many have passed: this process may have been frozen as well.
    """

    pid: int
    log: Path | None = None  # of its job
    clock: Callable[[], float] = time.monotonic
    frozen: float = 0.0
    deserted: float = 0.0
    _last: float | None = None
    _rank: int | None = None  # one that was found

    def look(self) -> bool:
        now = self.clock()
        if self._last is not None and now - self._last < LOOK_SECONDS:
            return False
        passed = 0.0 if self._last is None else min(now - self._last, 2 * LOOK_SECONDS)
        self._last = now
        self.frozen = self.frozen + passed if processes.state(self.pid) in processes.STOPPED else 0.0
        self.deserted = 0.0 if self._there() else self.deserted + passed
        return self.frozen > FROZEN_SECONDS or self.deserted > DESERTED_SECONDS

    def _there(self) -> bool:
        """Whether the job has a rank: the one of the last look, or any."""
        if self.log is None or (self._rank is not None and processes.speaks_into(self._rank, self.log)):
            return True
        self._rank = next(processes.speaking_into(self.log), None)
        return self._rank is not None


class Launcher:
    """One launcher process and the job it is running, if any."""

    def __init__(self, log: IO[bytes], slot: int = 0, devices: str | None = None, beside: int = 1):
        """`beside` trials at most share the devices that its jobs see, its own included."""
        self.slot, self._log = slot, log
        # Its own session: Ctrl-C in the terminal reaches the driver alone, which then decides.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "trainers.launcher"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            env={**os.environ, **({} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}), BESIDE: str(beside)},
        )  # fmt: skip
        self._received = b""
        self.busy, self.ready, self._born = False, False, time.monotonic()
        self._stuck = Stuck(self.process.pid)

    def send(self, job: Mapping[str, object]) -> None:
        self.busy = True
        self._stuck = Stuck(self.process.pid, Path(str(job["folder"])) / "log.txt")
        try:
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: the next poll says so

    def poll(self) -> Outcome | None:
        """The outcome of the running job when its reply has come or the launcher is gone."""
        for reply in self._replies():
            if "cannot" in reply:
                raise CannotLaunch(reply["cannot"])
            self.ready = True
            if "failures" in reply:
                self.busy = False
                return Outcome({int(rank): code for rank, code in reply["failures"].items()})
        if not self.ready and time.monotonic() - self._born > READY_SECONDS:
            raise CannotLaunch(f"the launcher has not become ready within {READY_SECONDS} s")
        if self.ready and self._stuck.look():
            self.process.kill()
            self.process.wait()
        if self.process.poll() is not None:
            self.busy = False
            if not self.ready and self.process.returncode > 0:  # by itself: it would do so again
                raise CannotLaunch(
                    f"the launcher ended with code {self.process.returncode} before its first job"
                    f" ({_last_line(self._log.name)}); see {self._log.name}"
                )
            return Outcome(lost=True)
        return None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def _replies(self) -> list[dict]:
        while select.select([self.process.stdout], [], [], 0)[0]:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                break
            self._received += chunk
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        """SIGTERM, on which it ends its ranks; SIGKILL if that takes too long."""
        if self.alive:
            if self.busy:
                self.process.send_signal(signal.SIGTERM)
            self.process.stdin.close()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.busy = False
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


@dataclass
class LocalHandle:
    launcher: Launcher
    outcome: Outcome | None = None

    def poll(self) -> Outcome | None:
        self.outcome = self.outcome or self.launcher.poll()
        return self.outcome

    def stop(self) -> None:
        if self.outcome is None:  # after it the launcher is another job's
            self.launcher.end()
            self.outcome = Outcome(lost=True)


class LocalExecutor:
    """Jobs on this machine, at most `slots` side by side.

    `devices` are the CUDA devices to share out: each slot sees its own, in equal parts; where there are more slots
    than devices, slots take turns in being put beside others on one.
    """

    outlives = False  # launchers and ranks end with the process that started them

    def __init__(self, slots: int, log: Path, *, devices: Sequence[str] = ()):
        self.slots, self._devices = slots, devices
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = open(log, "ab")
        self._launchers: list[Launcher] = []

    def warm_up(self) -> None:
        """Start the launchers now: they load torch while the driver does other things."""
        while len(self._launchers) < self.slots:
            taken = {launcher.slot for launcher in self._launchers}
            slot = next(slot for slot in range(self.slots) if slot not in taken)
            devices = self._share(slot)
            beside = [self._share(other) for other in range(self.slots)].count(devices) if devices else 1
            self._launchers.append(Launcher(self._log, slot, devices, beside))

    def _share(self, slot: int) -> str | None:
        if not self._devices:
            return None
        if self.slots > len(self._devices):
            return self._devices[slot % len(self._devices)]
        each = len(self._devices) // self.slots
        return ",".join(self._devices[slot * each : (slot + 1) * each])

    def free(self) -> int:
        return self.slots - sum(launcher.busy for launcher in self._launchers)

    def start(self, kind: str, folder: Path, *, ranks: int, threads: int) -> Handle:
        self._launchers = [launcher for launcher in self._launchers if launcher.alive or launcher.busy]
        self.warm_up()
        launcher = next(launcher for launcher in self._launchers if not launcher.busy)
        launcher.send({"kind": kind, "folder": str(folder.absolute()), "ranks": ranks, "threads": threads})
        return LocalHandle(launcher)

    def adopt(self, folder: Path) -> None:
        """None: nothing of a dead driver's is alive."""

    def wait(self, seconds: float) -> None:
        select.select([launcher.process.stdout for launcher in self._launchers if launcher.busy], [], [], seconds)

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.end()
        self._launchers.clear()
        self._log.close()
