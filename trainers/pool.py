"""Ranks that stay between jobs: the launcher's side. Handing over a job costs a millisecond, starting ranks fifty.

A team is handed another job only if every rank has answered that it is as it was before; else, and wherever a leak
cannot be excluded (on CUDA, or with ABLATE_WORKERS=fresh), the next job gets fresh ranks. Numbers do not depend on it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

from ablate.records import TrialFolder
from trainers.resident import AWAKE, DONE, stay

ENVIRONMENT, FRESH = "ABLATE_WORKERS", "fresh"
GRACE_SECONDS = 10  # from SIGTERM to SIGKILL
AWAKE_SECONDS = 10  # for idle ranks to answer; one that is stopped never does
OURS = (-signal.SIGTERM, -signal.SIGKILL)  # how ranks end that are ended from here


@dataclass(frozen=True)
class Job:
    """What the driver asks for: `kind` is `run` or `references`."""

    kind: str
    folder: str
    ranks: int
    threads: int

    @property
    def may_stay(self) -> bool:
        """Whether its ranks may go on to another job."""
        return not asked_to_be_fresh() and self._device() == "cpu"

    def _device(self) -> str:
        """Of a trial as its spec.json states it; references are scored on the CPU."""
        if self.kind != "run":
            return "cpu"
        try:
            return json.loads(TrialFolder(Path(self.folder)).spec.read_text())["spec"]["device"]
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown"  # its ranks will say so


def asked_to_be_fresh(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ABLATE_WORKERS asks for new ranks for every job. Raises ValueError for anything else in it."""
    asked = environment.get(ENVIRONMENT, "")
    if asked not in ("", FRESH):
        raise ValueError(f"{ENVIRONMENT}: {asked!r}: expected {FRESH}, or nothing")
    return asked == FRESH


class Pool:
    """One team at a time: a job of another shape gets another."""

    def __init__(self, context: ForkServerContext):
        self._context, self._team = context, None

    def run(self, job: Job) -> dict[int, int]:
        """Run the job to its end: exit codes of the ranks that failed by themselves, the first to fail first.

        A negative code is a signal. Raises OSError where no rank can be started.
        """
        if self._team and not (job.may_stay and self._team.shape == (job.ranks, job.threads) and self._team.awake()):
            self.close()
        self._team = self._team or Team(self._context, job.ranks, job.threads)
        failures = self._team.run(job)
        if not (job.may_stay and self._team.fit):
            self.close()
        return failures

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the ranks that there are now, in their order."""
        return self._team.pids if self._team else ()

    def close(self) -> None:
        """End all ranks."""
        if self._team:
            self._team.end()
        self._team = None


class Team:
    """The ranks of one process group. `fit` says whether they may be handed another job."""

    def __init__(self, context: ForkServerContext, ranks: int, threads: int):
        self.shape, self.fit = (ranks, threads), True
        self._processes, self._pipes = [], []
        with socket.create_server(("127.0.0.1", 0)) as listener:  # bound before it is told: no race for a port
            port = listener.getsockname()[1]
            for rank in range(ranks):
                ours, theirs = context.Pipe()
                facts = _environment(rank, ranks, threads, port)
                process = context.Process(target=stay, args=(facts, listener if rank == 0 else None, theirs))
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(ours)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self._processes)

    def awake(self) -> bool:
        """Whether every rank answers."""
        if not all(_send(pipe, None) for pipe in self._pipes):
            return False
        end = time.monotonic() + AWAKE_SECONDS
        return all(pipe.poll(max(0.0, end - time.monotonic())) and _receive(pipe) == AWAKE for pipe in self._pipes)

    def run(self, job: Job) -> dict[int, int]:
        """As Pool.run. The first rank that fails has the others ended."""
        for pipe in self._pipes:
            _send(pipe, (job.kind, job.folder))  # one that can't take it has died, and is met below
        waiting, failures = dict(enumerate(self._pipes)), {}
        while waiting and not failures:
            ready = wait([*waiting.values()])
            for rank in [rank for rank, pipe in waiting.items() if pipe in ready]:
                answer = _receive(waiting.pop(rank))
                self.fit = self.fit and answer == DONE
                if answer is None and (code := self._code(rank)):
                    failures[rank] = code
        if failures:
            self.end()
            ended = {rank: self._code(rank) for rank in range(len(self._pipes)) if rank not in failures}
            failures |= {rank: code for rank, code in ended.items() if code and code not in OURS}
        return failures

    def _code(self, rank: int) -> int | None:
        """The exit code of a rank whose pipe has closed."""
        self._processes[rank].join(GRACE_SECONDS)
        return self._processes[rank].exitcode

    def end(self) -> None:
        """SIGTERM, from which a stopped rank is woken; SIGKILL if that takes too long."""
        self.fit = False
        for process in self._processes:
            for number in (signal.SIGTERM, signal.SIGCONT):
                _signal(process, number)
        end = time.monotonic() + GRACE_SECONDS
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                _signal(process, signal.SIGKILL)
                process.join()
        for pipe in self._pipes:
            pipe.close()


def _environment(rank: int, ranks: int, threads: int, port: int) -> Mapping[str, str]:
    """What torchrun would give the rank; the store is served by rank 0 already when the others look for it."""
    facts = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip
    if sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
        facts["GLOO_SOCKET_IFNAME"] = "lo"  # else the address that the host's name resolves to
    return facts


def _send(pipe: Connection, message: object) -> bool:
    try:
        pipe.send(message)
    except OSError:
        return False
    return True


def _receive(pipe: Connection) -> str | None:
    """An answer; None where the rank has gone."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _signal(process, number: int) -> None:
    if process.exitcode is None:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            pass  # it has just ended
