"""Versions that numbers can depend on, as this process has loaded them."""

from __future__ import annotations

import platform

import numpy as np
import torch

from ablate.code import fingerprint

# Taken when the module is loaded: a forkserver trains with what it loaded, whatever becomes of the files.
CODE = fingerprint()


def versions() -> dict[str, str]:
    """What a stream's `started` event states: python, torch, numpy, the `code` of the training package, and the vector
    instructions of the `cpu` that torch's kernels go by.
    """
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "code": CODE,
            "cpu": torch.backends.cpu.get_cpu_capability()}  # fmt: skip
