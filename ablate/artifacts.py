"""What a trial's folder must hold, by the digests in its stream, and what may go (standard library only)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ablate import events
from ablate.disk import leftovers, remove_leftovers
from ablate.records import TrialFolder

KEPT = ("sample", "scores", "generator")  # checkpoints come and go while a trial runs


@dataclass(frozen=True)
class Artifact:
    """A file that the stream lists; `path` is relative to the trial's folder."""

    what: str
    path: str
    sha256: str


def listed(stream: list[events.Event]) -> tuple[Artifact, ...]:
    """The artifacts that a trial's events list, by path; of a path that was saved again, the last."""
    saved = (event for event in stream if isinstance(event, events.Saved) and event.what in KEPT)
    latest = {event.path: Artifact(event.what, event.path, event.sha256) for event in saved}
    return tuple(latest[path] for path in sorted(latest))


def problems(folder: TrialFolder) -> list[str]:
    """What in a trial's folder is not as its stream says, a sentence each; for a trial whose worker has ended.

    Every listed artifact exists with its sha256, no writer's leftover remains, and an ended trial keeps no
    checkpoint. Raises CorruptStream.
    """
    stream = events.read(folder.events)
    found = [words for artifact in listed(stream) if (words := _wrong(folder.root, artifact))]
    left = (path.relative_to(folder.root) for path in leftovers(folder.root))
    found += [f"{path}: left over by a writer that was killed" for path in left]
    if ended(stream):
        found += [f"checkpoints/{path.name}: of a trial that has ended" for path in transient(folder.checkpoints)]
    return found


def ended(stream: list[events.Event]) -> bool:
    return any(isinstance(event, events.Ended) for event in stream)


def tidy(folder: TrialFolder) -> None:
    """Remove what a kill left: files not brought to their place, and checkpoints of a trial that has ended.

    The caller knows that no worker is at work. Raises CorruptStream.
    """
    remove_leftovers(folder.root)
    if ended(events.read(folder.events)):
        remove_checkpoints(folder.checkpoints)


def tidy_ended(folder: TrialFolder) -> None:
    """As `tidy`, of a trial whose end the caller has read."""
    remove_leftovers(folder.root)
    remove_checkpoints(folder.checkpoints)


def remove_checkpoints(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove the generations that are not in `keep`; with none to keep, the manifest goes first."""
    if not keep:
        (folder / "manifest.json").unlink(missing_ok=True)
    for path in folder.glob("step-*.pt"):
        if path.name not in keep:
            path.unlink(missing_ok=True)


def remove_branches(folder: Path) -> None:
    """Remove the checkpoints that other trials might have gone on from, and their folder."""
    for path in folder.glob("step-*.pt"):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def transient(folder: Path) -> Iterator[Path]:
    """Checkpoints and their manifest, which goes first: none is named that isn't there."""
    yield from sorted(path for path in folder.glob("*") if path.name == "manifest.json" or path.match("step-*.pt"))


def _wrong(root: Path, artifact: Artifact) -> str | None:
    path = root / artifact.path
    if PurePosixPath(artifact.path).is_absolute() or not path.resolve().is_relative_to(root.resolve()):
        return f"{artifact.path}: {artifact.what} outside the trial's folder"
    if not path.is_file():
        return f"{artifact.path}: {artifact.what} is missing"
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 == artifact.sha256:
        return None
    return f"{artifact.path}: {artifact.what} is damaged: sha256 {sha256[:12]}, saved as {artifact.sha256[:12]}"
