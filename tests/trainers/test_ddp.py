"""A step on two ranks is the step on one process, and all ranks hold equal weights after every kind of step."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from tests.trainers import tiny
from tests.trainers.two_ranks import on_two_ranks
from trainers.families import DISCRIMINATORS, GENERATORS, OBJECTIVES, part_name
from trainers.masks import fill
from trainers.ranks import Ranks
from trainers.recipe import Compute, Ema, Recipe, Timing
from trainers.training import Training

NORMS = ("none", "instance", "batch", "sync_batch", "spectral")
RATIOS = ((1, 1), (2, 1), (1, 2))  # generator : discriminator
PRECISIONS = ("fp32", "bf16")  # of those that a CPU knows; tf32 is fp32 there
SIDE_WITH_DROPOUT = 64  # px: the smallest U-Net with inner blocks has six halvings
STEPS, UPDATES = 24, 20
ROUNDING = 1e-7  # of D's pulls on real and fake, up to 1/2 each, which cancel in the bias of its last layer
BIAS = re.compile(r"grad/d/towers\.\d+\.\d+\.bias")  # of D: the sum of its pulls on real and fake, which cancel
FEW = 3  # updates of the rows that differ in objective, norm, ratio and precision alone; all 20 in the slow test

Row = dict[str, Any]


def allowed(objective: str, norm: str) -> bool:
    """Refused otherwise: the penalty of a coupled batch is another one."""
    return not (objective == "wgan_gp" and norm in ("batch", "sync_batch"))


def row(objective: str, norm: str, ratio: tuple[int, int], precision: str) -> Row:
    # sync_batch in the generator too, wherever the discriminator has it: both directions of the exchange.
    return {
        "objective": objective, "norm": norm, "norm_g": "sync_batch" if norm == "sync_batch" else "instance",
        "updates": ratio, "compute": Compute(precision=precision), "terms": ("l1", "ssim", "charbonnier"),
    }  # fmt: skip


def title(of: Row) -> str:
    generator, discriminator = of["updates"]
    return f"{of['objective']} {of['norm']} {generator}:{discriminator} {of['compute'].precision}"


PRODUCT = {
    title(made): made
    for choice in product(OBJECTIVES.names(), NORMS, RATIOS, PRECISIONS)
    if allowed(*choice[:2])
    for made in (row(*choice),)
}
# Every objective with every norm; ratios and precisions take turns, so that each meets each objective and norm.
TURNS = {
    title(made): made
    for o, objective in enumerate(OBJECTIVES.names())
    for n, norm in enumerate(norm for norm in NORMS if allowed(objective, norm))
    for made in (row(objective, norm, RATIOS[(o + n) % 3], PRECISIONS[(o + n) % 2]),)
}
MATCHED = ("l1", "feature_matching")
FEATURES: dict[str, Row] = {
    "feature matching, two scales": {"terms": MATCHED, "scales": 2, "norm": "instance"},
    "feature matching, sync batch": {"terms": MATCHED, "scales": 2, "norm": "sync_batch", "norm_g": "sync_batch"},
    "feature matching, spectral, bf16": {"terms": MATCHED, "norm": "spectral", "compute": Compute(precision="bf16")},
    "gated skips, no norm": {"skip": "gated", "updates": (1, 2), "norm": "none", "norm_g": "none"},
    "wgan_gp, two scales": {"objective": "wgan_gp", "scales": 2, "norm": "instance"},
    "batch norm in both": {"norm": "batch", "norm_g": "batch"},
    "average, batch norm in G": {"ema": Ema(decay=0.9), "norm_g": "batch"},
    "channels last": {"compute": Compute(memory_format="channels_last"), "norm": "spectral"},
    "stages": {"stages": True, "terms": ("l1",), "norm": "instance"},
    "dropout": {"dropout": 0.5, "tile": SIDE_WITH_DROPOUT},
}
DEFAULT = {**TURNS, **FEATURES}


def recipe(of: Row) -> Recipe:
    staged = of.get("stages")
    made = tiny.recipe(steps=STEPS, **{key: value for key, value in of.items() if key != "stages"})
    if not staged:
        return made
    later = tiny.stage(made, Timing(ramp=0.5, moments="reset"), terms={"ssim": 5, "l1": 2, "feature_matching": 3})
    return replace(made, stages=(tiny.stage(made, Timing(until=1 / STEPS)), later))


def updates_to_compare(of: Recipe) -> int:
    """Up to the first update of every kind: of G alone, and of a second stage."""
    return max(of.updates.generator, len(of.course) + (len(of.course) > 1))


def still(of: Recipe) -> Recipe:
    """The recipe at learning rate 0: updates leave their gradients and nothing else."""
    stages = tuple(replace(stage, optimizer=replace(stage.optimizer, lr=0.0)) for stage in of.stages)
    return replace(of, optimizer=replace(of.optimizer, lr=0.0), stages=stages)


def first_steps(of: Recipe, data: Path, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Losses (means over ranks) and gradients of the first updates, the networks standing still."""
    training = tiny.training(still(of), data, ranks)
    for _ in range(updates_to_compare(of)):
        training.advance()
    values = tiny.logged(training)
    kinds = ("loss_", "term/", "weighted/", "health/adversarial_share")
    found = {key: torch.tensor(value) for key, value in values.items() if key.startswith(kinds)}
    for name, network in (("d", training.discriminator), ("g", training.generator)):
        found |= {f"grad/{name}/{key}": p.grad.clone() for key, p in network.named_parameters()}
    return found


