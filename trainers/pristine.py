"""A process that is after a job as it was before it: what makes a rank fit for the next one."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def _set_environment(names: dict[str, str]) -> None:
    """What is as it was is not touched: a thread of gloo's may be reading."""
    for name in os.environ.keys() - names.keys():
        del os.environ[name]
    for name in names:
        if os.environ.get(name) != names[name]:
            os.environ[name] = names[name]


def _set_collecting(on: bool) -> None:
    (gc.enable if on else gc.disable)()


# What a job can change of its process for good -> how it is read, how it is put back.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "working folder": (os.getcwd, os.chdir),
    "garbage collection": (gc.isenabled, _set_collecting),
    "random": (random.getstate, random.setstate),
    "numpy's random": (np.random.get_state, np.random.set_state),
    "torch's random": (torch.get_rng_state, torch.set_rng_state),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "default number format": (torch.get_default_dtype, torch.set_default_dtype),
    "autocast": (lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
    "anomalies": (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "SIGUSR1": (lambda: signal.getsignal(signal.SIGUSR1), lambda handler: signal.signal(signal.SIGUSR1, handler)),
    "environment": (os.environ.copy, _set_environment),  # last: what sets the others might change it
}  # fmt: skip


@contextmanager
def unchanged() -> Iterator[None]:
    """After the block this process has the settings it had before, and what the block made and left is freed.

    A warning is given once per block. An exception passes, and leaves all as it is.
    """
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    with warnings.catch_warnings():
        yield
    for name, (_, write) in SETTINGS.items():
        write(before[name])
    gc.collect()
    _give_back()


def threads() -> int:
    """How many threads of Python's this process has: one that a job has left may do anything."""
    return threading.active_count()


def _give_back() -> None:
    """Freed memory goes back to the system, where the C library can do that (glibc): else ranks seem to grow."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
