"""What a rank runs, and what it leaves behind when it dies: its own last words."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from ablate.records import TrialFolder, write_atomically

PR_SET_PDEATHSIG = 1
# gloo raises plain RuntimeErrors; these stand in all that a lost or silent peer causes.
LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Timed out waiting",
    "gloo/transport",
    "Broken pipe",
)


def main(kind: str, folder: str, parent: int | None = None) -> None:
    """Run one job of `kind` (`run` a trial, score `references`) in `folder` on this rank.

    An exception is written to `error.<rank>.json` before it ends the process. `parent` is the
    launcher's pid when there is one.
    """
    end_with_parent()
    paths = TrialFolder(Path(folder))
    if parent is not None:
        _speak_into(paths.log)
    try:
        _job(kind)(paths.root)
    except Exception as error:
        _last_words(paths, error)
        raise


def _job(kind: str) -> Callable[[Path], None]:
    if kind == "run":
        from trainers.train import run

        return run
    if kind == "references":
        from trainers.references import run

        return run
    raise ValueError(f"no such job: {kind!r}; there are references, run")


def _last_words(paths: TrialFolder, error: Exception) -> None:
    rank = int(os.environ.get("RANK", "0"))
    document = {
        "time": time.time(), "rank": rank, "kind": kind_of(error), "type": type(error).__name__, "message": str(error),
        "traceback": traceback.format_exc(),
    }  # fmt: skip
    write_atomically(paths.error(rank), json.dumps(document, indent=1))


def kind_of(error: BaseException) -> str:
    """Whose failure an exception is: `data`, `machine` (resumed) or `arm` (an outcome, not retried).

    A collective that fails says that a peer, or the way to it, has gone.
    """
    from torch.distributed import DistError

    from trainers.pairs import DataError

    if isinstance(error, DataError):
        return "data"
    if isinstance(error, DistError | OSError) or any(sign in str(error) for sign in LOST_PEER):
        return "machine"
    return "arm"


def _speak_into(log: Path) -> None:
    """Send this rank's output to the trial's log, also what C++ prints."""
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    os.close(stream)


def end_with_parent() -> None:
    """See to it that this process does not outlive the one that started it.

    Under a forkserver the parent's death shows at a pipe (PDEATHSIG would follow the forkserver);
    elsewhere the kernel sends SIGKILL.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
