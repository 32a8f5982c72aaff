"""Tile pairs a second and core: from the prepared cache, against decoding PNG files sample by sample with Pillow.

    python -m benchmarks.tiles                  a minute or two; a cache of 2 GB for the memory check
    python -m benchmarks.tiles --size 10        the same with 10 GB

Both sides give the same batches of float32 in [-1, 1]. They take turns in one process on one core, and medians are
compared: of 8-bit pictures stored as they are, and of the same stored in 16 bits, as floats and reflectance are; once
more with half of the tiles mirrored. Goals: 10 times Pillow from the memory map, 15 times where the tiles are resident
in memory (not mirrored); a reading process with no more than 300 MB of anonymous memory (RssAnon), whatever the size of
the cache. Exit code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.paired import Row, ratios
from trainers.layouts._common import Optical, Sar
from trainers.layouts.folders import Options as Folders
from trainers.prepare import prepare
from trainers.tiles import ARRAYS, Tiles

TILE, BATCH = 256, 16
GOALS = {"memory map": 10.0, "resident": 15.0}
ANONYMOUS_MB = 300
READ_PAIRS = 4000  # of the large cache, in the memory check

Read = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
Batch = tuple[np.ndarray, np.ndarray]  # indices, flips


def write_pictures(folder: Path, count: int) -> None:
    """Pairs of PNG files with the texture of speckle and of land: SAR grey, optical RGB."""
    from scipy.ndimage import gaussian_filter

    draw = np.random.default_rng(0)
    for index in range(count):
        land = gaussian_filter(draw.normal(size=(TILE, TILE, 3)), (6, 6, 0))
        optical = 120 + 45 * land / land.std() + draw.normal(0, 5, land.shape)
        sar = (90 + 30 * land[..., 0] / land.std()) * draw.gamma(4.4, 1 / 4.4, land.shape[:2])
        for side, values in (("sar", sar), ("optical", optical)):
            path = folder / side / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.clip(1, 255).astype(np.uint8)).save(path)


def by_pillow(folder: Path, names: Sequence[str]) -> Read:
    """Decodes the two files of every sample, as a loader without a cache does."""

    def one(side: str, name: str, flip: bool) -> np.ndarray:
        with Image.open(folder / side / f"{name}.png") as picture:
            values = np.asarray(picture, np.float32)
        values = values.reshape(TILE, TILE, -1).transpose(2, 0, 1)
        values = values[..., ::-1] if flip else values
        return values * np.float32(2 / 255) - 1

    def read(indices: np.ndarray, flips: np.ndarray) -> Sequence[np.ndarray]:
        return [
            np.stack([one(side, names[index], flip) for index, flip in zip(indices, flips, strict=True)])
            for side in ("sar", "optical")
        ]

    return read


def pairs_a_second(read: Read, batches: Sequence[Batch]) -> float:
    """By the processor's time, so that others on the machine don't count; files are in the page cache."""
    began = time.process_time()
    for indices, flips in batches:
        read(indices, flips)
    return sum(len(indices) for indices, _ in batches) / (time.process_time() - began)


def compare(pictures: Path, tiles: Tiles, *, rounds: int, error: float, mirrored: float) -> dict[str, list[float]]:
    """Pairs a second of each way to read, a value a round; the ways take turns in a round."""
    names = [name.split(":")[0] for name in tiles.names]
    resident = replace(tiles, **{name: np.array(getattr(tiles, name)) for name in ARRAYS})
    ways = {"Pillow": by_pillow(pictures, names), "memory map": tiles.read, "resident": resident.read}
    draw = np.random.default_rng(1)
    check = draw.permutation(len(tiles))[:BATCH], draw.random(BATCH) < 0.5
    for one, other in zip(ways["Pillow"](*check), tiles.read(*check), strict=False):
        assert np.abs(one - other).max() <= error, "both must give the same numbers"
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        order = draw.permutation(len(tiles))
        starts = range(0, len(order) - BATCH + 1, BATCH)
        batches = [(order[start : start + BATCH], draw.random(BATCH) < mirrored) for start in starts]
        for way, read in ways.items():
            repeats = 1 if way == "Pillow" else 10
            found[way].append(pairs_a_second(read, batches * repeats))
    return found


def report_speed(title: str, found: dict[str, list[float]]) -> bool:
    """Print medians and ratios; whether the goals are reached."""
    pillow = found["Pillow"]
    print(f"{title}: pairs of {TILE} px a second and core, median (lowest .. highest) of {len(pillow)} rounds")
    reached = True
    for way, values in found.items():
        ratio = statistics.median(value / base for value, base in zip(values, pillow, strict=True))
        goal = f"   {ratio:5.1f} x Pillow, goal {GOALS[way]:.0f} x" if way in GOALS else ""
        print(f"  {way:<11} {statistics.median(values):8.0f} ({min(values):.0f} .. {max(values):.0f}){goal}")
        reached &= ratio >= GOALS.get(way, 0)
    return reached


def measure(*, pairs: int, quick: bool) -> list[Row]:
    """C7: a row for each way to read 8-bit tiles, as `make bench` asks for them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pictures(folder / "pictures", BATCH if quick else 3 * BATCH)
        tiles = Tiles.open(prepare(Folders(root=str(folder / "pictures"), tile=TILE), folder / "cache"))
        found = compare(folder / "pictures", tiles, rounds=1 if quick else pairs, error=0, mirrored=0.0)
    return [
        Row("C7", f"tile pairs a second and core, {way}, against Pillow", ratios(found[way], found["Pillow"]), goal,
            facts={"pairs_a_second": {name: found[name] for name in (way, "Pillow")}})
        for way, goal in GOALS.items()
    ]  # fmt: skip


