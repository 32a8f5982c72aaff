"""Checkpoints in two generations under a manifest of sha256: a torn or flipped one is never loaded."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from ablate.records import write_atomically

FINAL = "generator.pt"
GENERATIONS = 2


def write(path: Path, state: dict[str, Any]) -> str:
    """Write `state` durably; returns the file's sha256."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read(path: Path, sha256: str | None = None) -> dict[str, Any] | None:
    """The state in a file; None where it is absent or is not what the digest says."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        return None
    return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")


class Checkpoints:
    """The generations of one trial, newest first. Torn files are left out of the manifest."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = folder / "manifest.json"

    def save(self, step: int, state: dict[str, Any]) -> tuple[Path, str]:
        """Add a generation and drop the oldest; the manifest names a file only when it is whole."""
        path = self.folder / f"step-{step:08d}.pt"
        sha256 = write(path, state)
        older = [entry for entry in self._entries() if entry["file"] != path.name]
        entries = [{"file": path.name, "sha256": sha256}, *older][:GENERATIONS]
        write_atomically(self.manifest, json.dumps(entries, indent=1))
        self._remove_except({entry["file"] for entry in entries})
        return path, sha256

    def newest(self) -> dict[str, Any] | None:
        """The newest generation that its digest vouches for."""
        states = (read(self.folder / entry["file"], entry["sha256"]) for entry in self._entries())
        return next((state for state in states if state is not None), None)

    def clear(self) -> None:
        """Remove what only a running trial needs (0.69 GB a generation at full size)."""
        self.manifest.unlink(missing_ok=True)
        self._remove_except(set())

    def _entries(self) -> list[dict[str, str]]:
        return json.loads(self.manifest.read_text()) if self.manifest.exists() else []

    def _remove_except(self, keep: set[str]) -> None:
        for path in self.folder.glob("step-*.pt"):
            if path.name not in keep:
                path.unlink()
