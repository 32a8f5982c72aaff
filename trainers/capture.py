"""How work for a device is taken down once and given to it again: by CUDA graphs, or, elsewhere, not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

Result = TypeVar("Result")


class Capture(Protocol):
    """`captures` is False where there is nothing to gain: then `run` alone is called."""

    captures: bool

    def run(self, work: Callable[[], Result]) -> Result:
        """Do the work as any other, where it may be captured afterwards."""

    def capture(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """What does the work again, and its result, which each time stands in the same tensors.

        Nothing has been computed afterwards. Raises RuntimeError where the work can't be captured.
        """

    def make_room(self) -> None:
        """Other work than before is about to be run."""

    def end(self) -> None:
        """What was captured is not called any more."""


class Eagerly:
    captures = False

    def run(self, work: Callable[[], Result]) -> Result:
        return work()

    def capture(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        raise RuntimeError("there is nothing that captures work on this device")

    def make_room(self) -> None:
        pass

    def end(self) -> None:
        pass


class ByCuda:
    """On a stream of its own: what torch makes on a first use must not belong to another one."""

    captures = True

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()  # graphs that run one after another may have their memory in common

    def run(self, work: Callable[[], Result]) -> Result:
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = work()
        here.wait_stream(self.stream)
        return result

    def capture(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        here, graph = torch.cuda.current_stream(self.device), torch.cuda.CUDAGraph()
        try:
            # Of this thread alone: others, as NCCL's own, may ask the device something meanwhile.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                result = work()
        except RuntimeError:
            torch.cuda.set_stream(here)  # a capture that fails may leave its own
            raise
        return graph.replay, result

    def make_room(self) -> None:
        """What torch has kept of memory for work on another stream can't be used on this one."""
        torch.cuda.empty_cache()

    def end(self) -> None:
        torch.cuda.synchronize(self.device)  # a graph may still be at work
        self.pool = torch.cuda.graph_pool_handle()
