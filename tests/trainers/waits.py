"""Sees where the host would wait for a device, or where a capture would be refused, on a machine without one.

Tensors on torch's `meta` device have shapes and no values. What a device does with them alone passes; what reads a
value, or carries one between host and device, is found by its operation, in the forward pass and the way back.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim", "item")


class Wait(AssertionError):
    """The host would wait here."""


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, leaves = function.name().split("::")[-1].split(".")[0], tree_leaves((args, kwargs or {}))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        places = {tensor.device.type for tensor in tensors} | {leaf.type for leaf in leaves
                                                              if isinstance(leaf, torch.device)}  # fmt: skip
        masks = name in ("index", "index_put", "index_put_") and any(t.dtype == torch.bool for t in tensors[1:])
        if name in READS or masks or len(places) > 1 or "cpu" in places:
            where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()[:-1]]
            raise Wait(f"{function} on {', '.join(sorted(places))}: {where[-6:]}")
        return function(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Numbers of the host made into tensors of the device: meta needs no copy, and so shows none."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        lists = name == "__getitem__" and any(isinstance(leaf, list) for leaf in _entries(args[1]))
        if name in ("tensor", "as_tensor", "new_tensor", "from_numpy") or lists:
            raise Wait(f"{name} of numbers of the host")
        return function(*args, **(kwargs or {}))


def _entries(index: object) -> tuple:
    return index if isinstance(index, tuple) else (index,)


@contextlib.contextmanager
def none() -> Iterator[None]:
    """Raises Wait where what runs inside, on meta tensors alone, would have the host wait.

    One thing escapes it: the way back through a product (torch.prod) asks a real tensor for zeros.
    """
    with _Calls(), _Watch():
        yield


@contextlib.contextmanager
def meta(monkeypatch) -> Iterator[None]:
    """Inside, networks run on meta, which has no autocast."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
        yield
