"""Spoilt image bytes, and a process of small means that reads them.

As a program it reads every file named on its command line, in order, and prints a JSON line for each before and
after it: a crash is thereby known by its file.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.trainers.images import decibels, picture, reflectance
from tests.trainers.images import write as write_image

ADDRESS_SPACE = 3 * 2**30  # bytes; numpy and GDAL themselves take half of one
SECONDS = 5  # of computing for one file
EXTREMES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


# Spoiling


def cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def bomb(data: bytearray, draw: random.Random) -> None:
    """An extreme number in the head, or in a TIFF's directory at the end."""
    near = min(512, len(data) - 4)
    at = draw.choice((draw.randrange(near), len(data) - 4 - draw.randrange(near)))
    kind = draw.choice((">H", "<H", ">I", "<I"))
    size = struct.calcsize(kind)
    data[at : at + size] = struct.pack(kind, draw.choice(EXTREMES) % 2 ** (8 * size))


def blank(data: bytearray, draw: random.Random) -> None:
    at, size = draw.randrange(len(data)), draw.choice((4, 16, 256))
    data[at : at + size] = bytes([draw.choice((0, 0xFF))]) * len(data[at : at + size])


def shift(data: bytearray, draw: random.Random) -> None:
    """A few bytes put in, or taken out."""
    at = draw.randrange(len(data))
    if draw.random() < 0.5:
        data[at:at] = draw.randbytes(draw.randrange(1, 9))
    else:
        del data[at : at + draw.randrange(1, 9)]


def repeat(data: bytearray, draw: random.Random) -> None:
    """A part of the file over another."""
    size = draw.choice((8, 64, 512))
    source, target = draw.randrange(len(data)), draw.randrange(len(data))
    data[target : target + size] = data[source : source + size]


KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (cut, flip, bomb, bomb, blank, shift, repeat)


def spoilt(data: bytes, draw: random.Random) -> bytes:
    """The bytes after one to three kinds of damage; half of the PNGs get matching checksums again."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        if len(found) > 8:
            draw.choice(KINDS)(found, draw)
    return mended(bytes(found)) if found[:4] == b"\x89PNG" and draw.random() < 0.5 else bytes(found)


def mended(png: bytes) -> bytes:
    """With the checksum of every chunk as it should be: what lies behind the checksums is read then."""
    found, at = bytearray(png), 8
    while at + 12 <= len(found):
        end = at + 8 + struct.unpack(">I", found[at : at + 4])[0]
        if end + 4 > len(found):
            break
        found[end : end + 4] = struct.pack(">I", zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return bytes(found)


def originals(folder: Path) -> list[Path]:
    """Good images of every kind that is read."""
    import rasterio
    from rasterio import Affine

    utm = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_500_000)}
    found = [
        write_image(folder / "rgb.png", picture(size=32)),
        write_image(folder / "alpha.png", picture(size=32, bands=4)),
        write_image(folder / "deep.png", reflectance(size=32, bands=1)),
        write_image(folder / "grey.jpg", picture(size=32, bands=1)),
        write_image(folder / "rgb.jpg", picture(size=32)),
        write_image(folder / "plain.tif", decibels(size=16), **utm, nodata=-9999),
    ]
    creations = {
        "deflate": {"compress": "deflate", "predictor": 3}, "lzw": {"compress": "lzw", "interleave": "pixel"},
        "tiled": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}, "big": {"BIGTIFF": "YES"},
        "other_end": {"ENDIANNESS": "BIG"},
    }  # fmt: skip
    for name, creation in creations.items():
        profile = {"driver": "GTiff", "width": 32, "height": 32, "count": 2, "dtype": "float32", **utm, **creation}
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as file:
            file.write(decibels(size=32).round())
        found.append(folder / f"{name}.tif")
    return found


def write_spoilt(folder: Path, *, count: int, seed: int) -> list[Path]:
    """`count` spoilt files, the same for a seed; the good ones lie below `good`."""
    (folder / "good").mkdir(parents=True)
    good, draw = [(path.suffix, path.read_bytes()) for path in originals(folder / "good")], random.Random(seed)
    paths = []
    for index in range(count):
        suffix, data = good[index % len(good)]
        paths.append(folder / f"{index:06}{suffix}")
        paths[-1].write_bytes(spoilt(data, draw))
    return paths


# Reading


def outcomes(paths: list[Path], *, seconds: int) -> dict[str, str]:
    """Path -> `image`, `refused: ...` or, which must not be, anything else; a process reads them all."""
    command = [sys.executable, "-m", "tests.trainers.fuzzed", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, timeout=seconds, cwd=Path(__file__).parents[2])
    found = {}
    for line in done.stdout.decode().splitlines():
        path, said = json.loads(line)
        found[path] = said
    assert done.returncode == 0, (done.returncode, list(found.items())[-1:], done.stderr[-500:])
    return found


def _outcome(path: str) -> str:
    from dataclasses import replace

    from trainers.pairs import DataError
    from trainers.raster import head, read

    try:
        whole = head(path)
        images = [read([path])]
        if whole.grid.crs:
            images.append(read([path], onto=replace(whole.grid, transform=(11.0, *whole.grid.transform[1:])),
                               kernel="bilinear"))  # fmt: skip
    except DataError as error:
        return f"refused: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    right = all(image.values.shape[1:] == image.valid.shape and image.valid.dtype == bool for image in images)
    return "image" if right else "no image"


def _hung(*_: object) -> None:
    raise TimeoutError("read for too long")


def main(paths: list[str]) -> None:
    import rasterio  # noqa: F401  # before the limits: what is loaded is not what is measured

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS * max(10, len(paths)), resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, _hung)
    for path in paths:
        print(json.dumps([path, "begun"]), flush=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        said = _outcome(path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps([path, said]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
