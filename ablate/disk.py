"""Files that are there whole or not at all, also across a kill, a full disk or a power cut (standard library only).

A new version is written beside its place, synced, renamed, and the folder synced. What a kill leaves beside is
recognised by its name and by a lock that died with its writer.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ablate.failpoints import failpoint

PRIVATE, SHARED = 0o600, 0o666  # modes before the umask: of what lies in a runs folder, of a user's own files
PIECE = 1 << 20  # bytes a write
LEFTOVER = re.compile(r"\..+\.\d+\.partial")


class DiskFull(OSError):
    """No space, or no quota, is left where a file was to be written; the text names the file."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise DiskFull in place of the system's bare word for it."""
    try:
        yield
    except DiskFull:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full(path) from error


def full(path: Path) -> DiskFull:
    """What to raise where `path` could not be written for want of space."""
    return DiskFull(errno.ENOSPC, f"disk full: {path}: {_left(path)}")


def _left(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(Path(path).parent).free / 1e6:.1f} MB are left on its file system"
    except OSError:
        return "what is left on its file system can't be read"


class File(io.FileIO):
    """An unbuffered file whose `write` writes all, or raises: DiskFull where there is no space."""

    def write(self, data: bytes | memoryview) -> int:
        view, written = memoryview(data).cast("B"), 0
        with naming(self.name):
            while written < len(view):
                failpoint("disk-write")
                written += self._put(view[written : written + PIECE])
        return written

    def _put(self, piece: memoryview) -> int:
        return super().write(piece)

    def sync(self) -> None:
        """Make what was written durable."""
        with naming(self.name):
            os.fsync(self.fileno())


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE) -> Iterator[File]:
    """A file to write the new version of `path` into: in its place, durably, when the block ends well, else gone."""
    make_folder(path.parent)
    if path.exists() and not (path.is_file() or path.is_dir()):  # as root a rename would put a file in a device's place
        raise OSError(errno.EINVAL, "is there already, and is no regular file", str(path))
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _locked(beside, mode) as file:
            yield file
            file.sync()
            failpoint("file-written")
            with naming(path):
                os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    failpoint("file-replaced")
    sync_folder(path.parent)


def write_atomically(path: Path, data: str | bytes | memoryview, *, mode: int = PRIVATE) -> None:
    """Replace `path` by `data`: all of it or none, also across a power cut. Raises DiskFull, the old version kept."""
    with replacing(path, mode=mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably."""
    if path.is_dir():
        return
    if path.parent.exists() and not path.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    make_folder(path.parent)
    with naming(path):
        path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def make_folders(paths: Sequence[Path]) -> None:
    """Make folders of one parent, durably: it is synced once for all of them."""
    parent = paths[0].parent
    make_folder(parent)
    for path in paths:
        with naming(path):
            path.mkdir(exist_ok=True)
    sync_folder(parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> list[Path]:
    """Files below `folder` that a writer has not brought to their place: it was killed, or is at work."""
    return sorted(path for path in folder.rglob(".*.partial") if LEFTOVER.fullmatch(path.name) and path.is_file())


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed writers left below `folder`; what a living one writes stays."""
    return [path for path in leftovers(folder) if abandoned(path, remove=True)]


def remove_leftovers_of(path: Path) -> None:
    """Remove what killed writers of one file left beside it."""
    for beside in path.parent.glob(f".{path.name}.*.partial"):
        if LEFTOVER.fullmatch(beside.name):
            abandoned(beside, remove=True)


def abandoned(path: Path, *, remove: bool = False) -> bool:
    """Whether nobody has locked a file, so that a leftover's writer is dead; it is then removed if that is asked."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:
                path.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


@contextmanager
def _locked(beside: Path, mode: int) -> Iterator[File]:
    """The file, new and locked. One that was taken for a leftover before the lock was held is opened again."""
    while True:
        with naming(beside):
            file = File(beside, "wb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, mode))
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return
