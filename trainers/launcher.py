"""Long-lived launcher: keeps a forkserver with torch loaded and starts jobs through torch's elastic agent.

A fresh interpreter that imports torch costs seconds per trial; forking one that has it costs
milliseconds. One launcher runs one job at a time, in its main thread, since the elastic agent
handles signals there. It speaks JSON lines: a job on stdin, its outcome on stdout.
"""

from __future__ import annotations

import json
import logging
import multiprocessing.connection
import os
import pkgutil
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ablate.records import TrialFolder
from trainers import stopped
from trainers.entry import end_with_parent, main
from trainers.families import DISCRIMINATORS, GENERATORS, METRICS, OBJECTIVES, TERMS
from trainers.watchdog import Limits

# Adam and DDP import torch._dynamo at their first use: 2 s in every rank if it is not there before.
PRELOAD = ["torch", "torch._dynamo", "pytorch_msssim", "trainers.train", "trainers.references"]
MONITOR_SECONDS = 0.02  # how often the agent looks at its ranks


@dataclass(frozen=True)
class Job:
    """What the driver asks for: `kind` is `run` or `references`."""

    kind: str
    folder: str
    ranks: int
    threads: int


def serve() -> None:
    end_with_parent()
    replies = _claim_stdout()
    context = multiprocessing.get_context("forkserver")
    preload = [*PRELOAD, *_part_modules()]
    context.set_forkserver_preload(preload)
    _check_preload(context, preload)
    import_module("torch.distributed.launcher.api")  # before saying ready: the first job finds it loaded
    replies.write(json.dumps({"ready": os.getpid()}) + "\n")
    replies.flush()
    for line in sys.stdin:
        outcome = launch(Job(**json.loads(line)))
        replies.write(json.dumps(outcome) + "\n")
        replies.flush()


def launch(job: Job) -> dict:
    """Run the job to its end. `{"failures": {rank: exit code}}`, empty when all ranks ended well.

    A negative exit code is the signal that ended the rank.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    try:
        with stopped.ended(TrialFolder(Path(job.folder)).log, limit=Limits.from_environment().step):
            elastic_launch(_config(job), main)(job.kind, job.folder, os.getpid())
    except ChildFailedError as error:
        return {"failures": {str(rank): failure.exitcode for rank, failure in error.failures.items()}}
    return {"failures": {}}


def _config(job: Job):
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=job.ranks, run_id=os.path.basename(job.folder),
        rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", max_restarts=0,
        monitor_interval=MONITOR_SECONDS, start_method="forkserver", shutdown_timeout=10,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )  # fmt: skip


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


def _report_preload(queue, preload: list[str]) -> None:
    queue.put([name for name in preload if name not in sys.modules])


def _check_preload(context, preload: list[str]) -> None:
    """The forkserver swallows import errors of its preload: ask a child what it was born with."""
    queue = context.SimpleQueue()
    child = context.Process(target=_report_preload, args=(queue, preload))
    child.start()
    multiprocessing.connection.wait([child.sentinel, queue._reader])
    if queue.empty():
        raise RuntimeError("the forkserver died while it loaded torch")
    missing = queue.get()
    child.join()
    if missing:
        for name in missing:
            __import__(name)  # raises the error that was swallowed
        raise RuntimeError(f"the forkserver did not preload {', '.join(missing)}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s launcher %(message)s")
    try:
        serve()
    except Exception as error:
        if type(error).__name__ != "SignalException":  # the elastic agent's word for SIGTERM
            raise
