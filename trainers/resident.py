"""A rank that stays: it is handed job after job, keeps its process group between them, and answers after each.

Whatever goes wrong ends its process, whose exit code says how. The launcher imports this too: torch only inside.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from socket import socket

from ablate import failpoints
from trainers import entry, lastwords

AWAKE, DONE, SPENT = "awake", "done", "spent"  # its answers; one that is spent must not be handed another job


def stay(environment: Mapping[str, str], listener: socket | None, jobs: Connection) -> None:
    """Take (kind, folder) from `jobs` until it closes; None asks whether this rank is awake.

    `environment` is what torchrun gives a rank; `listener` is rank 0's alone, which serves the group's store there.
    """
    from torch.distributed import TCPStore

    from trainers import ranks

    os.environ |= environment
    entry.end_with_parent()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # between jobs nothing needs a checkpoint
    served = listener and TCPStore(
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=True, wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )  # fmt: skip
    ranks.stay()
    gc.freeze()  # what was there before the first job need not be looked through after each
    for job in _asked(jobs):
        jobs.send(AWAKE if job is None else _do(*job))
    del served
    os._exit(0)  # nothing is left to write, and threads of gloo's may stand in the way of the interpreter's own exit


def _asked(jobs: Connection) -> Iterator[tuple[str, str] | None]:
    while True:
        try:
            yield jobs.recv()
        except (EOFError, OSError):
            return  # the launcher wants this rank no more, or is gone


_jobs, _taken = 0, 0.0


def since_taken() -> float | None:
    """Seconds since this rank took its job; None in a process that has had no other before."""
    return time.monotonic() - _taken if _jobs > 1 else None


def _do(kind: str, folder: str) -> str:
    from trainers import pristine

    global _jobs, _taken
    _jobs, _taken = _jobs + 1, time.monotonic()
    before = pristine.threads()
    with pristine.unchanged():
        lastwords.forget_peak()
        failpoints.arm(failpoints.asked_for())
        entry.work(kind, folder)
    return DONE if pristine.threads() <= before else SPENT
