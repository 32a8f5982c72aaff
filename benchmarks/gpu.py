"""The goals of docs/speed.md that one CUDA device can show: `make bench-gpu`, in less than ten minutes.

    python -m benchmarks.gpu [--out docs/benchmarks/gpu.json] [--seconds 480]
    python -m benchmarks.gpu --dry          the correctness part alone, on the CPU where there is no CUDA

Needs torch and numpy, nothing else of what ablate installs. It first trains the library's step and the textbook step
(benchmarks/baseline/step.py) from the same weights on the same tiles and compares their losses; then it times them in
turn. Without CUDA it says so, and ends with 0.

    G1  the step, in bf16 and channels_last, against the textbook step in fp32 with TF32, batch 1, 4 and 16
    G5  images a second at batch 16 over 9,179, what 798 TFLOP/s and 3.0 TB/s would give (docs/speed.md)
    G6  a WGAN-GP step over a BCE step, of equal networks

Packed trials (G2) and the idle time between trials (G7) need what is not built yet; they are not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baseline.step import Pix2Pix, networks
from benchmarks.full_step import recipe
from benchmarks.paired import HEAD, Row, machine, ratios, take_turns

BANDS, TILE, WIDTH = 3, 256, 64
G1 = {1: 3.0, 4: 2.5, 16: 1.5}  # batch -> goal
GFLOP, ADAM_GB = 86.9, 1.60  # of an image in a step; moved by the optimisers in a step (docs/speed.md)
BOUND, SHARE = 9179, 25.0  # images a second on an H100; per cent of them to reach
G6 = 1.35
PAIRS, STEPS, WARM_UP = 5, 20, 8
SAME = {"fp32": 1e-3, "bf16": 0.1}  # relative, of losses after a few updates; Adam carries rounding on
OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/gpu.json"


def tiles(tile: int, count: int = 64):
    """Noise in 8-bit codes, resident in memory."""
    from trainers.tiles import Tiles

    draw = np.random.default_rng(0)
    sar, optical = draw.integers(0, 256, (2, count, BANDS, tile, tile), np.uint8)
    splits = ("train",) * (count - 8) + ("validation",) * 8
    names = tuple(f"t{index}" for index in range(count))
    return Tiles(sar, optical, np.ones((count, 1, tile, tile), np.uint8), names, names, splits)


def training(device: torch.device, tile: int = TILE, width: int = WIDTH, *, precision: str = "fp32", **parts: Any):
    """The library's networks before their first update."""
    from ablate.records import TrialSpec
    from trainers.ranks import Ranks
    from trainers.recipe import Compute
    from trainers.training import Training

    memory_format = "channels_last" if precision == "bf16" else "contiguous"
    of = recipe(tile, width, compute=Compute(precision=precision, memory_format=memory_format), **parts)
    spec = TrialSpec(of.to_document(), seed=1, ranks=1, threads=1, device=device.type, data="noise")
    return Training(of, spec, tiles(tile), Ranks(device=device))


def textbook(of: Any, device: torch.device) -> Pix2Pix:
    document = of.to_document()
    made = [network.to(device) for network in networks(document, BANDS, BANDS)]
    return Pix2Pix(document, *made)


# -- correctness ----------------------------------------------------------------------------------


def differences(device: torch.device, *, precision: str, tile: int = 64, width: int = 8, updates: int = 4) -> float:
    """Largest relative difference of a loss between the library's updates and the textbook's, from equal weights."""
    from trainers.pix2pix_keys import discriminator_state, generator_state

    ours = training(device, tile, width, precision=precision, batch=4)
    plain = textbook(ours.recipe, device)
    for network, renamed, theirs in (
        (ours.generator, generator_state, plain.generator),
        (ours.discriminator, discriminator_state, plain.discriminator),
    ):
        network.load_state_dict(renamed(theirs.state_dict()), strict=False)
        assert all(name in renamed(theirs.state_dict()) for name, _ in network.named_parameters())
    worst = 0.0
    for update in range(updates):
        batch = ours.draws.batch(update)
        expected = plain.update(batch.sar.contiguous(), batch.real.contiguous())
        ours.advance()
        found = ours.window.close(ours.ranks).values(0.0)
        for key in ("loss_d", "loss_g", "loss_g_adv"):
            worst = max(worst, abs(found[key] - expected[key]) / abs(expected[key]))
    return worst


def check(device: torch.device) -> bool:
    """Print how far the library's step is from the textbook step, in every precision that the device has."""
    whole = True
    for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
        found = differences(device, precision=precision)
        within = found <= SAME[precision]
        whole &= within
        print(f"{precision} on {device.type}: losses of 4 updates differ from the textbook step's by {found:.1e}"
              f" at most; {SAME[precision]:.0e} is allowed{'' if within else ': WRONG'}", flush=True)  # fmt: skip
    return whole


# -- speed ----------------------------------------------------------------------------------------


def timed(advance: Callable[[], object]) -> Callable[[], float]:
    """Seconds of a step: the mean of a block, after the device has done all of it."""

    def block(steps: int) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            advance()
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps

    block(WARM_UP)
    return lambda: block(STEPS)


