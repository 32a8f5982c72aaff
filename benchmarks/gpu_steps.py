"""What an update takes on one device: G1, G5 and G6 of docs/speed.md, and the way that a trial would choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.baseline.step import Pix2Pix, networks
from benchmarks.full_step import recipe
from benchmarks.paired import Row, ratios, take_turns

BANDS = 3
WAYS = ("graph", "resident")
GFLOP, ADAM_GB = 86.9, 1.60  # of an image in a step; moved by the optimisers in a step (docs/speed.md)
BOUND, SHARE = 9179, 25.0  # images a second on an H100; per cent of them to reach
G6 = 1.35


@dataclass(frozen=True)
class Scale:
    """How much is measured: the real thing, or as little as shows that it runs."""

    tile: int = 256
    width: int = 64
    batches: Mapping[int, float] = ((1, 3.0), (4, 2.5), (16, 1.5))  # with the goals of G1
    pairs: int = 5
    steps: int = 20
    warm_up: int = 8  # a graph is taken after three
    small: int = 64  # px, of trials that don't fill a device
    packed: tuple[int, int] = (4, 8)  # trials at full size, and at the small one
    updates: int = 600  # of a trial that runs as a process
    trials: int = 4
    side: int = 8192  # of a product that shows the device's speed
    ways: tuple[str, ...] = WAYS  # those that are right on this device

    @property
    def how(self) -> str:
        return f"by {' and '.join(self.ways)}" if self.ways else "the plain way"


DRY = Scale(tile=64, width=8, batches=((1, 3.0), (2, 2.5)), pairs=1, steps=2, warm_up=5, packed=(2, 2), updates=6,
            trials=2, side=256)  # fmt: skip


# -- what takes turns -----------------------------------------------------------------------------


def tiles(tile: int, count: int = 64):
    """Noise in 8-bit codes, resident in memory."""
    from trainers.tiles import Tiles

    draw = np.random.default_rng(0)
    sar, optical = draw.integers(0, 256, (2, count, BANDS, tile, tile), np.uint8)
    splits = ("train",) * (count - 8) + ("validation",) * 8
    names = tuple(f"t{index}" for index in range(count))
    return Tiles(sar, optical, np.ones((count, 1, tile, tile), np.uint8), names, names, splits)


def training(
    device: torch.device, tile: int, width: int, *, precision: str = "fp32", ways: tuple[str, ...] = (), seed: int = 1,
    **parts: Any,
):  # fmt: skip
    """The library's networks before their first update; by `ways` from then on, whichever were the faster."""
    from ablate.records import TrialSpec
    from trainers.ranks import Ranks
    from trainers.recipe import Compute
    from trainers.training import Training

    memory_format = "channels_last" if precision == "bf16" else "contiguous"
    of = recipe(tile, width, compute=Compute(precision=precision, memory_format=memory_format), **parts)
    spec = TrialSpec(of.to_document(), seed=seed, ranks=1, threads=1, device=device.type, data="noise")
    made = Training(of, spec, tiles(tile), Ranks(device=device), ways=ways)
    made.fast.choice.decided = "fast"
    return made


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(advance: Callable[[], object], device: torch.device, scale: Scale) -> Callable[[], float]:
    """Seconds of a step: the mean of a block, after the device has done all of it."""

    def block(steps: int) -> float:
        synchronise(device)
        began = time.perf_counter()
        for _ in range(steps):
            advance()
        synchronise(device)
        return (time.perf_counter() - began) / steps

    block(scale.warm_up)
    return lambda: block(scale.steps)


def library(device: torch.device, scale: Scale, **parts: Any) -> Callable[[], float]:
    """An update with its reading of tiles and its logging; what was logged is read now and then, as a trial does."""
    ours = training(device, scale.tile, scale.width, **{"precision": "bf16", **parts})

    def advance() -> None:
        ours.advance()
        if ours.done % scale.steps == 0:
            ours.window.close(ours.ranks)

    found = timed(advance, device, scale)
    at_full_speed(ours)
    return found


def at_full_speed(ours) -> None:
    """Raises RuntimeError where graphs were asked for and there is none."""
    graphs = ours.fast.graphs
    if "graph" in str(ours.fast) and (graphs is None or not graphs.steady):
        raise RuntimeError(f"no graph: {graphs.broken if graphs else ours.fast}")


def textbook(of: Any, device: torch.device) -> Pix2Pix:
    document = of.to_document()
    made = [network.to(device) for network in networks(document, BANDS, BANDS)]
    return Pix2Pix(document, *made)


