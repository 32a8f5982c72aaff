"""Laws of generators and discriminators, and pix2pix's published facts."""

from __future__ import annotations

import copy
import inspect
import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainers.discriminators import patchgan
from trainers.families import DISCRIMINATORS, GENERATORS, build, part_name
from trainers.generators import unet

TILE, BANDS_IN, BANDS_OUT = 64, 2, 3


def recipe(tile: int) -> SimpleNamespace:
    return SimpleNamespace(data=SimpleNamespace(tile=tile))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator(part, seed: int = 0, *, tile: int = TILE, bands_in: int = BANDS_IN) -> nn.Module:
    return build(GENERATORS, part, tile=tile, bands_in=bands_in, bands_out=BANDS_OUT, generator=seeded(seed))


def discriminator(part, seed: int = 0, *, bands: int = BANDS_IN + BANDS_OUT) -> nn.Module:
    return build(DISCRIMINATORS, part, bands=bands, generator=seeded(seed))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def sar(batch: int = 2, *, tile: int = TILE) -> torch.Tensor:
    return 2 * torch.rand(batch, BANDS_IN, tile, tile, generator=seeded(1)) - 1


def optical(batch: int = 2, *, tile: int = TILE) -> torch.Tensor:
    return 2 * torch.rand(batch, BANDS_OUT, tile, tile, generator=seeded(2)) - 1


UNETS = {
    f"{norm} {skip}{'+fusion' * fusion}": unet.Options(width=4, norm=norm, skip=skip, dropout=0.5, fusion=fusion)
    for norm in ("batch", "instance", "none", "sync_batch")
    for skip in ("concat", "add", "gated")
    for fusion in (False, True)
}
# Every other generator with its defaults; a wide one is narrowed.
GENERATOR_PARTS = UNETS | {name: GENERATORS.options(name)(width=4) for name in GENERATORS.names() if name != "unet"}
PATCHGANS = {
    f"{norm} {scales}": patchgan.Options(width=4, norm=norm, scales=scales)
    for norm in ("batch", "instance", "none", "spectral", "sync_batch")
    for scales in (1, 2)
}
DISCRIMINATOR_PARTS = PATCHGANS | {
    name: DISCRIMINATORS.options(name)(width=4) for name in DISCRIMINATORS.names() if name != "patchgan"
}

any_generator = pytest.mark.parametrize("part", GENERATOR_PARTS.values(), ids=GENERATOR_PARTS)
any_discriminator = pytest.mark.parametrize("part", DISCRIMINATOR_PARTS.values(), ids=DISCRIMINATOR_PARTS)
any_network = pytest.mark.parametrize(
    "make", [
        *(pytest.param(lambda seed, part=part: generator(part, seed), id=f"generator {name}")
          for name, part in GENERATOR_PARTS.items()),
        *(pytest.param(lambda seed, part=part: discriminator(part, seed), id=f"discriminator {name}")
          for name, part in DISCRIMINATOR_PARTS.items()),
    ],
)  # fmt: skip


def apply(network: nn.Module) -> torch.Tensor:
    """All outputs of a generator or discriminator on fixed images, in one vector."""
    judges = len(inspect.signature(network.forward).parameters) == 2
    outputs = network(sar(), optical()) if judges else [network(sar())]
    return torch.cat([output.flatten() for output in outputs])


# -- laws ---------------------------------------------------------------------------------------


@any_generator
def test_a_generator_keeps_the_size_and_stays_between_minus_one_and_one(part):
    network = generator(part)
    for batch in (1, 2):
        picture = network(50 * sar(batch))
        assert picture.shape == (batch, BANDS_OUT, TILE, TILE)
        assert picture.abs().max() <= 1


