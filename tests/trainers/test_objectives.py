"""Laws over all adversarial objectives, and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from trainers.families import OBJECTIVES, build
from trainers.objectives import lsgan, vanilla

SMOOTHINGS = ((1.0, 0.0), (0.9, 0.1), (0.9, 0.0))
SMOOTHED = {
    f"{part.__name__.rpartition('.')[2]} {smoothing}": part.Options(smoothing=smoothing)
    for part in (vanilla, lsgan)
    for smoothing in SMOOTHINGS
}
PARTS = SMOOTHED | {name: OBJECTIVES.options(name)() for name in OBJECTIVES.names()}
any_objective = pytest.mark.parametrize("objective", [build(OBJECTIVES, part) for part in PARTS.values()], ids=PARTS)
LOSSES = ("real", "fake", "generator")


def constant(logit: float, shape=(1, 1, 2, 2)) -> torch.Tensor:
    return torch.full(shape, logit, dtype=torch.float64)


def value(loss, logit: float) -> float:
    return loss(constant(logit)).item()


@any_objective
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_finite_for_any_logit(objective, loss):
    logits = torch.linspace(-50, 50, 101).view(-1, 1, 1, 1).requires_grad_()
    losses = getattr(objective, loss)(logits)
    losses.sum().backward()
    assert losses.shape == (101,)
    assert losses.isfinite().all() and logits.grad.isfinite().all()


@any_objective
def test_at_logit_zero_the_generators_gradient_points_to_real(objective):
    for_generator, for_real = constant(0.0).requires_grad_(), constant(0.0).requires_grad_()
    objective.generator(for_generator).sum().backward()
    objective.real(for_real).sum().backward()
    assert (for_generator.grad < 0).all()
    assert (for_real.grad <= 0).all()


@any_objective
def test_the_discriminator_is_pulled_up_on_real_and_down_on_fake(objective):
    for logit in (0.2, 0.45, 0.7):  # between the targets of any objective
        assert value(objective.real, logit + 0.01) < value(objective.real, logit)
        assert value(objective.fake, logit + 0.01) > value(objective.fake, logit)


@any_objective
@pytest.mark.parametrize("loss", LOSSES)
def test_each_images_loss_is_the_mean_over_its_own_patches(objective, loss):
    logits = 3 * torch.randn(5, 1, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    losses = getattr(objective, loss)(logits)
    torch.testing.assert_close(getattr(objective, loss)(logits[order]), losses[order], rtol=1e-12, atol=0)
    patches = [[value(getattr(objective, loss), logit) for logit in image.flatten().tolist()] for image in logits]
    assert losses.tolist() == pytest.approx(np.mean(patches, axis=1).tolist(), abs=1e-12)


@any_objective
def test_floor_and_blind_are_the_least_totals_that_logits_can_reach(objective):
    """Told apart, real and fake have a logit each; blind, they share one."""
    grid = torch.linspace(-40, 40, 160_001, dtype=torch.float64).view(-1, 1, 1, 1)
    real, fake = objective.real(grid), objective.fake(grid)
    if objective.floor is None:
        assert objective.blind is None
        assert real.min() + fake.min() < -50  # it falls without end
        return
    assert objective.floor == pytest.approx((real.min() + fake.min()).item(), abs=1e-6)
    assert objective.blind == pytest.approx((real + fake).min().item(), abs=1e-6)
    assert objective.floor < objective.blind


@any_objective
def test_half_precision_logits_lose_nothing(objective):
    for loss in LOSSES:
        logits = torch.tensor([[[[7.9375]]]])
        assert torch.equal(getattr(objective, loss)(logits.bfloat16()), getattr(objective, loss)(logits))


@pytest.mark.parametrize("part", [*SMOOTHED.values()], ids=SMOOTHED)
def test_smoothing_moves_the_discriminators_targets_and_never_the_generators(part):
    smoothed, plain = build(OBJECTIVES, part), build(OBJECTIVES, type(part)())
    assert value(smoothed.generator, 0.7) == value(plain.generator, 0.7)
    if part.smoothing != (1.0, 0.0):
        assert value(smoothed.real, 3.0) > value(plain.real, 3.0)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_vanilla_is_torchs_cross_entropy(smoothing):
    objective = vanilla.build(vanilla.Options(smoothing=smoothing))
    logits = torch.linspace(-9, 9, 37, dtype=torch.float64).view(-1, 1, 1, 1)
    for loss, target in (("real", smoothing[0]), ("fake", smoothing[1]), ("generator", 1.0)):
        expected = binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")
        torch.testing.assert_close(getattr(objective, loss)(logits), expected.flatten())


def test_published_values():
    bce, hinge, squares, critic = (build(OBJECTIVES, OBJECTIVES.options(name)()) for name in
                                   ("vanilla", "hinge", "lsgan", "wgan_gp"))  # fmt: skip
    assert value(bce.real, 1.0) == value(bce.generator, 1.0) == pytest.approx(0.3132616, abs=1e-7)
    assert value(bce.fake, 1.0) == pytest.approx(1.3132616, abs=1e-7)
    assert (value(hinge.real, 2.0), value(hinge.fake, 2.0), value(hinge.generator, 2.0)) == (0, 3, -2)
    assert (value(squares.real, 3.0), value(squares.fake, 3.0), value(squares.generator, 3.0)) == (4, 9, 4)
    assert (value(critic.real, 3.0), value(critic.fake, 3.0), value(critic.generator, 3.0)) == (-3, 3, -3)
    assert (bce.blind, squares.blind, hinge.blind, critic.blind) == (2 * math.log(2), 0.5, 2.0, None)
    assert (bce.threshold, hinge.threshold, squares.threshold, critic.threshold) == (0.0, 0.0, 0.5, None)


@pytest.mark.parametrize(("smoothing", "floor", "blind"), [((0.9, 0.0), 0.3251, 1.3763), ((0.9, 0.1), 0.6502, 1.3863)])
def test_label_smoothing_moves_floor_and_blind_sum_of_cross_entropy(smoothing, floor, blind):
    objective = vanilla.build(vanilla.Options(smoothing=smoothing))
    assert objective.floor == pytest.approx(floor, abs=5e-5)
    assert objective.blind == pytest.approx(blind, abs=5e-5)


def test_the_decision_point_of_least_squares_is_the_midpoint_of_its_targets():
    assert lsgan.build(lsgan.Options(smoothing=(0.9, 0.0))).threshold == pytest.approx(0.45)


def test_targets_the_wrong_way_round_are_refused():
    for part in (vanilla, lsgan):
        assert part.refuse(part.Options(), None) == []
        (sentence,) = part.refuse(part.Options(smoothing=(0.1, 0.9)), None)
        assert "[0.1, 0.9]" in sentence
        assert part.refuse(part.Options(smoothing=(0.5, 0.5)), None)


def test_only_wgan_gp_brings_a_penalty():
    assert [name for name in OBJECTIVES.names() if build(OBJECTIVES, OBJECTIVES.options(name)()).penalty] == ["wgan_gp"]
