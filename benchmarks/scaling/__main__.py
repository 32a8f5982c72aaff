"""How the project scales, measured here: `make bench-scaling`, or

    python -m benchmarks.scaling [--only driver,step] [--quick] [--out docs/benchmarks]

driver: time and memory of the driver over the number of trials; nodes: both over the course of a study on a scripted
cluster; slots: trials an hour over slots, and the driver's part of a core meanwhile; step: an update and a rank's
memory over batch and tile. Points are kept in scaling.json with processor, versions and load, and drawn beside it;
docs/speed.md shows both. `--quick` tries every part on small sizes and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import paired
from benchmarks.scaling import driver, figures, nodes, slots, step

ROOT = Path(__file__).resolve().parents[2]
OUT, PAGE = ROOT / "docs/benchmarks", ROOT / "docs/speed.md"
MOST_PROJECTED = 315
SHORT, LONG = 40, 2000  # generator updates of a trial
MARK, END = "<!-- scaling.json -->\n", "<!-- end -->"


def of_driver(quick: bool) -> Iterable[object]:
    """With projections no more than MOST_PROJECTED trials: each takes a quarter of a second on a busy machine."""
    sizes = driver.SIZES[:2] if quick else driver.SIZES
    yield from (driver.measure(size) for size in sizes)
    if not quick:
        yield from (driver.measure(size, readings=50) for size in (30, 315))
        yield from (driver.measure(size, projected=True) for size in sizes if size <= MOST_PROJECTED)


def of_nodes(quick: bool) -> Iterable[object]:
    yield from nodes.measure(*((40, 4) if quick else (nodes.TRIALS, nodes.NODES)))


def of_slots(quick: bool) -> Iterable[object]:
    """Short trials, whose beginnings and ends weigh most, and longer ones."""
    if quick:
        return (yield slots.measure(2, seeds=1, updates=4))
    yield from (slots.measure(number, seeds=2, updates=SHORT) for number in (1, 2, 2, 1))
    yield slots.measure(2, seeds=2, updates=LONG)


def of_step(quick: bool) -> Iterable[object]:
    tiles, batches, width = ((64,), (1, 2), 4) if quick else (step.TILES, step.BATCHES, step.WIDTH)
    for tile in tiles:
        yield from step.measure(tile, batches, width)


PARTS: dict[str, Callable[[bool], Iterable[object]]] = {
    "driver": of_driver, "nodes": of_nodes, "slots": of_slots, "step": of_step,
}  # fmt: skip


def run(names: Sequence[str], *, quick: bool, out: Path | None) -> None:
    """Measure, a line of JSON a point; each part is kept and drawn in the folder `out` before the next one begins."""
    for name in names:
        points = []
        for point in PARTS[name](quick):
            points.append(asdict(point))
            print(name, json.dumps(_rounded(points[-1])), flush=True)
        if out:
            keep(name, points, out)


def keep(name: str, points: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write a part's points into scaling.json, those of other parts as they were, and its figure beside it."""
    path = folder / "scaling.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    stamp = {"date": date.today().isoformat(), "load": round(os.getloadavg()[0], 1), "machine": paired.machine()}
    kept[name] = stamp | {"points": [_rounded(one) for one in points]}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({part: kept[part] for part in PARTS if part in kept}, indent=1) + "\n")
    (folder / f"scaling-{name}.png").write_bytes(figures.draw(name, kept[name]["points"]))


def _rounded(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in point.items()}


def shown(kept: Path) -> str:
    """Every part's figure with its sentence, in Markdown."""
    parts = json.loads(kept.read_text())
    return "\n\n".join(
        f"![{name}](benchmarks/scaling-{name}.png)\n\n{figures.sentence(name, part['points'])} Load {part['load']:g} "
        f"on {part['machine']['cores']} cores."
        for name, part in parts.items()
    )


def insert(page: Path, kept: Path) -> None:
    """Put the figures into their place in a page."""
    before, found, rest = page.read_text().partition(MARK)
    if not found:
        raise ValueError(f"{page}: {MARK.strip()} is not there: no place for the figures")
    page.write_text(f"{before}{MARK}{shown(kept)}\n{END}{rest.partition(END)[2]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}, with commas")
    parser.add_argument("--quick", action="store_true", help="try every part once, on small sizes; keeps nothing")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder for scaling.json and the figures")
    asked = parser.parse_args(arguments)
    names = [name.strip() for name in asked.only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PARTS]:
        print(f"--only: no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    run(names, quick=asked.quick, out=None if asked.quick else asked.out)
    if not asked.quick and asked.out == OUT:
        insert(PAGE, OUT / "scaling.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
