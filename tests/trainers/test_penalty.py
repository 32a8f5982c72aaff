"""The gradient penalty against critics whose gradient is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.discriminators import patchgan
from trainers.objectives import wgan_gp
from trainers.penalty import gradient_penalty

BATCH, BANDS, SIDE = 4, 3, 6


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, FAKE = draw(BATCH, BANDS, SIDE, SIDE, seed=1), draw(BATCH, BANDS, SIDE, SIDE, seed=2)
EPSILON = torch.rand(BATCH, 1, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("patches", [1, 9])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_linear_critic_is_penalised_for_its_slope(patches, reduction):
    weights = 0.1 * draw(patches, BANDS, SIDE, SIDE)
    slope = getattr(weights, reduction)(dim=0).norm()

    def critic(images):
        return [torch.einsum("bchw,pchw->bp", images, weights).view(BATCH, 1, 1, patches)]

    penalty = gradient_penalty(critic, REAL, FAKE, EPSILON, reduction=reduction)
    torch.testing.assert_close(penalty, (slope - 1).square().expand(BATCH), rtol=0, atol=1e-6)


def test_the_norm_is_taken_per_image_over_bands_rows_and_columns():
    """A critic whose slope is 1 for one image and 3 for the next tells a wrong axis."""
    slopes = torch.tensor([1.0, 3.0, 0.5, 2.0], dtype=torch.float64)
    direction = draw(BANDS, SIDE, SIDE)
    direction = direction / direction.norm()

    def critic(images):
        return [(slopes * (images * direction).sum(dim=(1, 2, 3))).view(BATCH, 1, 1, 1)]

    torch.testing.assert_close(gradient_penalty(critic, REAL, FAKE, EPSILON), (slopes - 1).square())


def test_the_gradient_is_taken_between_real_and_fake():
    """The slope of a quadratic critic is its place: epsilon real + (1 - epsilon) fake."""

    def critic(images):
        return [0.5 * images.square().sum(dim=(1, 2, 3)).view(BATCH, 1, 1, 1)]

    place = (EPSILON * REAL + (1 - EPSILON) * FAKE).flatten(1).norm(dim=1)
    torch.testing.assert_close(gradient_penalty(critic, REAL, FAKE, EPSILON), (place - 1).square())


def test_scales_are_averaged():
    weights = draw(2, BANDS, SIDE, SIDE)

    def critic(images):
        return [(images * weight).sum(dim=(1, 2, 3)).view(BATCH, 1, 1, 1) for weight in weights]

    slope = weights.mean(dim=0).norm()
    torch.testing.assert_close(gradient_penalty(critic, REAL, FAKE, EPSILON), (slope - 1).square().expand(BATCH))


def test_a_flat_critic_has_a_finite_gradient():
    weight = torch.zeros(BANDS, SIDE, SIDE, dtype=torch.float64, requires_grad=True)

    def critic(images):
        return [(images * weight).sum(dim=(1, 2, 3)).view(BATCH, 1, 1, 1)]

    penalty = gradient_penalty(critic, REAL, FAKE, EPSILON)
    penalty.sum().backward()
    assert penalty.tolist() == pytest.approx([1.0] * BATCH, abs=1e-5)
    assert weight.grad.isfinite().all()


def network(norm: str, scales: int = 1) -> nn.Module:
    part = patchgan.Options(width=4, layers=1, norm=norm, scales=scales)
    return patchgan.build(part, bands=2 + BANDS, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("norm", ["none", "instance", "spectral"])
def test_its_gradient_in_the_critics_weights_equals_finite_differences(norm):
    critic, sar = network(norm), draw(BATCH, 2, 16, 16)
    real, fake = draw(BATCH, BANDS, 16, 16, seed=4), draw(BATCH, BANDS, 16, 16, seed=5)
    critic.eval()  # the power iteration stands still

    def penalty():
        return gradient_penalty(lambda images: critic(sar, images), real, fake, EPSILON).mean()

    penalty().backward()
    weight = dict(critic.named_parameters())[
        "towers.0.2.parametrizations.weight.original" if norm == "spectral" else "towers.0.2.weight"
    ]
    place, step = (1, 2, 3, 0), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * step
        values.append(penalty().item())
        with torch.no_grad():
            weight[place] -= sign * step
    assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-9)


def test_neither_the_condition_nor_the_generator_is_differentiated():
    critic, sar = network("none"), draw(BATCH, 2, 16, 16).requires_grad_()
    fake = draw(BATCH, BANDS, 16, 16, seed=5).requires_grad_()
    real = draw(BATCH, BANDS, 16, 16, seed=4)
    alone = gradient_penalty(lambda images: critic(sar.detach(), images), real, fake.detach(), EPSILON)
    penalty = gradient_penalty(lambda images: critic(sar.detach(), images), real, fake, EPSILON)
    penalty.sum().backward()
    assert torch.equal(penalty, alone)
    assert fake.grad is None and sar.grad is None


def test_wgan_gp_weighs_the_penalty_and_reduces_as_its_option_says():
    critic, sar = network("none", scales=2), draw(BATCH, 2, 16, 16)
    real, fake = draw(BATCH, BANDS, 16, 16, seed=4), draw(BATCH, BANDS, 16, 16, seed=5)

    def on(images):
        return critic(sar, images)

    for reduction in ("mean", "sum"):
        objective = wgan_gp.build(wgan_gp.Options(penalty_weight=7.0, critic=reduction))
        expected = 7 * gradient_penalty(on, real, fake, EPSILON, reduction=reduction)
        assert torch.equal(objective.penalty(on, real, fake, EPSILON), expected)
    assert wgan_gp.Options().penalty_weight == 10 and wgan_gp.Options().critic == "mean"


def test_under_autocast_it_is_taken_in_fp32():
    critic, sar = network("none").float(), draw(BATCH, 2, 16, 16).float()
    real, fake = draw(BATCH, BANDS, 16, 16, seed=4).float(), draw(BATCH, BANDS, 16, 16, seed=5).float()
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(20)  # slopes near 1, where rounding shows

    def penalty(real, fake):
        return gradient_penalty(lambda images: critic(sar, images), real, fake, EPSILON.float())

    expected = penalty(real.bfloat16().float(), fake.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(penalty(real.bfloat16(), fake.bfloat16()), expected)
