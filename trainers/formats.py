"""What a file is, by its first bytes, and whether it is whole (standard library only)."""

from __future__ import annotations

import os
import stat
import zlib

from trainers.pairs import DataError

# GDAL drivers by the first bytes of a file: a VRT that calls itself .tif could name any file or address.
DRIVERS = {
    b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff",
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG",
}  # fmt: skip


def driver(path: str) -> str:
    """The GDAL driver for a local file. Raises DataError for whatever is not one of these images."""
    if path.startswith("/vsi") or "://" in path:
        raise DataError(f"{path}: remote and virtual files are not read; copy it to a local file")
    status(path)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    for magic, name in DRIVERS.items():
        if start.startswith(magic):
            return name
    allowed = ", ".join(sorted(set(DRIVERS.values())))
    raise DataError(f"{path}: begins with {start!r}, so it is not one of {allowed}")


def status(path: str) -> os.stat_result:
    """Size and times of a file. Raises DataError for what is none: reading a pipe would wait for ever."""
    try:
        path.encode()
        found = os.stat(path)
    except UnicodeEncodeError:
        raise DataError(f"{path!a}: the name is not UTF-8; rename it") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: {'a folder' if stat.S_ISDIR(found.st_mode) else 'a pipe or device'}, not a file")
    return found


def refuse_broken_png(path: str) -> None:
    """Raise DataError unless every chunk is whole: GDAL fills the missing rows of a truncated PNG without a word."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND":
            head = file.read(8)
            length = int.from_bytes(head[:4], "big") + 4
            body = file.read(length) if len(head) == 8 and length <= size else b""
            kind = head[4:]
            if zlib.crc32(kind + body[:-4]) != int.from_bytes(body[-4:], "big") or len(body) < 4:
                raise DataError(f"{path}: truncated or damaged: its PNG chunk at byte {file.tell()} is not whole")
