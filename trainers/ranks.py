"""Ranks of one training job: every rank walks the same path; rank 0 decides and all agree."""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def agree(self, flag: bool) -> bool:
        """Rank 0's flag, on every rank."""
        if not dist.is_initialized():
            return flag
        message = torch.tensor([float(flag)], device=self.device)
        dist.broadcast(message, src=0)
        return bool(message.item())

    def gather(self, value: Any) -> list[Any]:
        """A small value of every rank, in their order, on every rank."""
        if not dist.is_initialized():
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks; the same tensor on every rank."""
        if dist.is_initialized():
            values = values.clone()
            dist.all_reduce(values)
        return values

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replace floating tensors by their mean over ranks, in one collective."""
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.size == 1 or not floating:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in floating])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in floating])
        for tensor, mean in zip(floating, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network under DDP where there are several ranks, else itself: alone, DDP reduces nothing and takes a
        twelfth of a small step.

        Buffers are not broadcast: D is called on real and fake before one backward, and a broadcast
        between the two forwards would change what the first one saved.
        """
        if self.size == 1 or not dist.is_initialized():
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        with warnings.catch_warnings():  # the name that replaces broadcast_buffers is younger than torch 2.11
            warnings.simplefilter("ignore", FutureWarning)
            return nn.parallel.DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)


def bare(network: nn.Module) -> nn.Module:
    """The network without its DDP wrapper."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


_stays = False


def stay() -> None:
    """From now on the group that this process joins outlives the job: the next `join` finds it."""
    global _stays
    _stays = True


@contextmanager
def join(device: str, *, patience: float = 660) -> Iterator[Ranks]:
    """The ranks of this job, from torchrun's environment; a single process where there is none.

    A collective fails when a peer has not come to it for `patience` seconds (gloo's own default is 30 minutes).
    An exception leaves the group as it is: its sockets close with the process, after its last words. A rank that
    stays keeps its group, and `patience` is that of its first job.
    """
    if "RANK" not in os.environ:
        yield Ranks(device=_device(device, 0))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    if not (_stays and dist.is_initialized()):
        dist.init_process_group(
            backend, timeout=datetime.timedelta(seconds=patience), device_id=chosen if backend == "nccl" else None
        )  # fmt: skip
    yield Ranks(rank=dist.get_rank(), size=dist.get_world_size(), device=chosen)
    if not _stays:
        dist.destroy_process_group()


def _device(kind: str, local_rank: int) -> torch.device:
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError("the trial asks for device cuda, but this torch sees no CUDA device")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
