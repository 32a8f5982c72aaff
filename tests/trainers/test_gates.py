"""The U-Net's remedies for soft structure: attention gates on the skips, and fusion of decoder scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.test_networks import generator, parameters, recipe, sar
from trainers.generators import unet
from trainers.generators._attention import AttentionGate
from trainers.generators._multiscale import Fusion

REMEDIES = [
    pytest.param({"skip": skip, "fusion": fusion}, id=f"{skip}{' fused' * fusion}")
    for skip in ("concat", "add", "gated")
    for fusion in (False, True)
    if skip == "gated" or fusion
]


def part(**options) -> unet.Options:
    return unet.Options(**{"width": 4, "norm": "none", **options})


def randomised(module: nn.Module) -> nn.Module:
    """With every parameter, biases too, drawn from N(0, 1)."""
    draw = torch.Generator().manual_seed(4)
    for parameter in module.parameters():
        parameter.data.normal_(generator=draw)
    return module


# -- attention gates ----------------------------------------------------------------------------


def gated_by_hand(gate: AttentionGate, skip: np.ndarray, gating: np.ndarray) -> np.ndarray:
    """Oktay et al., 2018, eq. 1 and 2, pixel by pixel: skip and gating (C, H, W)."""
    weights = {name: value.detach().numpy() for name, value in gate.named_parameters()}
    w_x, w_g = (weights[f"of_{name}.weight"][:, :, 0, 0] for name in ("skip", "gating"))
    psi, gated = weights["score.weight"][0, :, 0, 0], np.empty_like(skip)
    for row, column in np.ndindex(skip.shape[1:]):
        x, g = skip[:, row, column], gating[:, row, column]
        attention = psi @ np.maximum(w_x @ x + w_g @ g + weights["of_gating.bias"], 0) + weights["score.bias"][0]
        gated[:, row, column] = x / (1 + math.exp(-attention))
    return gated


def test_the_gate_is_the_papers_equations_pixel_by_pixel():
    gate = randomised(AttentionGate(4)).double()
    skip, gating = torch.randn(2, 3, 4, 2, 3, generator=torch.Generator().manual_seed(5)).double()
    found = gate(skip, gating).detach().numpy()
    expected = np.stack([gated_by_hand(gate, *pair) for pair in zip(skip.numpy(), gating.numpy(), strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.ptp(found / skip.numpy()) > 0.5  # the gates differ from pixel to pixel


def test_the_decoder_opens_and_closes_the_gate():
    gate = AttentionGate(2)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.zero_()
        gate.of_gating.weight.fill_(1)
        gate.score.weight.fill_(40)
        gate.score.bias.fill_(-20)
    skip, gating = torch.ones(1, 2, 1, 2), torch.tensor([0.0, 1.0]).expand(1, 2, 1, 2)
    torch.testing.assert_close(gate(skip, gating), gating)


def test_a_gated_skip_is_concatenated_after_its_gate():
    network = generator(part(skip="gated", depth=2))
    randomised(network.gates)
    first = network.downs[0](sar())
    inner = network.ups[0](network.downs[1](first.clone()))  # an activation in place would reach the skip
    joined = torch.cat([network.gates[0](first, inner), inner], dim=1)
    assert torch.equal(network(sar()), network.ups[1](joined))


def test_open_gates_leave_the_network_with_concatenated_skips():
    for fusion in (False, True):
        plain, gated = (generator(part(skip=skip, fusion=fusion)).double() for skip in ("concat", "gated"))
        gated.load_state_dict(plain.state_dict(), strict=False)
        images = sar().double()
        assert not torch.allclose(gated(images), plain(images), rtol=1e-3)
        for gate in gated.gates:
            nn.init.constant_(gate.score.bias, 50)
        torch.testing.assert_close(gated(images), plain(images))


def test_gates_start_half_open():
    network = generator(part(skip="gated", norm="instance", width=16))
    alphas = []
    for gate in network.gates:
        gate.score.register_forward_hook(lambda layer, inputs, output: alphas.append(output.sigmoid()))
    network(sar())
    assert [alpha.shape[-1] for alpha in alphas] == [2, 4, 8, 16, 32]
    assert all((alpha - 0.5).abs().max() < 0.1 for alpha in alphas)


# -- fusion -------------------------------------------------------------------------------------


def test_fusion_adds_the_coarser_scales_projected_and_interpolated():
    """Against scipy's linear interpolation at the pixels' centres, edges extended."""
    from scipy.ndimage import map_coordinates

    fusion = randomised(Fusion([3, 5], 2)).double()
    draw = np.random.default_rng(0)
    coarse, middle, finest = (draw.normal(size=shape) for shape in ((3, 2, 2), (5, 4, 4), (2, 8, 8)))
    expected = finest.copy()
    for features, project in zip((coarse, middle), fusion.projections, strict=True):
        projected = np.einsum("oc,chw->ohw", project.weight.detach().numpy()[:, :, 0, 0], features)
        centres = (np.mgrid[:8, :8] + 0.5) * features.shape[-1] / 8 - 0.5
        expected += [map_coordinates(channel, centres, order=1, mode="nearest") for channel in projected]
    coarse, middle, finest = (torch.from_numpy(array)[None] for array in (coarse, middle, finest))
    np.testing.assert_allclose(fusion([coarse, middle], finest)[0].detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("skip", ["concat", "add", "gated"])
def test_fusion_reads_up_to_four_scales_from_the_finest(skip):
    multiples = {3: [2], 4: [4, 2], 5: [8, 4, 2], 6: [8, 4, 2], 8: [8, 4, 2]}  # of the width, by depth
    for depth in (3, 4, 5, 6, 8):
        network = generator(part(skip=skip, fusion=True, depth=depth, width=2), tile=256)
        joined = 2 if skip == "add" else 4
        assert [layer.in_channels for layer in network.fusion.projections] == [joined * m for m in multiples[depth]]
        sizes = []
        for layer in network.fusion.projections:
            layer.register_forward_hook(lambda layer, inputs, output, sizes=sizes: sizes.append(output.shape[-1]))
        network(sar(1, tile=256))
        assert sizes == [16, 32, 64][-len(sizes) :]  # beside the finest of 128


def test_fusion_reads_the_joined_features_before_any_activation():
    network = generator(part(fusion=True, skip="add", depth=3))
    randomised(network.fusion)
    outer = network.downs[0](sar())
    inner = network.downs[1](outer.clone())
    coarse = inner + network.ups[0](network.downs[2](inner.clone()))
    finest = outer + network.ups[1](coarse.clone())  # an activation in place would reach the fusion
    assert torch.equal(network(sar()), network.ups[2](network.fusion([coarse], finest)))


def test_without_its_projections_fusion_changes_nothing():
    for skip in ("concat", "add", "gated"):
        plain, fused = (generator(part(skip=skip, fusion=fusion)) for fusion in (False, True))
        fused.load_state_dict(plain.state_dict(), strict=False)
        assert not torch.equal(fused(sar()), plain(sar()))
        for project in fused.fusion.projections:
            nn.init.zeros_(project.weight)
        assert torch.equal(fused(sar()), plain(sar()))


def test_fusion_is_refused_where_there_is_one_scale_only():
    (sentence,) = unet.refuse(unet.Options(depth=2, fusion=True), recipe(64))
    assert "fusion" in sentence and "depth 2" in sentence and "3 or more" in sentence
    (sentence,) = unet.refuse(unet.Options(fusion=True), recipe(20))
    assert "depth 2" in sentence
    assert unet.refuse(unet.Options(depth=3, fusion=True), recipe(64)) == []


# -- both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", REMEDIES)
@pytest.mark.parametrize("norm", ["batch", "instance", "none", "sync_batch"])
def test_a_remedy_leaves_the_initial_convolutions_of_the_blocks_alone(options, norm):
    """So arms that differ in it start alike, and a network without is what it was before."""
    plain = generator(part(norm=norm, skip="add" if options["skip"] == "add" else "concat"))
    remedied = generator(part(norm=norm, **options))
    new = remedied.state_dict()
    for name, value in plain.state_dict().items():
        assert value.ndim < 4 or torch.equal(new[name], value), name
    added = new.keys() - plain.state_dict().keys()
    assert added and all(name.split(".")[0] in ("gates", "fusion") for name in added)


@pytest.mark.parametrize("options", REMEDIES)
def test_a_remedy_runs_and_learns_at_256_px_and_in_other_precisions(options):
    network = generator(part(width=2, norm="instance", **options), tile=256)
    picture = network(sar(1, tile=256))
    assert picture.shape == (1, 3, 256, 256)
    picture.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert network.double()(sar(1, tile=256).double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        halved = network.float()(sar(1, tile=256))
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), picture, atol=0.05, rtol=0)


def test_the_remedies_cost_few_parameters():
    """At full size, by a count by hand: gates 2.1 %, fusion 0.4 %."""
    with torch.device("meta"):
        plain, gated, fused = (
            unet.build(unet.Options(**options), tile=256, bands_in=3, bands_out=3)
            for options in ({}, {"skip": "gated"}, {"fusion": True})
        )
    skips = (512, 512, 512, 512, 256, 128, 64)
    assert parameters(gated) - parameters(plain) == sum(c * c + 2 * (c // 2) + 1 for c in skips)
    assert parameters(fused) - parameters(plain) == 128 * (1024 + 512 + 256)
