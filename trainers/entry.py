"""What a rank runs, and how it ends: with its parent, or with last words of its own."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from ablate.processes import UNSAID
from ablate.records import TrialFolder
from trainers import lastwords

PR_SET_PDEATHSIG = 1


def main(kind: str, folder: str, parent: int | None = None) -> None:
    """Run one job of `kind` (`run` a trial, score `references`) in `folder` on this rank.

    An exception is written to `error.<rank>.json` before it ends the process. `parent` is the
    launcher's pid when there is one: such a rank then exits at once, with code 1, or 74 where its last words
    could not be written. (Leaving the process group in good order could tell the peers first, or hang.)

    SIGUSR1, by which schedulers tell of the end of a job's time, has the trial write a checkpoint and end well.
    """
    end_with_parent()
    paths = TrialFolder(Path(folder))
    signal.signal(signal.SIGUSR1, lambda *_: paths.stop.touch())
    if parent is not None:
        _speak_into(paths.log)
    try:
        _job(kind)(paths.root)
    except Exception as error:
        said = _said(paths, error)
        if parent is None:
            raise
        traceback.print_exc()
        os._exit(1 if said else UNSAID)


def _said(paths: TrialFolder, error: Exception) -> bool:
    try:
        lastwords.write(paths, error)
    except OSError as unsaid:
        print(f"last words could not be written: {unsaid}", file=sys.stderr)
        return False
    return True


def _job(kind: str) -> Callable[[Path], None]:
    if kind == "run":
        from trainers.train import run

        return run
    if kind == "references":
        from trainers.references import run

        return run
    raise ValueError(f"no such job: {kind!r}; there are references, run")


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
