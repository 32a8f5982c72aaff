"""C5: a full-size update (U-Net-256 and PatchGAN, 57 million parameters, 256 px, batch 1) against a textbook step.

Both sides run on one core and are told by their processor time, so that others on the machine count less. The
library's side is `Training.advance` whole: it reads its tile, logs its losses and gradient norms. The textbook's is
`benchmarks.baseline.step` on tensors that lie ready.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.paired import Row, ratios, take_turns

TILE, WIDTH, BATCH = 256, 64, 1
GOAL = 1.6
FORMATS = ("contiguous", "channels_last")
LIMIT = "nine tenths of either step are convolutions, by the same library; what can differ is the rest, above all Adam"


def measure(*, pairs: int, quick: bool, tile: int = TILE, width: int = WIDTH) -> list[Row]:
    """A row for each memory format of the recipe; the first one is the default."""
    import torch

    torch.set_num_threads(1)
    if quick:
        tile, width, pairs = 64, 8, 1
    with tempfile.TemporaryDirectory() as temporary:
        ways = {name: _ours(Path(temporary), name, tile, width) for name in FORMATS}
        ways["textbook"] = _textbook(tile, width)
        for step in ways.values():  # the first update makes the optimiser's state
            step()
        flops = _flops(ways[FORMATS[0]])
        found = take_turns({name: _clocked(step) for name, step in ways.items()}, max(pairs, 1))
    peak = _peak()
    rows = []
    for name in FORMATS:
        step = f"full-size step at batch {BATCH}, {tile} px, one core, against a textbook step"
        what = step if name == FORMATS[0] else "the same with memory_format channels_last"
        floor = flops / peak / min(found[name])
        facts = {"seconds": {way: found[way] for way in (name, "textbook")}, "gflop": flops / 1e9, "gflops": peak / 1e9}
        target = GOAL if name == FORMATS[0] else None
        measured = ratios(found["textbook"], found[name])
        rows.append(Row("C5", what, measured, target, floor=floor, facts=facts, note=LIMIT))
    return rows


def recipe(tile: int, width: int, **parts: Any):
    """The pix2pix recipe of that size as a study states it; batch 1, batch norm."""
    from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, OBJECTIVES, TERMS
    from trainers.recipe import Budget, Evaluate, Recipe

    chosen = {
        "data": LAYOUTS.options("synthetic")(tile=tile, flip="none"),
        "generator": GENERATORS.options("unet")(width=width),
        "discriminator": DISCRIMINATORS.options("patchgan")(width=width),
        "objective": OBJECTIVES.options("vanilla")(),
        "terms": {"l1": TERMS.options("l1")(weight=100.0)},
        "batch": BATCH,
        "budget": Budget(generator_updates=1000),
        "evaluate": Evaluate(every=1000),
    }
    return Recipe(**(chosen | parts))


def _ours(root: Path, memory_format: str, tile: int, width: int) -> Callable[[], None]:
    from tests.trainers import tiny
    from trainers.recipe import Compute

    folder = root / "tiles"
    if not folder.exists():
        tiny.prepared(folder, tiles=12, tile=tile)
    return tiny.training(recipe(tile, width, compute=Compute(memory_format=memory_format)), folder).advance


def _textbook(tile: int, width: int) -> Callable[[], None]:
    import torch

    from benchmarks.baseline.step import Pix2Pix, networks
    from tests.trainers.tiny import BANDS_OPTICAL, BANDS_SAR

    document = recipe(tile, width).to_document()
    model = Pix2Pix(document, *networks(document, BANDS_SAR, BANDS_OPTICAL))
    sar, real = (torch.rand(BATCH, bands, tile, tile) * 2 - 1 for bands in (BANDS_SAR, BANDS_OPTICAL))
    return lambda: model.update(sar, real)


def _clocked(step: Callable[[], None]) -> Callable[[], float]:
    def seconds() -> float:
        began = time.process_time()
        step()
        return time.process_time() - began

    return seconds


def _flops(step: Callable[[], None]) -> float:
    """Multiplications and additions of a step's convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def _peak(side: int = 1536) -> float:
    """FLOP/s of one core in a matrix product."""
    import torch

    one = torch.rand(side, side)
    return max(2 * side**3 / _clocked(lambda: one @ one)() for _ in range(5))