def library(device: torch.device, **parts: Any) -> Callable[[], None]:
    """An update with its reading of tiles and its logging; what was logged is read now and then, as a trial does."""
    ours = training(device, precision="bf16", **parts)

    def advance() -> None:
        ours.advance()
        if ours.done % STEPS == 0:
            ours.window.close(ours.ranks)

    return advance


def eager(device: torch.device, batch: int) -> Callable[[], None]:
    """The textbook step in fp32 with TF32 on tensors that lie on the device."""
    plain = textbook(recipe(TILE, WIDTH, batch=batch), device)
    sar, real = (torch.rand(batch, BANDS, TILE, TILE, device=device) * 2 - 1 for _ in range(2))

    def advance() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        plain.update(sar, real)

    return advance


def floor(batch: int, flops: float, bandwidth: float) -> float:
    """Seconds that a step takes at least: its products at the device's speed, then Adam at its bandwidth."""
    return batch * GFLOP * 1e9 / flops + ADAM_GB * 1e9 / bandwidth


def peaks(device: torch.device) -> tuple[float, float]:
    """FLOP/s of a bf16 matrix product, and bytes a second of a copy (read and written)."""
    side, size = 8192, 2**28
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    long, other = torch.zeros(size, device=device), torch.empty(size, device=device)
    product = min(timed(lambda: one @ one)() for _ in range(3))
    copied = min(timed(lambda: other.copy_(long))() for _ in range(3))
    return 2 * side**3 / product, 2 * 4 * size / copied


def steps_against_eager(device: torch.device, flops: float, bandwidth: float) -> list[Row]:
    """G1 and G5."""
    rows, h100 = [], "H100" in torch.cuda.get_device_name(device)
    for batch, goal in G1.items():
        ways = {"eager": timed(eager(device, batch)), "library": timed(library(device, batch=batch))}
        found = take_turns(ways, PAIRS)
        facts = {"milliseconds": {way: [round(1e3 * value, 3) for value in found[way]] for way in found}}
        share = floor(batch, flops, bandwidth) / min(found["library"])
        what = f"full-size step at batch {batch}, bf16 and channels_last, against eager fp32 with TF32"
        rows.append(Row("G1", what, ratios(found["eager"], found["library"]), goal, floor=share, facts=facts))
        if batch == 16:
            speeds = tuple(100 * batch / seconds / BOUND for seconds in found["library"])
            what = f"images a second at batch {batch}, of {BOUND:,}"
            rows.append(Row("G5", what, speeds, SHARE if h100 else None, unit="%"))
    return rows


def penalty_over_bce(device: torch.device) -> list[Row]:
    """G6: without a norm in D, and beside it with instance norm, whose second derivative costs more."""
    from trainers.families import DISCRIMINATORS, OBJECTIVES

    rows = []
    for norm, goal in (("none", G6), ("instance", None)):
        critic = DISCRIMINATORS.options("patchgan")(width=WIDTH, norm=norm)
        ways = {
            name: timed(library(device, batch=4, discriminator=critic, objective=OBJECTIVES.options(name)()))
            for name in ("wgan_gp", "vanilla")
        }
        found = take_turns(ways, PAIRS)
        what = f"WGAN-GP step over BCE step at batch 4, norm {norm} in D"
        rows.append(Row("G6", what, ratios(found["wgan_gp"], found["vanilla"]), goal, at_most=True))
    return rows


def measure(device: torch.device, seconds: float) -> list[Row]:
    began, rows = time.monotonic(), []
    flops, bandwidth = peaks(device)
    print(f"\n{torch.cuda.get_device_name(device)}, torch {torch.__version__}: {flops / 1e12:.0f} TFLOP/s in a bf16"
          f" product, {bandwidth / 1e12:.2f} TB/s in a copy; floors are of these\n\n{HEAD}", flush=True)  # fmt: skip
    for part in (lambda: steps_against_eager(device, flops, bandwidth), lambda: penalty_over_bce(device)):
        if time.monotonic() - began > seconds:
            print(f"the rest is left out: {seconds:.0f} s have passed", flush=True)
            break
        for row in part():
            print(row.line(), flush=True)
            rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="correctness alone, on the CPU where there is no CUDA")
    parser.add_argument("--seconds", type=float, default=480.0, help="begin no further goal after so long")
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures go, as JSON")
    asked = parser.parse_args(arguments)
    cuda = torch.cuda.is_available()
    if not cuda and not asked.dry:
        print("this torch sees no CUDA device: nothing is measured (--dry checks the step on the CPU)")
        return 0
    torch.manual_seed(0)
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    if not check(device):
        print("the step is wrong; its speed is of no interest", file=sys.stderr)
        return 1
    if asked.dry:
        return 0
    rows = measure(device, asked.seconds)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"device": torch.cuda.get_device_name(device), "machine": machine()}
    asked.out.write_text(json.dumps({"rows": [row.to_json() | stamp for row in rows]}, indent=1) + "\n")
    print(f"\n{asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
