"""Networks that start from weights in a file, in place of random ones."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers import tensorfile, traits
from trainers.pairs import DataError, some
from trainers.recipe import Start
from trainers.startfile import weights


def load(network: nn.Module, path: Path, *, role: str, sha256: str | None = None) -> None:
    """Put the weights of the generator or discriminator (`role`) in the file at `path` into `network`.

    Raises DataError, and leaves the network as it was, where the file can't be read, has another digest than
    `sha256`, or fits another network.
    """
    if sha256 is not None:
        _check_digest(path, sha256)
    load_state(network, weights(read(path), role, path), path)


def load_state(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """As `load`, for weights under our names that were read from `path`."""
    wanted = network.state_dict()
    state = _completed(state, wanted)
    if different := _differences(state, wanted):
        raise DataError(f"{path}: {different}")
    network.load_state_dict(state)


def load_networks(stated: Start, files: Mapping[str, Path], **networks: nn.Module) -> None:
    """Load every network of which `stated` holds a file's sha256 from the file that `files` names. Raises DataError."""
    for role, network in networks.items():
        if sha256 := getattr(stated, role):
            load(network, files[role], role=role, sha256=sha256)


def read(path: Path) -> Any:
    """What torch.save wrote to the file, on the CPU; nothing in it is run. Raises DataError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        raise DataError(tensorfile.cannot_open(path, error)) from None
    except Exception as error:  # bytes of any kind can break a pickle in any way
        tensorfile.read(path)  # knows to say what is wrong, and for most files does
        raise DataError(f"{path}: {tensorfile.not_torchs(error)}") from None


def _check_digest(path: Path, sha256: str) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(tensorfile.cannot_open(path, error)) from None
    if found != sha256:
        raise DataError(f"{path}: its sha256 is {found}, expected {sha256}")


def _completed(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with what says nothing added: zero biases (pix2pix's norm `none` has no biases), and the count of
    batches, which torch before 0.4.1 did not keep and no layer here reads.
    """
    complete = dict(state)
    for key in wanted.keys() - state.keys():
        layer, _, name = key.rpartition(".")
        if f"{layer}.weight" in state and name in ("bias", "num_batches_tracked"):
            complete[key] = torch.zeros_like(wanted[key])
    return complete


def _differences(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What keeps the weights from fitting, in the words of a study where possible."""
    missing = sorted(wanted.keys() - state.keys())
    more = sorted(state.keys() - wanted.keys())
    shapes = [f"{key} {_shape(state[key])} in place of {_shape(wanted[key])}"
              for key in wanted if key in state and state[key].shape != wanted[key].shape]  # fmt: skip
    if not (missing or more or shapes):
        return ""
    said = [("it lacks", missing), ("it has besides", more), ("it has", shapes)]
    listed = "; ".join(f"{words} {some(names)}" for words, names in said if names)
    return traits.differences(traits.of_state(state), traits.of_state(wanted)) or listed


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
