"""Long-lived launcher: keeps a forkserver with torch loaded, and ranks from it for job after job (`trainers.pool`).

A fresh interpreter that imports torch costs seconds per trial; forking one that has it costs milliseconds. One
launcher runs one job at a time and never loads torch itself, but for jobs on several machines. It speaks JSON lines:
a job on stdin, its outcome on stdout. SIGTERM ends its ranks, then itself.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pkgutil
import select
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO, Any

from ablate.records import TrialFolder
from trainers import stopped
from trainers.entry import end_with_parent
from trainers.families import DISCRIMINATORS, GENERATORS, METRICS, OBJECTIVES, TERMS
from trainers.pool import Job, Pool, asked_to_be_fresh
from trainers.watchdog import Limits

# Adam and DDP import torch._dynamo at their first use: 2 s in every rank if it is not there before.
PRELOAD = ["trainers.preload", "torch", "torch._dynamo", "torch.distributed", "pytorch_msssim", "trainers.train",
           "trainers.references", "trainers.resident", "trainers.pristine"]  # fmt: skip


def serve() -> None:
    end_with_parent()
    if _deserted():
        return
    replies = _claim_stdout()
    signal.signal(signal.SIGTERM, _leave)
    try:
        Limits.from_environment()
        asked_to_be_fresh()
    except ValueError as error:
        return _say(replies, {"cannot": str(error)})
    pool = Pool(loaded())
    _say(replies, {"ready": os.getpid()})
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            meeting = asked.pop("meeting", None)
            job = Job(**asked)
            _say(replies, launch_part(job, meeting) if meeting else launch(job, pool))
    finally:
        pool.close()


def loaded() -> ForkServerContext:
    """A context whose forkserver has loaded torch and all that trains. Raises what kept it from that."""
    context = multiprocessing.get_context("forkserver")
    preload = [*PRELOAD, *_part_modules()]
    context.set_forkserver_preload(preload)
    _check_preload(context, preload)
    return context


def _deserted() -> bool:
    """Whether the driver died before this process had seen to ending with it."""
    asked = select.poll()
    asked.register(0, select.POLLHUP)
    return any(event & select.POLLHUP for _, event in asked.poll(0))


def _say(replies: IO[str], reply: dict) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def launch(job: Job, pool: Pool) -> dict:
    """Run the job to its end. `{"failures": {rank: exit code}}`, empty when all ranks ended well.

    A negative exit code is the signal that ended the rank.
    """
    with stopped.ended(TrialFolder(Path(job.folder)).log, limit=Limits.from_environment().step):
        return {"failures": {str(rank): code for rank, code in pool.run(job).items()}}


def launch_part(job: Job, meeting: Mapping[str, Any]) -> dict:
    """As `launch`, this machine's part of a job on several; `meeting` is for `trainers.elastic.launch`."""
    from trainers import elastic

    with stopped.ended(TrialFolder(Path(job.folder)).log, limit=Limits.from_environment().step):
        failures = elastic.launch(job, **meeting, start_method="forkserver")
    signal.signal(signal.SIGTERM, _leave)  # torch's agent has put its own in place
    return {"failures": {str(rank): code for rank, code in failures.items()}}


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _claim_stdout():
    """The pipe to the driver, kept apart: whatever else prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _part_modules() -> list[str]:
    """The modules of the families that training builds from, also those that hold their torch code."""
    families = (GENERATORS, DISCRIMINATORS, OBJECTIVES, TERMS, METRICS)
    return [
        f"{family.package}.{module.name}"
        for family in families
        for module in pkgutil.iter_modules(import_module(family.package).__path__)
    ]


def _report_preload(answers: Connection, preload: list[str]) -> None:
    answers.send([name for name in preload if name not in sys.modules])


def _check_preload(context, preload: list[str]) -> None:
    """The forkserver swallows import errors of its preload: ask a child what it was born with."""
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_report_preload, args=(theirs, preload))
    child.start()
    theirs.close()
    try:
        missing = ours.recv()
    except EOFError:
        raise RuntimeError("the forkserver died while it loaded torch") from None
    child.join()
    if missing:
        for name in missing:
            __import__(name)  # raises the error that was swallowed
        raise RuntimeError(f"the forkserver did not preload {', '.join(missing)}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s launcher %(message)s")
    serve()
