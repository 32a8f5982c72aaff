"""Ways in which a small good data set (three pairs in `folders`, GeoTIFF) is spoilt.

Each function spoils the data set below a folder, may return the options to read it with, and carries in `says` what
the refusal must hold.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rasterio import Affine

from tests.trainers.images import decibels, folders, picture, reflectance, write
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders

UTM = "EPSG:32632"
GRID = Affine(10, 0, 500_000, 0, -10, 5_500_000)
KINDS: list[Callable] = []


def refused(*says: str) -> Callable[[Callable], Callable]:
    """Register a kind of damage and what its refusal says."""

    def register(function: Callable) -> Callable:
        function.says = says
        KINDS.append(function)
        return function

    return register


def read_with(root: Path, **options) -> Folders:
    return Folders(root=str(root), **options)


def table(root: Path, *rows: str, head: str = "sar,optical,group") -> Csv:
    (root / "pairs.csv").write_text("\n".join([head, *rows]) + "\n")
    return Csv(table=str(root / "pairs.csv"))


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def placed(root: Path, *, sar: dict | None = None, optical: dict | None = None) -> None:
    """Write the second pair again, with a CRS and a transform each."""
    write(root / "sar/p1.tif", decibels(1), **(sar or {"crs": UTM, "transform": GRID}))
    write(root / "optical/p1.tif", reflectance(1), **(optical or {"crs": UTM, "transform": GRID}))


# Files that are not whole, or not what their name says


@refused("sar/p1.tif", "can't be read as GTiff")
def truncated_tiff(root):
    cut(root / "sar/p1.tif", 0.6)


@refused("sar/p1.tif: begins with b'II*'")
def tiff_of_three_bytes(root):
    (root / "sar/p1.tif").write_bytes(b"II*")


@refused("optical/p1.tif: begins with b''")
def empty_file(root):
    (root / "optical/p1.tif").write_bytes(b"")


@refused("optical/p1.png", "its PNG chunk at byte")
def truncated_png(root):
    (root / "optical/p1.tif").unlink()
    cut(write(root / "optical/p1.png", picture(1)), 0.7)


@refused("optical/p1.jpg", "can't be read as JPEG")
def cut_jpeg(root):
    folders(root, optical=picture)
    (root / "optical/p1.tif").unlink()
    cut(write(root / "optical/p1.jpg", picture(1)), 0.7)


@refused("optical/p1.png", "its PNG chunk at byte")
def flipped_bit_in_a_png(root):
    (root / "optical/p1.tif").unlink()
    path = write(root / "optical/p1.png", picture(1))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@refused("optical/p1.png", "its PNG chunk at byte")
def png_chunk_of_two_gigabytes(root):
    (root / "optical/p1.tif").unlink()
    path = write(root / "optical/p1.png", picture(1))
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") - 4
    content[at : at + 4] = struct.pack(">I", 2**31 - 1)
    path.write_bytes(content)


@refused("sar/p1.tif", "can't be read as GTiff")
def scrambled_deflate_block(root):
    import rasterio

    path = root / "sar/p1.tif"
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 2, "dtype": "float32", "compress": "deflate"}
    with rasterio.open(path, "w", **profile, crs=UTM, transform=GRID) as file:
        file.write(np.round(decibels(1)))  # compressible: in stored blocks nothing tells
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(content)


@refused("sar/p1.tif", "can't be read as GTiff")
def geokeys_that_are_no_text(root):
    placed(root)
    path = root / "sar/p1.tif"
    path.write_bytes(path.read_bytes().replace(b"WGS 84 / UTM", b"\xc0\xff 84 / UTM"))


@refused("sar/p1.tif", "GeoTIFF tags apparently corrupt")
def geokeys_that_count_wrong(root):
    placed(root)
    path = root / "sar/p1.tif"
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHHH", 1025, 0, 1, 1))  # GTRasterTypeGeoKey, in the key directory itself
    content[at + 4] = 198
    path.write_bytes(content)


@refused("sar/p1.tif: begins with b'<VRT'")
def virtual_raster(root):
    (root / "sar/p1.tif").write_text('<VRTDataset rasterXSize="64" rasterYSize="64"></VRTDataset>')


@refused("optical/p1.png: begins with b'GIF8'")
def gif_called_png(root):
    (root / "optical/p1.tif").unlink()
    (root / "optical/p1.png").write_bytes(b"GIF89a")


@refused("sar/p1.tif: declares 60000 x 60000 x 2 values")
def tiff_bomb(root):
    import rasterio

    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "width": 60_000, "height": 60_000}
    with rasterio.open(root / "sar/p1.tif", "w", **profile, sparse_ok=True, tiled=True, crs=UTM, transform=GRID):
        pass


@refused("optical/p1.png: declares 40000 x 40000 x 1 values")
def png_bomb(root):
    (root / "optical/p1.tif").unlink()
    rows = zlib.compress(b"\0" * 40_001 * 500, 9)  # of the 40,000 rows: the head is enough

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0))
    (root / "optical/p1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@refused("sar/p1.tif: holds complex64 values")
def complex_tiff(root):
    write(root / "sar/p1.tif", np.ones((1, 64, 64), np.complex64))


@refused("sar/p1.tif: holds 3 images (pages)")
def many_pages(root):
    from PIL import Image

    pages = [Image.fromarray(picture(seed, bands=1)[0]) for seed in range(3)]
    pages[0].save(root / "sar/p1.tif", save_all=True, append_images=pages[1:])


@refused("optical/p1.png: holds palette indices")
def palette_png(root):
    from PIL import Image

    (root / "optical/p1.tif").unlink()
    Image.fromarray(picture(1).transpose(1, 2, 0)).quantize(16).save(root / "optical/p1.png")


@refused("sar/p1.png: holds 1-bit values")
def one_bit_png(root):
    from PIL import Image

    (root / "sar/p1.tif").unlink()
    Image.fromarray(picture(1, bands=1)[0] > 128).save(root / "sar/p1.png")


# Files and folders


@refused("p1 (only in", "optical)")
def partner_missing(root):
    (root / "sar/p1.tif").unlink()


@refused("p1 (only in", "optical)")
def folder_called_tif(root):
    (root / "sar/p1.tif").unlink()
    (root / "sar/p1.tif").mkdir()


@refused("sar/p1.tif: Too many levels of symbolic links")
def link_to_itself(root):
    (root / "sar/p1.tif").unlink()
    (root / "sar/p1.tif").symlink_to("p1.tif")


@refused("sar/p1.tif: no such file")
def link_to_nowhere(root):
    (root / "sar/p1.tif").unlink()
    (root / "sar/p1.tif").symlink_to("nowhere.tif")


@refused("sar/p1.tif: a pipe or device, not a file")
def pipe(root):
    (root / "sar/p1.tif").unlink()
    os.mkfifo(root / "sar/p1.tif")


@refused("\\udcff", "the name is not UTF-8; rename it")
def name_that_is_no_text(root):
    for folder in ("sar", "optical"):
        os.rename(root / folder / "p1.tif", os.fsencode(root / folder) + b"/\xff.tif")


@refused("p1.tif: the same name as", "p1.png")
def two_files_of_one_name(root):
    write(root / "sar/p1.png", picture(1))


@refused("sar: holds no image; allowed are .tif")
def folder_without_an_image(root):
    for path in (root / "sar").iterdir():
        path.unlink()


@refused("S2: no such folder")
def folder_that_is_absent(root):
    return read_with(root, optical_folder="S2")


@refused("1 scene (p)")
def one_scene_only(root):
    return read_with(root, scene_pattern="^(p)")
