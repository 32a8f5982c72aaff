"""Checkpoints in two generations under a manifest of sha256: a torn or flipped one is never loaded."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ablate.artifacts import remove_checkpoints
from ablate.disk import write_atomically
from ablate.failpoints import failpoint

FINAL = "generator.pt"
GENERATIONS = 2


def write(path: Path, state: dict[str, Any]) -> str:
    """Write `state` durably; returns the file's sha256."""
    return _write(path, state).sha256


def read(path: Path, sha256: str | None = None) -> dict[str, Any] | None:
    """The state in a file; None where it is absent or is not what the digest says."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        return None
    return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


@dataclass(frozen=True)
class Generation:
    """A line of the manifest; `bytes` is the file's size."""

    file: str
    step: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if Path(self.file).name != self.file:
            raise ValueError(f"{self.file}: a checkpoint lies beside its manifest")


@dataclass(frozen=True)
class Found:
    """The newest whole generation, if any, and what was passed over on the way to it, a sentence each."""

    state: dict[str, Any] | None = None
    damaged: tuple[str, ...] = ()


class Checkpoints:
    """The generations of one trial, newest first. Torn files are left out of the manifest."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = folder / "manifest.json"

    def save(self, step: int, state: dict[str, Any]) -> tuple[Path, str]:
        """Add a generation and drop the oldest; the manifest names a file only when it is whole."""
        path = self.folder / f"step-{step:08d}.pt"
        made = _write(path, state, step=step)
        failpoint("checkpoint-written")
        older = [known for known in self._listed() if known.file != made.file]
        known = [made, *older][:GENERATIONS]
        write_atomically(self.manifest, json.dumps([asdict(each) for each in known], indent=1))
        failpoint("manifest-written")
        remove_checkpoints(self.folder, keep={each.file for each in known})
        return path, made.sha256

    def newest(self) -> dict[str, Any] | None:
        """The state of the newest generation that its digest vouches for."""
        return self.find().state

    def find(self, vouched: Mapping[str, str] | None = None) -> Found:
        """The newest whole generation. `vouched` maps files to digests, for when the manifest itself is lost."""
        listed, damaged = self._listed(), []
        if not listed:
            listed = sorted(self._vouched(vouched or {}), key=lambda each: each.step, reverse=True)
            damaged += [f"{self.manifest.name} is damaged or missing"] if listed or self.manifest.exists() else []
        for each in listed:
            state = read(self.folder / each.file, each.sha256)
            if state is not None:
                return Found(state, tuple(damaged))
            damaged.append(self._words(each))
        return Found(None, tuple(damaged))

    def clear(self) -> None:
        """Remove what only a running trial needs (0.69 GB a generation at full size)."""
        remove_checkpoints(self.folder)

    def _listed(self) -> list[Generation]:
        """What the manifest names, newest first; nothing where it can't be read."""
        try:
            return [Generation(**entry) for entry in json.loads(self.manifest.read_bytes())]
        except (FileNotFoundError, ValueError, TypeError):
            return []

    def _vouched(self, digests: Mapping[str, str]) -> Iterator[Generation]:
        for path in self.folder.glob("step-*.pt"):
            if path.name in digests and path.stem[5:].isdigit():
                yield Generation(path.name, int(path.stem[5:]), path.stat().st_size, digests[path.name])

    def _words(self, each: Generation) -> str:
        path = self.folder / each.file
        if not path.exists():
            return f"{each.file} is missing"
        size = path.stat().st_size
        return f"{each.file} is damaged" + (f": {size} of {each.bytes} bytes" if size != each.bytes else "")


def _write(path: Path, state: dict[str, Any], *, step: int = 0) -> Generation:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    write_atomically(path, data)
    return Generation(path.name, step, len(data), hashlib.sha256(data).hexdigest())
