"""Two real gloo ranks, for tests of what crosses them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing as mp

RANKS = 2


def on_two_ranks(job: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What `job(rank, *arguments)` returns on each rank; `job` stands at the head of a module."""
    mp.spawn(_rank, args=(str(folder), job, arguments), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def _rank(rank: int, folder: str, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    try:
        torch.save(job(rank, *arguments), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
    # A rank was once ended by SIGABRT ("terminate called without an active exception") on a loaded machine; where is
    # not known. This leaves out the interpreter's exit, with all results written, and hides no failure of the job.
    os._exit(0)