def emulated(of: Recipe, data: Path) -> dict[str, torch.Tensor]:
    """The mean over two ranks that don't know of each other: what plain batch norm gives under DDP, by design."""
    one, two = (first_steps(of, data, Ranks(rank, 2)) for rank in range(2))  # `close` has halved the losses
    found = {key: one[key] + two[key] for key in one if not key.startswith("health/")}  # a ratio has no mean
    return {key: value / 2 if key.startswith("grad/") else value for key, value in found.items()}


def cancelling(of: Recipe, data: Path) -> dict[str, float]:
    """The largest gradient of D's loss on generated images alone: at the start that on real ones all but cancels it,
    and what is left is small against the rounding of both.
    """
    training = tiny.training(still(of), data)
    batch, steps = training.draws.batch(0), training.steps
    judged = steps.discriminator_loss(batch, steps.generate(batch), lambda: training.draws.epsilon(0))
    names, parameters = zip(*training.discriminator.named_parameters(), strict=True)
    gradients = torch.autograd.grad(0.5 * judged.values["loss_d_fake"], parameters)
    return {f"grad/d/{name}": float(gradient.abs().max()) for name, gradient in zip(names, gradients, strict=True)}


def digest(tensors) -> str:
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


def weights_after(training: Training, updates: int) -> dict[str, str]:
    """Digests of what every rank must hold alike; running statistics only once they are settled."""
    for _ in range(updates):
        training.advance()
    networks = {"generator": training.generator, "discriminator": training.discriminator, "result": training.result}
    found = {name: digest(network.parameters()) for name, network in networks.items()}
    training.settle()
    return found | {f"{name} statistics": digest(network.buffers()) for name, network in networks.items()}


def data_of(root: Path, of: Recipe) -> Path:
    return root / f"cache{of.data.tile}"


def job(rank: int, root: str, rows: dict[str, Row], updates: dict[str, int]) -> dict[str, dict]:
    ranks, found = Ranks(rank, 2), {}
    for name, options in rows.items():
        of = recipe(options)
        data = data_of(Path(root), of)
        first = {} if of.generator.dropout else first_steps(of, data, ranks)
        found[name] = {"first": first, "weights": weights_after(tiny.training(of, data, ranks), updates[name])}
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    for side in (tiny.TILE, SIDE_WITH_DROPOUT):
        tiny.prepared(folder / f"cache{side}", tile=side)
    return folder


@pytest.fixture(scope="module")
def two(root, tmp_path_factory) -> list[dict]:
    updates = {**dict.fromkeys(TURNS, FEW), **dict.fromkeys(FEATURES, UPDATES)}
    return on_two_ranks(job, tmp_path_factory.mktemp("two"), str(root), DEFAULT, updates)


@pytest.fixture(scope="module")
def two_of_the_product(root, tmp_path_factory) -> list[dict]:
    return on_two_ranks(job, tmp_path_factory.mktemp("product"), str(root), PRODUCT, dict.fromkeys(PRODUCT, UPDATES))


