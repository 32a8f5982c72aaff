"""The goals of docs/speed.md that one CUDA device can show: `make bench-gpu`, in less than ten minutes.

    python -m benchmarks.gpu [--out docs/benchmarks/gpu.json] [--seconds 480] [--only G1,G2]
    python -m benchmarks.gpu --dry          all of it at the smallest size, on the CPU where there is no CUDA

Needs torch, numpy and pytorch-msssim, nothing else of what ablate installs. First it asks whether the step is right:
it trains the library's step and the textbook step (benchmarks/baseline/step.py) from the same weights on the same
tiles and compares their losses, then the library's faster ways (ABLATE_CUDA) with its plain one. Then it times them in
turn. A part that fails is named and costs no other its figures, which are written after each part. Without CUDA it says
so, and ends with 0.

    G1  the step, as a graph over resident tiles in bf16 and channels_last, against the textbook step in fp32 with TF32
    G5  images a second at batch 16 over 9,179, what 798 TFLOP/s and 3.0 TB/s would give (docs/speed.md)
    G6  a WGAN-GP step over a BCE step, of equal networks
    G2  trials packed on one device against the same one after another, in one process and as processes
    G7  how long the device stands idle between two trials
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import gpu_steps, gpu_trials, paired
from benchmarks.gpu_steps import DRY, WAYS, Scale, textbook, training
from benchmarks.paired import HEAD, Row, machine

SAME = {"fp32": 1e-3, "bf16": 0.1}  # relative, of losses after a few updates; Adam carries rounding on
ROOT = Path(__file__).resolve().parents[1]
OUT, PAGE = ROOT / "docs/benchmarks/gpu.json", ROOT / "docs/speed.md"
LOSSES = ("loss_d", "loss_g", "loss_g_adv")

Part = Callable[[torch.device, Scale], Iterator[Row]]
PARTS: dict[str, tuple[str, Part]] = {
    "steps": ("G1,G5", gpu_steps.steps_against_eager), "penalty": ("G6", gpu_steps.penalty_over_bce),
    "packed": ("G2", gpu_trials.packed), "choice": ("G1", gpu_steps.choice),
    "processes": ("G2,G7", gpu_trials.as_processes),
}  # fmt: skip


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
        worst = max(worst, *(abs(found[key] - expected[key]) / abs(expected[key]) for key in LOSSES))
    return worst


def ways_apart(device: torch.device, *, precision: str, ways: tuple[str, ...] = WAYS, updates: int = 8) -> float:
    """Largest relative difference of a loss between faster ways and the plain one; on CUDA the last are replayed."""
    runs = [training(device, 64, 8, precision=precision, batch=4, ways=chosen) for chosen in (ways, ())]
    worst = 0.0
    for _ in range(updates):
        found = []
        for ours in runs:
            ours.advance()
            found.append(ours.window.close(ours.ranks).values(0.0))
        worst = max(worst, *(abs(found[0][key] - found[1][key]) / abs(found[1][key]) for key in LOSSES))
    gpu_steps.at_full_speed(runs[0])
    return worst


def check(device: torch.device) -> bool:
    """Print how far the library's step is from the textbook step, in every precision that the device has."""
    return _within(device, "the textbook step", lambda precision: differences(device, precision=precision))


def right_ways(device: torch.device) -> tuple[str, ...]:
    """The faster ways that learn what the plain one learns, together if they can; printed."""
    right = ()
    for ways in (("resident",), ("graph",), WAYS):
        than = f"the plain way (by {' and '.join(ways)})"
        if _within(device, than, lambda precision, ways=ways: ways_apart(device, precision=precision, ways=ways)):
            right = ways
    return right


def _within(device: torch.device, than: str, measured: Callable[[str], float]) -> bool:
    precisions = ("fp32", "bf16") if device.type == "cuda" else ("fp32",)
    whole = True
    for precision in precisions:
        try:
            found = measured(precision)
        except RuntimeError as error:
            print(f"{precision} on {device.type}, {than}: WRONG: {error}", flush=True)
            whole = False
            continue
        within = found <= SAME[precision]
        whole &= within
        print(f"{precision} on {device.type}: losses of a few updates differ from {than} by {found:.1e} at most;"
              f" {SAME[precision]:.0e} is allowed{'' if within else ': WRONG'}", flush=True)  # fmt: skip
    return whole


# -- speed ----------------------------------------------------------------------------------------


def measure(device: torch.device, scale: Scale, *, seconds: float, only: set[str], out: Path) -> list[str]:
    """Print and keep the rows of every part; what failed, a line each."""
    began, rows, failed = time.monotonic(), [], []
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"\n{name}, torch {torch.__version__}\n\n{HEAD}", flush=True)
    for part, (goals, of) in PARTS.items():
        if only and not only & set(goals.split(",")):
            continue
        if time.monotonic() - began > seconds:
            failed.append(f"{part}: left out, {seconds:.0f} s have passed")
            continue
        try:
            for row in of(device, scale):
                print(row.line(), flush=True)
                rows.append(row.to_json() | {"device": name, "machine": machine()})
        except Exception as error:  # of one part: the others have figures of their own
            traceback.print_exc()
            failed.append(f"{part}: {type(error).__name__}: {error}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"rows": rows, "failed": failed}, indent=1) + "\n")
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="the smallest size, on the CPU where there is no CUDA")
    parser.add_argument("--seconds", type=float, default=480.0, help="begin no further part after so long")
    parser.add_argument("--only", default="", help="goals to measure, joined by commas")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON; dry: nowhere")
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
    scale = replace(DRY if asked.dry else Scale(), ways=right_ways(device))
    out = asked.out or (Path("/dev/null") if asked.dry else OUT)
    only = {goal for goal in asked.only.split(",") if goal}
    failed = measure(device, scale, seconds=asked.seconds, only=only, out=out)
    if out == OUT:
        paired.insert(PAGE, OUT)
    print("", *failed, "dry: these figures show that they can be taken, no more" if asked.dry else out, sep="\n")
    return 1 if failed or set(scale.ways) != set(WAYS) else 0


if __name__ == "__main__":
    sys.exit(main())
