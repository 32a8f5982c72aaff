"""Names and shapes of what `torch.save` wrote, read without torch and without running anything that a file says.

A file of weights is a pickle, and a pickle can call what it likes. Here it can name a few of torch's own makers of
tensors, and gets stand-ins for them; a file that names anything else is refused.
"""

from __future__ import annotations

import os
import pickle
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from trainers.pairs import DataError

MAX_INDEX = 64 * 2**20  # bytes of the pickle that names the tensors; U-Net-256's has 20 thousand
BEFORE_THE_OBJECT = 3  # pickles in a file of torch before 1.6: magic number, protocol, machine


@dataclass(frozen=True)
class Shape:
    """Stands for a tensor."""

    shape: tuple[int, ...]


class Foreign(pickle.UnpicklingError):
    """A pickle names something that is no tensor."""


def read(path: Path) -> Any:
    """What the file holds, with a `Shape` in place of every tensor.

    Raises DataError if it is missing, is not torch's, or holds more than tensors and plain values.
    """
    try:
        if not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{path}: is a pipe or device; expected a file of weights")
        with open(path, "rb") as file:
            return _content(file)
    except DataError:
        raise
    except Foreign as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    except Exception as error:  # bytes of any kind can break a pickle in any way
        raise DataError(f"{path}: {not_torchs(error)}") from None


def cannot_open(path: Path, error: OSError) -> str:
    words = {FileNotFoundError: "no such file", IsADirectoryError: "is a folder; expected a file of weights"}
    return f"{path}: {words.get(type(error), error.strerror)}"


def not_torchs(error: Exception) -> str:
    return f"not a file that torch.save wrote ({type(error).__name__})"


def foreign(name: str) -> str:
    """What to say of a file that names code."""
    return (
        f"it names {name}, which only running code from the file could rebuild, and none is run; "
        "save the weights alone: torch.save(network.state_dict(), FILE)"
    )


def _content(file: BinaryIO) -> Any:
    if not zipfile.is_zipfile(file):
        file.seek(0)
        for _ in range(BEFORE_THE_OBJECT):
            _Reader(file).load()
        return _Reader(file).load()
    with zipfile.ZipFile(file) as archive:
        index = next(entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl"))
        if index.file_size > MAX_INDEX:
            raise ValueError("its index is too large")
        return _Reader(BytesIO(archive.read(index))).load()


def _tensor(storage: object, offset: int, size: tuple[int, ...], *_: object) -> Shape:
    return Shape(tuple(size))


def _nothing(*_: object) -> None:
    return None


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch", "device"): _nothing,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch.storage", "UntypedStorage"): _nothing,
}


class _Reader(pickle._Unpickler):
    """The one in Python: that in C makes room for as many memo entries as a file claims, 2^32 at once."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _MAKERS:
            return _MAKERS[module, name]
        if module == "torch" and (name.endswith("Storage") or name.startswith(("float", "bfloat", "int", "uint"))):
            return _nothing  # the kind of numbers
        raise Foreign(foreign(f"{module}.{name}"))

    def persistent_load(self, pid: object) -> None:
        return None  # the numbers themselves
