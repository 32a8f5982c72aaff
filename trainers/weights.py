"""Reading files of published weights: known by their sha256, downloaded where that is allowed.

Which files there are and where they lie: `trainers.weightfiles`.
"""

from __future__ import annotations

import fcntl
import http.client
import pickle
import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from trainers.pairs import DataError
from trainers.weightfiles import VARIABLE, VGG19, WeightsFile, damaged, folders, found, local, missing

__all__ = ["VARIABLE", "VGG19", "WeightsFile", "folders", "load", "local", "present", "read"]

PATIENCE = 30  # seconds without an answer; a firewall that drops packets would hold a rank for minutes


def load(file: WeightsFile, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of these names and shapes, in fp32 on the CPU; what else the file holds is left out.

    Raises DataError, which says what to put where, if the file is missing and can't be downloaded, has
    another hash, or lacks one of the tensors.
    """
    path = found(file) or _downloaded(file)
    _check_hash(path, file)
    return read(path, shapes)


def present(file: WeightsFile) -> Path:
    """Where the file lies, its hash checked. Raises DataError if it is missing (it is not downloaded) or another."""
    path = found(file)
    if path is None:
        raise DataError(missing(file))
    _check_hash(path, file)
    return path


def read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """As `load`, from the file at `path`, whatever its hash."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError) as error:
        raise DataError(f"{path}: not a state dict that torch.save wrote ({_brief(error)})") from error
    return {name: _tensor(state, name, shape, path) for name, shape in shapes.items()}


def _downloaded(file: WeightsFile) -> Path:
    """The file in torch.hub's cache, fetched by one process while the others wait."""
    if file.url is None:
        raise DataError(missing(file))
    folder = folders()[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{file.name}.lock"), _patience(PATIENCE):
            path = folder / file.name
            if not path.is_file():
                torch.hub.download_url_to_file(file.url, str(path), file.sha256, progress=False)
            return path
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise DataError(f"{missing(file)} Downloading {file.url} failed: {_brief(error)}.") from error


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
    if said := damaged(path, file):
        raise DataError(said)


def _tensor(state: object, name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    tensor = state.get(name) if isinstance(state, Mapping) else None
    if not isinstance(tensor, Tensor):
        raise DataError(f"{path}: holds no tensor {name}; expected a state dict that names its tensors as torchvision")
    if tuple(tensor.shape) != shape:
        raise DataError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected {shape}")
    return tensor.detach().to(torch.float32, copy=True)


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