@any_discriminator
def test_a_discriminator_gives_one_unbounded_logit_map_a_scale(part):
    network = discriminator(part)
    maps = network(sar(), optical())
    assert isinstance(maps, list) and len(maps) == getattr(part, "scales", 1)
    for logits in maps:
        assert logits.ndim == 4 and logits.shape[:2] == (2, 1)
    with torch.no_grad():
        network.towers[0][-1].bias.fill_(7.0)
    assert network(sar(), optical())[0].mean() > 5  # a sigmoid or tanh would end at 1


@any_network
def test_every_parameter_gets_a_gradient(make):
    network = make(0)
    apply(network).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # An instance norm takes the mean out again: a bias before it has the gradient 0, up to rounding.
        assert parameter.grad.abs().max() > 0 or name.endswith("bias"), name


@any_network
def test_equal_seeds_give_equal_networks_and_others_differ(make):
    one, same, other = (make(seed) for seed in (0, 0, 1))
    for (name, a), b in zip(one.state_dict().items(), same.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(apply(one), apply(other))


@any_network
def test_building_neither_reads_nor_moves_the_global_random_state(make):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = make(0).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for a, b in zip(one.values(), make(0).state_dict().values(), strict=True):
        assert torch.equal(a, b)


@any_generator
@pytest.mark.parametrize(("tile", "more"), [(64, {}), (32, {"width": 1}), (96, {"width": 3}), (64, {"depth": 3})])
def test_a_generators_parameters_are_counted_without_building_it(part, tile, more):
    part = replace(part, **{name: value for name, value in more.items() if hasattr(part, name)})
    counted = GENERATORS.part(part_name(part)).parameters(part, tile=tile, bands_in=BANDS_IN, bands_out=BANDS_OUT)
    assert counted == parameters(generator(part, tile=tile))


@any_discriminator
@pytest.mark.parametrize(("bands", "more"), [(5, {}), (2, {"width": 1}), (7, {"width": 3, "layers": 5})])
def test_a_discriminators_parameters_are_counted_without_building_it(part, bands, more):
    part = replace(part, **{name: value for name, value in more.items() if hasattr(part, name)})
    counted = DISCRIMINATORS.part(part_name(part)).parameters(part, bands=bands)
    assert counted == parameters(discriminator(part, bands=bands))


@any_network
def test_saving_and_loading_changes_nothing(make):
    network, loaded = make(0), make(1)
    apply(network)  # moves running statistics and power iterations away from where they start
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file))
    assert torch.equal(apply(network.eval()), apply(loaded.eval()))


@any_network
def test_initial_weights_are_those_of_pix2pix(make):
    network = make(0)
    weights, biases = [], []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            spectral = hasattr(layer, "parametrizations")
            weights.append((layer.parametrizations.weight.original if spectral else layer.weight).flatten())
            biases += [] if layer.bias is None else [layer.bias]
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight - 1).abs().max() < 0.1
            assert layer.weight.std() > 0
            biases.append(layer.bias)
    weights = torch.cat(weights).detach()
    assert abs(weights.mean().item()) < 1e-3
    assert weights.std().item() == pytest.approx(0.02, rel=0.03)
    assert all((bias == 0).all() for bias in biases)


def test_networks_that_differ_in_their_norm_start_from_equal_convolutions():
    def convolutions(network):
        return [
            layer.parametrizations.weight.original if hasattr(layer, "parametrizations") else layer.weight
            for layer in network.modules()
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        ]

    for parts, make in ((UNETS, generator), (PATCHGANS, discriminator)):
        for kind in {name.split()[1] for name in parts}:
            alike = [convolutions(make(part)) for name, part in parts.items() if name.split()[1] == kind]
            assert len(alike) > 1
            for other in alike[1:]:
                assert all(torch.equal(a, b) for a, b in zip(alike[0], other, strict=True))


# -- the U-Net of pix2pix -----------------------------------------------------------------------


@pytest.mark.parametrize(("bands_in", "count"), [(3, 54_413_955), (2, 54_412_931)])
def test_the_unet_for_256_px_has_the_published_number_of_parameters(bands_in, count):
    with torch.device("meta"):
        network = unet.build(unet.Options(), tile=256, bands_in=bands_in, bands_out=3)
    assert parameters(network) == count


