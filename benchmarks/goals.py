"""The goals of docs/speed.md, measured here: `make bench`, or

    python -m benchmarks.goals [--only C1,C5] [--pairs 5] [--quick] [--demo] [--out docs/benchmarks/cpu.json]

A goal is a ratio of two ways that take turns in one run; see benchmarks.paired. `--quick` tries every part once on
small sizes and writes nothing: its numbers say nothing about speed. Exit code 0 however many goals are met.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks import paired

ROOT = Path(__file__).resolve().parents[1]
OUT, PAGE = ROOT / "docs/benchmarks/cpu.json", ROOT / "docs/speed.md"
# What each is stands at the head of its file.
GOALS = {"C1": "rate", "C2": "starts", "C3": "overhead", "C5": "full_step", "C6": "penalty", "C7": "tiles",
         "C8": "schedulers"}  # fmt: skip
FEWEST_PAIRS = 5

Measure = Callable[..., list[paired.Row]]


def chosen(only: str) -> list[str]:
    """The goals named, in their order. Raises ValueError for one that there is not."""
    named = [name.strip().upper() for name in only.split(",") if name.strip()]
    if unknown := [name for name in named if name not in GOALS]:
        raise ValueError(f"--only: no such goal: {', '.join(unknown)}; there are {', '.join(GOALS)}")
    return [name for name in GOALS if name in named or not named]


def measures(names: Sequence[str], *, demo: bool) -> dict[str, Measure]:
    found = {name: import_module(f"benchmarks.{GOALS[name]}").measure for name in names}
    if demo and "C1" in found:
        found["C1"] = partial(found["C1"], demo=True)
    return found


def run(names: Sequence[str], *, pairs: int, quick: bool, demo: bool = False, out: Path | None = None) -> None:
    """Measure and print, a line a row; the rows of a goal are kept in `out` before the next one begins."""
    print(paired.HEAD, flush=True)
    for measure in measures(names, demo=demo).values():
        rows = measure(pairs=pairs, quick=quick)
        for row in rows:
            print(row.line(), flush=True)
        if out:
            keep(rows, out)


def keep(rows: Sequence[paired.Row], path: Path) -> None:
    """Write the rows; those that the file holds of goals which were not measured now stay."""
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    measured = {row.goal for row in rows}
    stamp = {"date": date.today().isoformat(), "load": round(os.getloadavg()[0], 1), "machine": paired.machine()}
    kept = [row for row in before if row["goal"] not in measured] + [row.to_json() | stamp for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": sorted(kept, key=lambda row: row["goal"])}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"some of {', '.join(GOALS)}, with commas")
    parser.add_argument("--pairs", type=int, default=FEWEST_PAIRS, help="pairs of turns a ratio is the median of")
    parser.add_argument("--quick", action="store_true", help="try every part once, on small sizes; writes nothing")
    parser.add_argument("--demo", action="store_true", help="C1 on four arms of studies/stabilizer.yaml too")
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures go, as JSON")
    asked = parser.parse_args(arguments)
    try:
        names = chosen(asked.only)
        if asked.pairs < 1:
            raise ValueError(f"--pairs: {asked.pairs}; at least 1")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if (load := os.getloadavg()[0]) > 1:
        print(f"others are at work here (load {load:.1f}): ratios of pairs bear that, times don't\n", flush=True)
    run(names, pairs=asked.pairs, quick=asked.quick, demo=asked.demo, out=None if asked.quick else asked.out)
    if not asked.quick:
        print(f"\n{asked.out}")
        if asked.out == OUT:
            paired.insert(PAGE, OUT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