# -- memory -------------------------------------------------------------------------------------


def write_large(folder: Path, gigabytes: float) -> int:
    """A prepared set of that size as float sources give it, 16 bits and no holes in its files; its number of tiles."""
    draw = np.random.default_rng(0)
    channels = {"sar": 2, "optical": 3, "mask": 1}
    kinds = {"sar": np.uint16, "optical": np.uint16, "mask": np.uint8}
    one = {
        name: draw.integers(0, 2**16, (64, count, TILE, TILE)).astype(kinds[name]) for name, count in channels.items()
    }
    one["mask"][:] = 1
    count = 64 * max(1, round(gigabytes * 1e9 / sum(array.nbytes for array in one.values())))
    arrays = {}
    for name, block in one.items():
        path = folder / f"{name}.npy"
        shape = (count, *block.shape[1:])
        with open(path, "wb") as file:
            header = {"descr": block.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(count // 64):
                file.write(block.tobytes())
        arrays[name] = {"shape": list(shape), "dtype": block.dtype.name, "bytes": path.stat().st_size}
    rows = {"name": [f"t{i}" for i in range(count)], "scene": ["s"] * count, "split": ["train"] * count}
    (folder / "meta.json").write_text(json.dumps({"arrays": arrays, "tiles": rows}))
    return count


def anonymous_mb() -> float:
    """Anonymous memory of this process: what is not a file's pages, which the kernel can drop at any time."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no RssAnon: this check needs Linux")


def read_large(folder: Path) -> None:
    """In a process of its own: read batches in training's order and print the most anonymous memory, in MB."""
    from trainers.tiles import Order

    tiles = Tiles.open(folder)
    order = Order(tiles.split("train"), seed=0, batch=BATCH, flip=True)
    most = 0.0
    for k in range(READ_PAIRS // BATCH):
        batch = tiles.read(*order.batch_at(k))
        most = max(most, anonymous_mb())
        del batch
    print(most)


def check_memory(gigabytes: float) -> bool:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        count = write_large(folder, gigabytes)
        command = [sys.executable, "-m", "benchmarks.tiles", "--read", str(folder)]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        most = max(float(reader.communicate()[0]) for reader in readers)
    print(f"memory: {count} tile pairs, {gigabytes:g} GB, two processes that read {READ_PAIRS} pairs each: "
          f"{most:.0f} MB anonymous, goal {ANONYMOUS_MB} MB")  # fmt: skip
    return most <= ANONYMOUS_MB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=2.0, help="GB of the cache in the memory check; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the comparison")
    parser.add_argument("--pairs", type=int, default=96, help="pairs of pictures")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        read_large(Path(asked.read))
        return 0
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    reached = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pictures(folder / "pictures", asked.pairs)
        usual = Folders(root=str(folder / "pictures"), tile=TILE)
        almost = 255 + 1e-3  # a range that 8 bits don't hold exactly
        wide = replace(usual, sar=Sar(low=(0,), high=(almost,)), optical=Optical(range=(0, almost)))
        for bits, data, error in ((8, usual, 0), (16, wide, 1e-4)):
            tiles = Tiles.open(prepare(data, folder / "cache"))
            assert tiles.sar.itemsize == tiles.optical.itemsize == bits // 8
            for mirrored in (0.0, 0.5):
                found = compare(
                    folder / "pictures", tiles, rounds=asked.rounds, error=error, mirrored=mirrored
                )  # fmt: skip
                within = report_speed(f"{bits} bits{', half of them mirrored' if mirrored else ''}", found)
                reached += [] if mirrored else [within]
    if asked.size:
        reached.append(check_memory(asked.size))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