class PublishedBlock(nn.Module):
    """UnetSkipConnectionBlock as published (pytorch-CycleGAN-and-pix2pix, models/networks.py), for comparison."""

    def __init__(self, outer, inner, *, bands_in=None, submodule=None, place="middle", norm, dropout=False):
        super().__init__()
        bias = norm == nn.InstanceNorm2d
        self.outermost = place == "outermost"
        down = nn.Conv2d(bands_in or outer, inner, kernel_size=4, stride=2, padding=1, bias=bias)
        relu_down, relu_up = nn.LeakyReLU(0.2, True), nn.ReLU(True)
        joined = inner if place == "innermost" else inner * 2
        up = nn.ConvTranspose2d(joined, outer, kernel_size=4, stride=2, padding=1, bias=bias or self.outermost)
        if self.outermost:
            layers = [down, submodule, relu_up, up, nn.Tanh()]
        elif place == "innermost":
            layers = [relu_down, down, relu_up, up, norm(outer)]
        else:
            layers = [relu_down, down, norm(inner), submodule, relu_up, up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


def published(width: int, depth: int, *, norm, dropout: bool) -> nn.Module:
    block = PublishedBlock(width * 8, width * 8, place="innermost", norm=norm)
    for _ in range(depth - 5):
        block = PublishedBlock(width * 8, width * 8, submodule=block, norm=norm, dropout=dropout)
    for outer in (4, 2, 1):
        block = PublishedBlock(width * outer, width * outer * 2, submodule=block, norm=norm)
    return PublishedBlock(BANDS_OUT, width, bands_in=BANDS_IN, submodule=block, place="outermost", norm=norm)


@pytest.mark.parametrize(("kind", "norm"), [("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d)])
@pytest.mark.parametrize("tile", [64, 256])
def test_a_published_generators_weights_reproduce_its_output(kind, norm, tile):
    """Both hold their tensors in the order in which an image meets them, so the key map is the order."""
    depth = unet.halvings(tile)
    torch.manual_seed(5)
    theirs = published(4, depth, norm=norm, dropout=True)
    ours = generator(unet.Options(width=4, norm=kind, dropout=0.5), tile=tile)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    for training in (True, False):
        outputs = []
        for network in (ours, theirs):
            torch.manual_seed(9)  # of dropout
            outputs.append(network.train(training)(sar(tile=tile)))
        assert torch.equal(*outputs)
    gradients = [network(sar(tile=tile)).square().sum().backward() or network for network in (ours, theirs)]
    for a, b in zip(*(network.parameters() for network in gradients), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_added_skips_are_sums_and_need_fewer_weights():
    part = unet.Options(width=4, norm="none", skip="add", depth=2)
    network = generator(part)
    first = network.downs[0](sar())
    inner = network.ups[0](network.downs[1](first.clone()))  # an activation in place would reach the skip
    assert torch.equal(network(sar()), network.ups[1](first + inner))
    assert parameters(network) < parameters(generator(unet.Options(width=4, norm="none", depth=2)))


def test_the_unet_reaches_one_pixel_for_a_power_of_two_and_halves_others_while_it_can():
    for tile, depth in ((64, 6), (256, 8), (96, 5), (48, 4)):
        network = generator(unet.Options(width=2, norm="instance"), tile=tile)
        assert len(network.downs) == depth
        x = sar(1, tile=tile)
        for down in network.downs:
            x = down(x)
        assert x.shape[-1] == tile // 2**depth
        assert network(sar(1, tile=tile)).shape[-1] == tile


def test_tiles_that_the_unet_cannot_halve_are_refused_with_the_numbers():
    assert unet.refuse(unet.Options(), recipe(64)) == []
    assert unet.refuse(unet.Options(depth=4), recipe(48)) == []
    (sentence,) = unet.refuse(unet.Options(depth=5), recipe(48))
    assert "depth 5" in sentence and "32" in sentence and "48 px" in sentence
    (sentence,) = unet.refuse(unet.Options(), recipe(50))
    assert "divisible by 4" in sentence


def test_dropout_sits_on_the_inner_blocks_and_is_refused_where_there_are_none():
    for tile, blocks in ((64, 1), (128, 2), (256, 3)):
        network = generator(unet.Options(width=1, dropout=0.5), tile=tile)
        assert sum(isinstance(layer, nn.Dropout) for layer in network.modules()) == blocks
    (sentence,) = unet.refuse(unet.Options(dropout=0.5), recipe(32))
    assert "dropout 0.5" in sentence
    assert not any(isinstance(layer, nn.Dropout) for layer in generator(unet.Options(width=1)).modules())


# -- the PatchGAN -------------------------------------------------------------------------------


@pytest.mark.parametrize(("bands", "count"), [(6, 2_768_705), (5, 2_767_681)])
def test_the_patchgan_has_the_published_number_of_parameters(bands, count):
    with torch.device("meta"):
        network = patchgan.build(patchgan.Options(), bands=bands)
    assert parameters(network) == count


def test_256_px_give_30_by_30_logits():
    network = discriminator(patchgan.Options(width=1))
    assert network(sar(1, tile=256), optical(1, tile=256))[0].shape == (1, 1, 30, 30)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_judges_the_published_number_of_pixels(layers, field):
    network = discriminator(patchgan.Options(width=2, layers=layers, norm="none"))
    images = optical(1, tile=128).requires_grad_()
    logits = network(sar(1, tile=128), images)[0]
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    touched = images.grad.abs().sum(dim=(0, 1)) > 0
    assert touched.any(dim=0).sum() == touched.any(dim=1).sum() == field


def test_the_second_tower_sees_the_image_at_half_size():
    network = discriminator(patchgan.Options(width=2, scales=2, norm="none")).double()
    pair = torch.cat([sar(), optical()], dim=1).double()
    ones = nn.functional.avg_pool2d(torch.ones_like(pair), 3, 2, 1)
    halved = nn.functional.avg_pool2d(pair, 3, 2, 1) / ones  # padding does not count
    full, half = network(sar().double(), optical().double())
    assert torch.equal(full, network.towers[0](pair))
    torch.testing.assert_close(half, network.towers[1](halved), rtol=1e-9, atol=0)


def test_spectral_norm_bounds_every_convolution():
    network = discriminator(patchgan.Options(width=4, norm="spectral", scales=2))
    for _ in range(20):
        network(sar(), optical())
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 10
    for layer in convolutions:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=2e-2)


def test_spectral_norm_keeps_the_weights_drawn_before_it():
    plain, spectral = (discriminator(patchgan.Options(width=4, norm=norm)) for norm in ("none", "spectral"))
    network = copy.deepcopy(spectral).eval()
    for a, b in zip(plain.towers[0], network.towers[0], strict=True):
        if isinstance(a, nn.Conv2d):
            largest = torch.linalg.matrix_norm(a.weight.flatten(1), 2)
            torch.testing.assert_close(b.weight, a.weight / largest, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("norm", ["instance", "batch", "none", "spectral"])
def test_the_patchgan_is_refused_exactly_where_it_cannot_run(norm):
    for tile in (16, 24, 32, 48, 64, 96):
        for layers in (1, 2, 3, 4):
            for scales in (1, 2, 3):
                part = patchgan.Options(width=1, layers=layers, scales=scales, norm=norm)
                refused = patchgan.refuse(part, recipe(tile))
                try:
                    discriminator(part)(sar(tile=tile), optical(tile=tile))
                except (RuntimeError, ValueError):
                    assert refused and f"{tile} px" in refused[0]
                else:
                    assert not refused, (part, tile)
