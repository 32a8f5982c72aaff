"""What a rank runs, and how it ends: with its parent, or with last words of its own."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

from ablate.processes import UNSAID
from ablate.records import TrialFolder
from trainers import lastwords

PR_SET_PDEATHSIG = 1


def main(kind: str, folder: str) -> None:
    """Run one job of `kind` (`run` a trial, score `references`) in `folder` on this rank, by hand or under torchrun.

    An exception is written to `error.<rank>.json` before it ends the process.
    SIGUSR1, by which schedulers tell of the end of a job's time, has the trial write a checkpoint and end well.
    """
    end_with_parent()
    paths = TrialFolder(Path(folder))
    try:
        _perform(kind, paths)
    except Exception as error:
        _said(paths, error)
        raise


def work(kind: str, folder: str) -> None:
    """As `main`, on a rank of a launcher's: what it says meanwhile goes to the trial's log.

    An exception ends the process at once, with code 1, or 74 where its last words could not be written. (Leaving
    the process group in good order could tell the peers first, or hang.)
    """
    paths = TrialFolder(Path(folder))
    with _speaking_into(paths.log):
        try:
            _perform(kind, paths)
        except Exception as error:
            said = _said(paths, error)
            traceback.print_exc()
            os._exit(1 if said else UNSAID)


def _perform(kind: str, paths: TrialFolder) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: paths.stop.touch())
    _job(kind)(paths.root)


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


@contextmanager
def _speaking_into(log: Path) -> Iterator[None]:
    """This rank's output, also what C++ prints, goes to the trial's log; after the block where it went before."""
    _flush()
    before = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in before:
        os.dup2(stream, descriptor)
    os.close(stream)
    yield
    _flush()
    for descriptor, kept in before.items():
        os.dup2(kept, descriptor)
        os.close(kept)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    ctypes.CDLL(None).fflush(None)


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
