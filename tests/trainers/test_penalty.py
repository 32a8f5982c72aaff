"""The gradient penalty against critics whose gradient is known."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from copy import deepcopy
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from tests.trainers import tiny
from trainers.discriminators import patchgan
from trainers.families import DISCRIMINATORS, part_name
from trainers.leaky import LeakyReLU, slopes_as_constants
from trainers.objectives import wgan_gp
from trainers.penalty import gradient_penalty
from trainers.rules import refusals

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


# -- the slopes as a saved constant ---------------------------------------------------------------


def penalised_critics() -> list[tuple[str, object]]:
    """Every discriminator with every norm that no rule refuses beside a penalty, on one scale and on two."""
    found = []
    for name in DISCRIMINATORS.names():
        options = DISCRIMINATORS.options(name)
        norms = get_args(get_type_hints(options).get("norm")) or (None,)
        for norm, scales in itertools.product(norms, (1, 2)):
            chosen = {"norm": norm} if norm else {}
            chosen |= {"scales": scales} if "scales" in get_type_hints(options) else {}
            part = options(width=4, **chosen)
            recipe = tiny.recipe(tile=64, objective="wgan_gp", discriminator=part)
            if not refusals(recipe, ranks=1):
                found.append(pytest.param(part, id=f"{name}-{norm}-{scales}"))
    return found


def with_the_layers_of_torch(critic: nn.Module) -> nn.Module:
    """A copy whose activations are torch's own."""
    copy = deepcopy(critic)
    for module in list(copy.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.LeakyReLU):
                setattr(module, name, nn.LeakyReLU(layer.negative_slope, inplace=layer.inplace))
    return copy


def gradients(critic: nn.Module, kind: torch.dtype) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The penalty, and what it and a logit loss in one backward leave in the critic's parameters."""
    sar, real, fake = (draw(BATCH, bands, 64, 64, seed=seed).to(kind) for bands, seed in ((2, 3), (3, 4), (3, 5)))
    penalty = gradient_penalty(lambda images: critic(sar, images), real, fake, EPSILON.to(kind))
    (penalty.mean() + sum(logits.mean() for logits in critic(sar, real))).backward()
    return penalty.detach(), {name: parameter.grad for name, parameter in critic.named_parameters()}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("part", penalised_critics())
def test_penalty_and_gradients_equal_those_of_torchs_leaky_relu_to_the_bit(part, kind):
    critic = DISCRIMINATORS.part(part_name(part)).build(part, bands=5, generator=torch.Generator().manual_seed(0))
    critic = critic.to(kind)
    plain = with_the_layers_of_torch(critic)
    penalty, found = gradients(critic, kind)
    expected_penalty, expected = gradients(plain, kind)
    assert torch.equal(penalty, expected_penalty) and penalty.isfinite().all()
    assert all(torch.equal(found[name], expected[name]) and expected[name].any() for name in expected)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_leaky_relu_gives_the_same_bits_at_any_number(kind):
    """Zeros of either sign, the smallest numbers, infinities and NaN among them."""
    least, most = torch.finfo(kind).tiny, torch.finfo(kind).max
    sizes = torch.tensor([0.0, least, 1.0, most, float("inf"), float("nan")], dtype=kind)
    values, found = torch.cat([sizes, -sizes]), []
    for constant in (True, False):
        numbers = values.clone().requires_grad_()
        with slopes_as_constants() if constant else nullcontext():
            images = LeakyReLU(0.2)(numbers)
        first = torch.autograd.grad(images.sum(), numbers)[0]
        found.append((images.detach(), first))
    for constant, plain in zip(*found, strict=True):
        assert torch.equal(constant.isnan(), plain.isnan())
        assert torch.equal(constant.nan_to_num(7), plain.nan_to_num(7))
        assert torch.equal(constant.signbit(), plain.signbit())


def test_the_penalty_alone_computes_slopes_as_constants():
    """An activation's own second derivative would carry zeros through the whole network."""
    critic, sar = network("none"), draw(BATCH, 2, 16, 16)
    real, fake = draw(BATCH, BANDS, 16, 16, seed=4), draw(BATCH, BANDS, 16, 16, seed=5)
    penalty = gradient_penalty(lambda images: critic(sar, images), real, fake, EPSILON)
    assert not any("Relu" in name for name in graph(penalty))
    assert any("LeakyRelu" in name for name in graph(critic(sar, real)[0]))


def graph(tensor: torch.Tensor) -> set[str]:
    """Names of all operations that a backward pass from the tensor meets."""
    seen, left = set(), [tensor.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [behind for behind, _ in node.next_functions]
    return {node.name() for node in seen}
