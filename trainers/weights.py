"""Files of published weights: found by name, known by their sha256, downloaded where that is allowed.

A study names no path, since a path is no part of what determines a trial's numbers: it names a hash, and
the file lies under a name that carries the hash's first digits (torch.hub's convention) in one of `folders()`.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import pickle
import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainers.pairs import DataError

VARIABLE = "ABLATE_WEIGHTS"
PATIENCE = 30  # seconds without an answer; a firewall that drops packets would hold a rank for minutes


@dataclass(frozen=True)
class WeightsFile:
    """A state dict on disk. `sha256` is in lower case; a public file may state its first digits only."""

    name: str
    sha256: str
    url: str | None = None


# torchvision.models.VGG19_Weights.IMAGENET1K_V1 (548 MB), stated here so that training needs no torchvision.
VGG19 = WeightsFile("vgg19-dcbb9e9d.pth", "dcbb9e9d", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth")


def local(network: str, sha256: str) -> WeightsFile:
    """The file that holds somebody's own weights of `network`."""
    return WeightsFile(f"{network}-{sha256[:8]}.pth", sha256)


def folders() -> list[Path]:
    """Where weights are looked for, in this order: $ABLATE_WEIGHTS if it is set, then torch.hub's cache."""
    named = os.environ.get(VARIABLE)
    return [*([Path(named).expanduser().absolute()] if named else []), Path(torch.hub.get_dir()) / "checkpoints"]


def load(file: WeightsFile, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of these names and shapes, in fp32 on the CPU; what else the file holds is left out.

    Raises DataError, which says what to put where, if the file is missing and can't be downloaded, has
    another hash, or lacks one of the tensors.
    """
    path = _found(file) or _downloaded(file)
    _check_hash(path, file)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError) as error:
        raise DataError(f"{path}: not a state dict that torch.save wrote ({_brief(error)})") from error
    return {name: _tensor(state, name, shape, path) for name, shape in shapes.items()}


def _found(file: WeightsFile) -> Path | None:
    return next((path for folder in folders() if (path := folder / file.name).is_file()), None)


def _downloaded(file: WeightsFile) -> Path:
    """The file in torch.hub's cache, fetched by one process while the others wait."""
    if file.url is None:
        raise DataError(_missing(file))
    folder = folders()[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{file.name}.lock"), _patience(PATIENCE):
            path = folder / file.name
            if not path.is_file():
                torch.hub.download_url_to_file(file.url, str(path), file.sha256, progress=False)
            return path
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise DataError(f"{_missing(file)} Downloading {file.url} failed: {_brief(error)}.") from error


def _missing(file: WeightsFile) -> str:
    digits = "sha256" if len(file.sha256) == 64 else "a sha256 that begins with"
    where = " or ".join(map(str, folders()))
    return (
        f"the weights {file.name} ({digits} {file.sha256}) are missing: put that file into {where}, or into a folder "
        f"of your choice and set {VARIABLE} to it."
    )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with open(lock, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _check_hash(path: Path, file: WeightsFile) -> None:
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(file.sha256):
        begins = "" if len(file.sha256) == 64 else "one that begins with "
        raise DataError(f"{path}: its sha256 is {found}, expected {begins}{file.sha256}")


def _tensor(state: object, name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    tensor = state.get(name) if isinstance(state, Mapping) else None
    if not isinstance(tensor, Tensor):
        raise DataError(f"{path}: holds no tensor {name}; expected a state dict that names its tensors as torchvision")
    if tuple(tensor.shape) != shape:
        raise DataError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected {shape}")
    return tensor.detach().to(torch.float32, copy=True)


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