def eager(device: torch.device, scale: Scale, batch: int) -> Callable[[], float]:
    """The textbook step in fp32 with TF32 on tensors that lie on the device."""
    plain = textbook(recipe(scale.tile, scale.width, batch=batch), device)
    sar, real = (torch.rand(batch, BANDS, scale.tile, scale.tile, device=device) * 2 - 1 for _ in range(2))

    def advance() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        plain.update(sar, real)

    return timed(advance, device, scale)


# -- goals ----------------------------------------------------------------------------------------


def peaks(device: torch.device, scale: Scale) -> tuple[float, float]:
    """FLOP/s of a bf16 matrix product, and bytes a second of a copy (read and written)."""
    side, size = scale.side, 4 * scale.side**2
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    long, other = torch.zeros(size, device=device), torch.empty(size, device=device)
    product = min(timed(lambda: one @ one, device, scale)() for _ in range(3))
    copied = min(timed(lambda: other.copy_(long), device, scale)() for _ in range(3))
    return 2 * side**3 / product, 2 * 4 * size / copied


def floor(batch: int, flops: float, bandwidth: float) -> float:
    """Seconds that a full-size step takes at least: its products at the device's speed, then Adam at its bandwidth."""
    return batch * GFLOP * 1e9 / flops + ADAM_GB * 1e9 / bandwidth


def steps_against_eager(device: torch.device, scale: Scale) -> Iterator[Row]:
    """G1 and G5."""
    flops, bandwidth = peaks(device, scale)
    print(f"{flops / 1e12:.3g} TFLOP/s in a bf16 product, {bandwidth / 1e12:.3g} TB/s in a copy; floors are of these")
    h100 = device.type == "cuda" and "H100" in torch.cuda.get_device_name(device)
    for batch, goal in dict(scale.batches).items():
        ways = {
            "eager": eager(device, scale, batch),
            "fast": library(device, scale, batch=batch, ways=scale.ways),
            "fast in tf32": library(device, scale, batch=batch, ways=scale.ways, precision="tf32"),
            "plain": library(device, scale, batch=batch),
        }
        found = take_turns(ways, scale.pairs)
        facts = {"milliseconds": {way: [round(1e3 * value, 3) for value in found[way]] for way in found}}
        step = f"step at {scale.tile} px and batch {batch}"
        said = {
            "fast": f"{step}, bf16 and channels_last, {scale.how}, against eager fp32 with TF32",
            "fast in tf32": "the same in fp32 with TF32", "plain": "the same in bf16 the plain way",
        }  # fmt: skip
        for way, what in said.items():
            share = floor(batch, flops, bandwidth) / min(found[way]) if scale.tile == 256 else None
            yield Row("G1", what, ratios(found["eager"], found[way]), goal if way == "fast" else None, floor=share,
                      facts=facts)  # fmt: skip
        if batch == max(dict(scale.batches)):
            speeds = tuple(100 * batch / seconds / BOUND for seconds in found["fast"])
            what = f"images a second at batch {batch}, of {BOUND:,}"
            yield Row("G5", what, speeds, SHARE if h100 else None, unit="%")


def penalty_over_bce(device: torch.device, scale: Scale) -> Iterator[Row]:
    """G6: without a norm in D, and beside it with instance norm, whose second derivative costs more."""
    from trainers.families import DISCRIMINATORS, OBJECTIVES

    for norm, goal in (("none", G6), ("instance", None)):
        critic = DISCRIMINATORS.options("patchgan")(width=scale.width, norm=norm)
        ways = {
            name: library(device, scale, batch=4, ways=scale.ways, discriminator=critic,
                          objective=OBJECTIVES.options(name)())
            for name in ("wgan_gp", "vanilla")
        }  # fmt: skip
        found = take_turns(ways, scale.pairs)
        what = f"WGAN-GP step over BCE step at batch 4, {scale.how}, norm {norm} in D"
        yield Row("G6", what, ratios(found["wgan_gp"], found["vanilla"]), goal, at_most=True)


def choice(device: torch.device, scale: Scale) -> Iterator[Row]:
    """What a trial at batch 1 would choose, by its own clock; no goal but that it is not the slower way."""
    if "graph" not in scale.ways:
        return
    ours = training(device, scale.tile, scale.width, precision="bf16", batch=1, ways=scale.ways)
    ours.fast.choice.decided = ""
    while not ours.fast.choice.decided:
        ours.advance()
    found = {way: tuple(seconds) for way, seconds in ours.fast.choice.seconds.items()}
    yield Row("G1", f"an update's choice at batch 1, the plain way over graphs ({ours.fast})",
              ratios(found["plain"], found["fast"]))  # fmt: skip
