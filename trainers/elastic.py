"""Ranks on several machines, started by torch's elastic agent on each of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from trainers.pool import Job


def launch(
    job: Job, *, nodes: int, meet: str, run: str, here: str | None = None, first: bool | None = None,
    start_method: str = "spawn",
) -> Mapping[int, int]:  # fmt: skip
    """This machine's part of a job on `nodes` machines: exit codes of its ranks that failed, as Pool.run.

    The agents meet at `meet` (host:port of one of them; c10d), where only those of the same `run` belong together.
    `here` is this machine's address and `first` whether `meet` is on it, where names do not lead to addresses. Numbers
    are those of as many ranks on one machine.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    logs = tempfile.mkdtemp()  # of the agent's own; ranks speak into their trial's log
    config = LaunchConfig(
        min_nodes=nodes, max_nodes=nodes, nproc_per_node=job.ranks // nodes, run_id=run, rdzv_backend="c10d",
        rdzv_endpoint=meet, max_restarts=0, start_method=start_method, local_addr=here,
        rdzv_configs={} if first is None else {"is_host": first},
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )  # fmt: skip
    try:
        elastic_launch(config, _rank)(job.kind, job.folder)
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    return {}


def _rank(kind: str, folder: str) -> None:
    from trainers import entry

    entry.end_with_parent()
    entry.work(kind, folder)
