"""Which files of published weights there are, where they are looked for, what to say where one is missing (no torch).

A study names no path, since a path is no part of what determines a trial's numbers: it names a hash, and
the file lies under a name that carries the hash's first digits (torch.hub's convention) in one of `folders()`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VARIABLE = "ABLATE_WEIGHTS"


@dataclass(frozen=True)
class WeightsFile:
    """A state dict on disk. `sha256` is in lower case; a public file may state its first digits only."""

    name: str
    sha256: str
    url: str | None = None


# torchvision.models.VGG19_Weights.IMAGENET1K_V1 (548 MB), stated here so that training needs no torchvision.
VGG19 = WeightsFile("vgg19-dcbb9e9d.pth", "dcbb9e9d", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth")
# torchvision.models.AlexNet_Weights.IMAGENET1K_V1 (233 MB).
ALEXNET = WeightsFile(
    "alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
# The Inception of the FID's authors, as torch-fidelity publishes it for torch (96 MB).
INCEPTION = WeightsFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)


def local(network: str, sha256: str) -> WeightsFile:
    """The file that holds somebody's own weights of `network`."""
    return WeightsFile(f"{network}-{sha256[:8]}.pth", sha256)


def folders() -> list[Path]:
    """Where weights are looked for, in this order: $ABLATE_WEIGHTS if it is set, then torch.hub's cache."""
    named = os.environ.get(VARIABLE)
    return [*([Path(named).expanduser().absolute()] if named else []), _hub() / "checkpoints"]


def _hub() -> Path:
    """torch.hub.get_dir(), without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"


def found(file: WeightsFile) -> Path | None:
    """The file's path; None where it is in none of the folders. What it holds is not looked at."""
    return next((path for folder in folders() if (path := folder / file.name).is_file()), None)


def missing(file: WeightsFile) -> str:
    """What to put where."""
    digits = "sha256" if len(file.sha256) == 64 else "a sha256 that begins with"
    where = " or ".join(map(_shown, folders()))
    return (
        f"the weights {file.name} ({digits} {file.sha256}) are missing: put that file into {where}, or into a folder "
        f"of your choice and set {VARIABLE} to it."
    )


def _shown(folder: Path) -> str:
    """A report may travel: the home folder's name stays at home."""
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)


def damaged(path: Path, file: WeightsFile) -> str | None:
    """What to say where the file at `path` has another hash than it should have."""
    stated = os.stat(path)
    digest = _digest(path, (stated.st_ino, stated.st_size, stated.st_mtime_ns))
    if digest.startswith(file.sha256):
        return None
    begins = "" if len(file.sha256) == 64 else "one that begins with "
    return f"{path}: its sha256 is {digest}, expected {begins}{file.sha256}"


@cache
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
