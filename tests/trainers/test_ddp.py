"""A step on two ranks is the step on one process, and all ranks hold equal weights after every kind of step."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from tests.trainers import tiny
from tests.trainers.two_ranks import on_two_ranks
from trainers.families import OBJECTIVES
from trainers.masks import fill
from trainers.ranks import Ranks, bare
from trainers.train import Trial

NORMS = ("none", "instance", "batch", "sync_batch", "spectral")
BATCH_NORMS = ("batch", "sync_batch")
COMBINATIONS = [
    (objective, norm)
    for objective, norm in product(OBJECTIVES.names(), NORMS)
    if not (objective == "wgan_gp" and norm in BATCH_NORMS)  # refused: the penalty of a coupled batch is another one
]
# Plain batch norm sees half the batch on each of two ranks: another function, by design.
EQUAL = [pair for pair in COMBINATIONS if pair[1] != "batch"]
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-5


UPDATES = [(2, 1), (1, 2), (3, 1), (1, 3)]


def recipe(objective: str, norm: str, updates: tuple[int, int] = (1, 1)):
    # sync_batch in the generator too, wherever the discriminator has it: both directions of the exchange.
    norm_g = "sync_batch" if norm == "sync_batch" else "instance"
    return tiny.recipe(
        objective=objective, norm=norm, norm_g=norm_g, terms=("l1", "ssim", "charbonnier"), updates=updates
    )


def first_step(trial: Trial, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Losses (mean over ranks) and gradients of the first update of D and G, without optimiser steps."""
    batch = trial._batch(0)
    fake = trial.steps.generate(batch)
    loss_d, values_d = trial.steps.discriminator_loss(batch, fake, trial._epsilon(0))
    loss_d.backward()
    loss_g, values_g = trial.steps.generator_loss(batch, fake)
    loss_g.backward()
    found = {key: value.detach() for key, value in {**values_d, **values_g}.items() if not key.startswith("logits/")}
    found = {key: ranks.sum(value.double()) / ranks.size for key, value in found.items()}
    for name, network in (("d", trial.steps.discriminator), ("g", trial.steps.generator)):
        found |= {f"grad/{name}/{key}": p.grad.clone() for key, p in bare(network).named_parameters()}
    return found


def make(root: str, objective: str, norm: str, ranks: Ranks, updates: tuple[int, int] = (1, 1)) -> Trial:
    spec = tiny.spec(recipe(objective, norm, updates), ranks=ranks.size)
    return Trial(tiny.TrialFolder(Path(root)), spec, tiny.METRICS, Path(root) / "cache", ranks)


def after_updates(trial: Trial, updates: int) -> list[torch.Tensor]:
    """All parameters of both networks after some generator updates."""
    for _ in range(updates):
        trial._update()
        trial.step += 1
    networks = (trial.steps.discriminator, trial.steps.generator)
    return [p.detach().clone() for network in networks for p in network.parameters()]


def job(rank: int, root: str) -> dict:
    ranks = Ranks(rank, 2)
    results = {}
    for objective, norm in COMBINATIONS:
        trial = make(root, objective, norm, ranks)
        results[objective, norm] = {"first": first_step(trial, ranks)}
        for network in (trial.steps.discriminator, trial.steps.generator):
            network.zero_grad(set_to_none=True)
        results[objective, norm]["parameters"] = after_updates(trial, 3)
    for updates in UPDATES:
        trial = make(root, "wgan_gp", "spectral", ranks, updates)
        results[updates] = after_updates(trial, 4)
    return results


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, list[dict]]:
    root = tmp_path_factory.mktemp("ddp")
    tiny.prepared(root / "cache")
    return root, on_two_ranks(job, root, str(root))


@pytest.mark.parametrize(("objective", "norm"), EQUAL)
def test_the_first_step_of_two_ranks_has_the_losses_and_gradients_of_one(two, objective, norm):
    root, results = two
    alone = first_step(make(str(root), objective, norm, Ranks()), Ranks())
    for rank in range(2):
        together = results[rank][objective, norm]["first"]
        assert together.keys() == alone.keys()
        for part in ("d", "g"):
            largest = max(float(value.abs().max()) for key, value in alone.items() if key.startswith(f"grad/{part}/"))
            for key, value in alone.items():
                if key.startswith(f"grad/{part}/"):
                    assert float((together[key] - value).abs().max()) <= GRADIENT_TOLERANCE * largest, key
        for key, value in alone.items():
            if not key.startswith("grad/"):
                assert float((together[key] - value).abs()) <= LOSS_TOLERANCE * max(1.0, float(value.abs())), key


@pytest.mark.parametrize(("objective", "norm"), COMBINATIONS)
def test_all_ranks_hold_equal_weights_after_three_updates(two, objective, norm):
    _, (first, second) = two
    pairs = zip(first[objective, norm]["parameters"], second[objective, norm]["parameters"], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("updates", UPDATES)
def test_all_ranks_hold_equal_weights_whatever_the_update_ratio(two, updates):
    _, (first, second) = two
    assert all(torch.equal(a, b) for a, b in zip(first[updates], second[updates], strict=True))


def test_a_share_of_the_batch_is_that_part_of_the_global_batch(two):
    root, _ = two
    whole = make(str(root), "vanilla", "instance", Ranks())._batch(0)
    halves = [make(str(root), "vanilla", "instance", Ranks(rank, 2))._batch(0) for rank in range(2)]
    assert torch.equal(whole.sar, torch.cat([half.sar for half in halves]))
    assert torch.equal(whole.real, fill(whole.real, whole.mask))
