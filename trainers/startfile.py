"""Which weights a file to start from holds (no torch: tensors here are anything that has a shape).

It is a checkpoint of ours, or a network's state dict: in our layout, or as the published pix2pix saves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers import pix2pix_keys
from trainers.pairs import DataError, some
from trainers.traits import State

ROLES = ("generator", "discriminator")
LEFTOVERS = ("running_mean", "running_var", "num_batches_tracked")
ALLOWED = "expected a checkpoint of ablate's, or a state dict that pix2pix saved (latest_net_G.pth, latest_net_D.pth)"


def weights(content: Any, role: str, path: Path) -> dict[str, Any]:
    """The weights of the generator or discriminator (`role`) in what a file holds, under our names.

    Of a trial that is still training (`step-*.pt`) it is the average of its generator, where it keeps one: the
    network that is scored and kept. Raises DataError where the file holds no network of that role.
    """
    if is_checkpoint(content):
        return _of_checkpoint(content, role, path)
    if not _is_state(content):
        raise DataError(f"{path}: holds {_shown(content)}; {ALLOWED}")
    return _in_our_names(content, path)


def is_checkpoint(content: Any) -> bool:
    """Whether it was written by a trial."""
    return isinstance(content, Mapping) and isinstance(content.get("generator"), Mapping)


def _of_checkpoint(content: Mapping[str, Any], role: str, path: Path) -> dict[str, Any]:
    average = content.get("average")
    if role == "generator" and isinstance(average, Mapping) and "network" in average:
        return _in_our_names(average["network"], path)
    if not isinstance(content.get(role), Mapping):
        raise DataError(f"{path}: holds no {role}: a trial that has ended keeps its generator alone")
    return _in_our_names(content[role], path)


def _in_our_names(state: State, path: Path) -> dict[str, Any]:
    if all(key.startswith("module.") for key in state):  # saved under DataParallel
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    if any(".conv_block." in key for key in state):
        raise DataError(f"{path}: holds the published ResNet generator; only the U-Net can be started from")
    state = {key: tensor for key, tensor in state.items() if not _is_leftover(key, state)}
    if pix2pix_keys.is_generator(state):
        return pix2pix_keys.generator_state(state)
    if pix2pix_keys.is_discriminator(state):
        return pix2pix_keys.discriminator_state(state)
    return dict(state)


def _is_leftover(key: str, state: State) -> bool:
    """Running statistics of an instance norm: torch before 0.4 saved them, and pix2pix drops them as it loads."""
    layer, _, name = key.rpartition(".")
    return name in LEFTOVERS and f"{layer}.weight" not in state


def _is_state(content: Any) -> bool:
    return bool(content) and isinstance(content, Mapping) and all(
        isinstance(key, str) and hasattr(tensor, "shape") for key, tensor in content.items()
    )  # fmt: skip


def _shown(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a mapping of {some(list(map(str, content)))}" if content else "nothing"
    return f"a {type(content).__name__}"