def check_first_steps(root: Path, of: Recipe, together: list[dict]) -> None:
    plain = "batch" in (of.generator.norm, of.discriminator.norm)
    expected = (emulated if plain else lambda *a: first_steps(*a, Ranks()))(of, data_of(root, of))
    half = of.compute.precision == "bf16"
    tolerance, cancelled = (2e-2, cancelling(of, data_of(root, of))) if half else (1e-5, {})
    for found in together:
        assert found.keys() - {"health/adversarial_share"} == expected.keys() - {"health/adversarial_share"}
        for part in ("grad/d/", "grad/g/"):
            largest = max(float(value.abs().max()) for key, value in expected.items() if key.startswith(part))
            assert largest > 0
            for key, value in expected.items():
                if key.startswith(part):
                    unit = max(largest, cancelled.get(key, 0.0)) if BIAS.fullmatch(key) else largest
                    most = max(tolerance * unit, ROUNDING)
                    assert float((found[key] - value).abs().max()) <= most, key
        for key, value in expected.items():
            if not key.startswith("grad/"):
                assert float((found[key] - value).abs()) <= tolerance, key


@pytest.mark.parametrize("name", [name for name, of in DEFAULT.items() if not of.get("dropout")])
def test_the_first_steps_of_two_ranks_have_the_losses_and_gradients_of_one(root, two, name):
    check_first_steps(root, recipe(DEFAULT[name]), [rank[name]["first"] for rank in two])


@pytest.mark.parametrize("name", DEFAULT)
def test_all_ranks_hold_equal_weights_after_every_kind_of_update(two, name):
    assert two[0][name]["weights"] == two[1][name]["weights"]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # the first of them waits for all
@pytest.mark.parametrize("name", PRODUCT)
def test_every_objective_norm_ratio_and_precision_is_one_step_and_one_network(root, two_of_the_product, name):
    first, second = (rank[name] for rank in two_of_the_product)
    check_first_steps(root, recipe(PRODUCT[name]), [first["first"], second["first"]])
    assert first["weights"] == second["weights"]


def test_the_rows_by_default_meet_every_ratio_and_precision_with_every_objective_and_norm():
    for key, (values, others) in {
        "updates": (RATIOS, ("objective",)),
        "compute": ([Compute(precision=name) for name in PRECISIONS], ("objective", "norm")),
    }.items():
        for other in others:
            met = {(of[other], of[key]) for of in TURNS.values()}
            assert met >= set(product({of[other] for of in TURNS.values()}, values)), (key, other)


def test_a_new_network_or_norm_gets_its_rows_here():
    used = recipe({})
    for family, part, norms in (
        (GENERATORS, used.generator, {"instance", "batch", "sync_batch", "none"}),
        (DISCRIMINATORS, used.discriminator, set(NORMS)),
    ):
        assert family.names() == [part_name(part)]
        assert set(get_args(get_type_hints(type(part))["norm"])) == norms


def test_tf32_is_fp32_on_a_cpu(root):
    exact, rounded = (recipe({"compute": Compute(precision=name)}) for name in ("fp32", "tf32"))
    one, two = (weights_after(tiny.training(of, data_of(root, of)), 3) for of in (exact, rounded))
    assert one == two


def test_a_share_of_the_batch_is_that_part_of_the_global_batch(root):
    of = recipe({"objective": "wgan_gp"})
    data = data_of(root, of)
    whole, *halves = (tiny.training(of, data, ranks).draws for ranks in (Ranks(), Ranks(0, 2), Ranks(1, 2)))
    assert torch.equal(whole.batch(5).sar, torch.cat([half.batch(5).sar for half in halves]))
    assert torch.equal(whole.epsilon(5), torch.cat([half.epsilon(5) for half in halves]))
    batch = whole.batch(0)
    assert torch.equal(batch.real, fill(batch.real, batch.mask))


def test_ranks_drop_out_on_their_own(root):
    """One seed for all would repeat a mask; each rank and draw has another."""
    of = recipe({})
    seen = set()
    for rank, number in product(range(2), range(3)):
        tiny.training(of, data_of(root, of), Ranks(rank, 2)).draws.seed_dropout(number)
        seen.add(torch.initial_seed())
    assert len(seen) == 6
