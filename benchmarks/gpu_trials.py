"""Several trials on one device: G2 and G7 of docs/speed.md.

Packed in one process, trials take turns on streams of their own; as processes they are what `resources.slots` starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_steps import BANDS, Scale, at_full_speed, synchronise, tiles, training
from benchmarks.paired import Row, ratios, take_turns
from trainers.ways import PLAIN

G2 = (1.3, 6.0)  # full size, 64 px
G7, LONG = 1.0, 600.0  # per cent that a device stands idle between trials of so many seconds
PATIENCE = 240.0  # seconds for the trials of one run


def in_turns(trainings: list, device: torch.device, scale: Scale, streams: list) -> Callable[[], float]:
    """Seconds of an update of all, on one stream or on one each; what was logged is read at the end of a block."""

    def block() -> float:
        synchronise(device)
        began = time.perf_counter()
        for _ in range(scale.steps):
            for ours, stream in zip(trainings, streams, strict=True):
                with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
                    ours.advance()
        synchronise(device)
        seconds = (time.perf_counter() - began) / scale.steps
        for ours in trainings:
            ours.window.close(ours.ranks)
        return seconds

    return block


def packed(device: torch.device, scale: Scale) -> Iterator[Row]:
    """G2 in one process: on streams of their own against one after another.

    For the time alone: graphs of one process have one seed of dropout between them, which streams would race for.
    """
    for count, tile, goal in zip(scale.packed, (scale.tile, scale.small), G2, strict=True):
        fast = [training(device, tile, scale.width, precision="bf16", batch=1, ways=scale.ways, seed=seed)
                for seed in range(1, count + 1)]  # fmt: skip
        plain = [training(device, tile, scale.width, precision="bf16", batch=1, seed=seed)
                 for seed in range(1, count + 1)]  # fmt: skip
        for ours in (*fast, *plain):
            for _ in range(scale.warm_up):
                ours.advance()
        for ours in fast:
            at_full_speed(ours)
        own = [torch.cuda.Stream(device) if device.type == "cuda" else None for _ in fast]
        none = [None] * count
        ways = {
            "packed": in_turns(fast, device, scale, own), "sequence": in_turns(fast, device, scale, none),
            "plain": in_turns(plain, device, scale, none),
        }  # fmt: skip
        for way in ways.values():
            way()
        found = take_turns(ways, scale.pairs)
        what = f"{count} trials at {tile} px, batch 1, {scale.how}, on streams of their own, against one after another"
        facts = {"milliseconds": {way: [round(1e3 * value, 3) for value in found[way]] for way in found}}
        yield Row("G2", what, ratios(found["sequence"], found["packed"]), goal, facts=facts)
        yield Row("G2", "the same against the plain way one after another", ratios(found["plain"], found["packed"]))


# -- as processes ---------------------------------------------------------------------------------


def as_processes(device: torch.device, scale: Scale) -> Iterator[Row]:
    """G2 as `resources.slots` does it, and G7: what passes between the end of a trial and the start of the next."""
    spans = {}
    with tempfile.TemporaryDirectory() as temporary:
        for slots in (1, scale.trials):
            for name, ways in (("plain", ""), ("fast", ",".join(scale.ways))):
                spans[slots, name] = _run(Path(temporary) / f"{slots} {name}", device, scale, slots=slots, ways=ways)
    for name in ("plain", "fast"):
        walls = [max(end for _, end in spans[slots, name]) - min(start for start, _ in spans[slots, name])
                 for slots in (1, scale.trials)]  # fmt: skip
        what = f"{scale.trials} trials at {scale.small} px side by side as processes, against one after another, {name}"
        yield Row("G2", what, (walls[0] / walls[1],), facts={"seconds": walls})
    ordered = sorted(spans[1, "fast"])
    gaps = [after[0] - before[1] for before, after in zip(ordered, ordered[1:], strict=False)]
    shares = tuple(100 * gap / (LONG + gap) for gap in gaps)
    what = f"idle between trials of {LONG / 60:.0f} minutes, from the end of one until the next has its networks"
    yield Row("G7", what, shares, G7, at_most=True, unit="%", facts={"seconds": gaps})


def _run(root: Path, device: torch.device, scale: Scale, *, slots: int, ways: str) -> list[tuple[float, float]]:
    """When each trial started (its networks built) and ended, by the clock of its stream."""
    from ablate import events
    from ablate.executor import LocalExecutor
    from tests.trainers import tiny

    of = tiny.recipe(tile=scale.small, steps=scale.updates, every=scale.updates, norm="batch", norm_g="batch")
    wide = {"generator.width": scale.width, "discriminator.width": scale.width, "discriminator.layers": 3}
    for path, value in wide.items():
        of = tiny.changed(of, path, value)
    _prepared(root / "cache" / f"tiny{scale.small}", scale.small)
    folders = [
        tiny.trial_folder(root, replace(tiny.spec(of, seed=seed), device=device.type), str(seed), metrics=("mae",))
        for seed in range(1, scale.trials + 1)
    ]
    here = (str(Path(__file__).resolve().parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep))
    with _environment(ABLATE_CUDA=ways or PLAIN, PYTHONPATH=os.pathsep.join(filter(None, here))):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[:1] if device.type == "cuda" else ()
        executor = LocalExecutor(slots, root / "log.txt", devices=visible)
        try:
            executor.warm_up()
            _finish(executor, [folder.root for folder in folders])
        finally:
            executor.close()
    spans = []
    for folder in folders:
        stream = events.read(folder.events)
        started, ended = (next(event.time for event in stream if isinstance(event, kind))
                          for kind in (events.Started, events.Ended))  # fmt: skip
        spans.append((started, ended))
    return spans


def _finish(executor, waiting: list[Path]) -> None:
    running, until = [], time.monotonic() + PATIENCE
    while waiting or running:
        if time.monotonic() > until:
            raise RuntimeError(f"the trials have not ended within {PATIENCE:.0f} s")
        while waiting and executor.free():
            running.append(executor.start("run", waiting.pop(0), ranks=1, threads=1))
        for handle in list(running):
            outcome = handle.poll()
            if outcome is not None:
                running.remove(handle)
                if not outcome.clean:
                    raise RuntimeError(f"a trial ended badly: {outcome}")
        time.sleep(0.01)


@contextlib.contextmanager
def _environment(**names: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    os.environ |= names
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _prepared(folder: Path, side: int) -> None:
    """The tiles of `gpu_steps.tiles` as a prepared data set, their SAR with two bands."""
    made = tiles(side)
    folder.mkdir(parents=True)
    arrays = {"sar": made.sar[:, :2], "optical": made.optical[:, :BANDS], "mask": made.mask}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    stated = {name: {"bytes": (folder / f"{name}.npy").stat().st_size, "shape": list(array.shape)}
              for name, array in arrays.items()}  # fmt: skip
    rows = {"name": list(made.names), "scene": list(made.scenes), "split": list(made.splits)}
    (folder / "meta.json").write_text(json.dumps({"arrays": stated, "tiles": rows}))
