"""Laws over all loss terms, and other libraries' values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from trainers.discriminators import patchgan
from trainers.families import TERMS
from trainers.families import build as built
from trainers.masks import fill
from trainers.terms import charbonnier, feature_matching, gradient, l1, ms_ssim, ssim

WITHOUT_FILES = {"perceptual": {"weights": "random"}}  # where a term's defaults would need one
PARTS = {name: TERMS.options(name)(**WITHOUT_FILES.get(name, {})) for name in TERMS.names()} | {
    "gradient laplacian": gradient.Options(operator="laplacian")
}
BATCH = 3


def recipe(tile: int) -> SimpleNamespace:
    return SimpleNamespace(data=SimpleNamespace(tile=tile))


def smallest(name: str) -> int:
    """The smallest tile of these that the term accepts."""
    part = TERMS.part(name.split()[0])
    refuse = getattr(part, "refuse", lambda options, recipe: [])
    return next(tile for tile in (32, 176, 256) if not refuse(PARTS[name], recipe(tile)))


any_term = pytest.mark.parametrize("name", PARTS)


def judge(bands: int, *, scales: int = 2):
    """A discriminator whose features are of order 1, with a condition of its own: images -> features."""
    part = patchgan.Options(width=4, layers=2, norm="instance", scales=scales)
    network = patchgan.build(part, bands=1 + bands, generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    return lambda images: network.features(images[:, :1].detach() * 0 + 0.5, images)


def build(name: str):
    """The term as a function of images and mask: one of features looks through a fixed discriminator."""
    loss = built(TERMS, PARTS[name])
    if getattr(TERMS.part(name.split()[0]), "INPUTS", "images") == "images":
        return loss

    def of_images(fake, real, mask):
        look = judge(real.shape[1])
        with torch.no_grad():
            wanted = look(real)
        return loss(look(fake), wanted)

    return of_images


def images(name: str, seed: int, bands: int = 3) -> torch.Tensor:
    """Smooth pictures with some noise, in [-1, 1]."""
    draw, side = np.random.default_rng(seed), smallest(name)
    smooth = ndimage.gaussian_filter(draw.normal(size=(BATCH, bands, side, side)), (0, 0, 2, 2), mode="nearest")
    return torch.from_numpy(np.clip(4 * smooth + 0.1 * draw.normal(size=smooth.shape), -1, 1).astype(np.float32))


def hole(like: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(like[:, :1])
    mask[:, :, 3:9, 5:] = 0
    return mask


def everywhere(like: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(like[:, :1])


@any_term
def test_a_term_is_least_and_about_zero_where_the_images_are_equal(name):
    term, real, fake = build(name), images(name, 0), images(name, 1)
    equal, other = term(real, real, everywhere(real)), term(fake, real, everywhere(real))
    assert equal.shape == other.shape == (BATCH,)
    assert equal.abs().max() <= 2e-3
    assert (other > equal + 0.01).all()


@any_term
def test_a_term_is_never_negative(name):
    term, real = build(name), images(name, 0)
    for fake in (images(name, 1), -real, real, torch.ones_like(real), -torch.ones_like(real)):
        assert (term(fake, real, everywhere(real)) >= -1e-6).all()


@any_term
def test_gradients_are_finite_everywhere(name):
    term, real = build(name), images(name, 0)
    flat = torch.zeros_like(real)
    other = images(name, 1)
    for fake, target in ((real, real), (-real, real), (other, real), (flat, flat), (flat, real), (real, flat)):
        fake = fake.clone().requires_grad_()
        term(fake, target, everywhere(real)).sum().backward()
        assert fake.grad.isfinite().all()


@any_term
def test_a_small_step_against_the_gradient_lowers_the_term(name):
    term, real, fake = build(name), images(name, 0), images(name, 1).requires_grad_()
    before = term(fake, real, everywhere(real)).sum()
    (slope,) = torch.autograd.grad(before, fake)
    after = term(fake.detach() - 1e-3 * slope / slope.abs().max(), real, everywhere(real)).sum()
    assert after < before


@any_term
def test_the_order_of_the_batch_does_not_matter(name):
    term, real, fake = build(name), images(name, 0), images(name, 1)
    order = torch.tensor([2, 0, 1])
    mask = hole(real)
    losses = term(fill(fake, mask), fill(real, mask), mask)
    again = term(fill(fake, mask)[order], fill(real, mask)[order], mask[order])
    torch.testing.assert_close(again, losses[order], rtol=1e-6, atol=1e-7)


@any_term
def test_a_quarter_of_nodata_leaves_the_loss_where_it_was(name):
    """What is masked agrees by itself: it must not make the term weigh less."""
    if getattr(TERMS.part(name.split()[0]), "INPUTS", "images") != "images":
        pytest.skip("features of the discriminator are of patches, which see the mask's fill as D does")
    real = torch.cat([images(name, seed) for seed in range(4)])
    fake = 0.7 * real + 0.3 * torch.cat([images(name, seed) for seed in range(10, 14)])
    mask = everywhere(real)
    mask[..., : real.shape[-1] // 4] = 0
    whole, part = (build(name)(fill(fake, m), fill(real, m), m).mean() for m in (everywhere(real), mask))
    tolerance = 0.2 if name == "ms_ssim" else 0.1  # its coarse scales have few windows, all of which see something
    torch.testing.assert_close(part, whole, rtol=tolerance, atol=0)  # diluted it would be a quarter less


@any_term
def test_what_stands_under_the_mask_changes_neither_the_loss_nor_the_gradient(name):
    term, real, mask = build(name), images(name, 0), hole(images(name, 0))
    losses, slopes = [], []
    for seed in (1, 2):
        fake = torch.where(mask > 0, images(name, 3), images(name, seed)).requires_grad_()
        target = torch.where(mask > 0, real, images(name, seed + 10))
        losses.append(term(fill(fake, mask), fill(target, mask), mask))
        slopes.append(torch.autograd.grad(losses[-1].sum(), fake)[0])
    assert torch.equal(*losses) and torch.equal(*slopes)
    assert (slopes[0] * (1 - mask) == 0).all() and slopes[0].abs().max() > 0


@any_term
def test_one_band_works(name):
    term, real, fake = build(name), images(name, 0, bands=1), images(name, 1, bands=1)
    assert term(fake, real, everywhere(real)).shape == (BATCH,)


@any_term
def test_a_term_says_what_it_compares(name):
    assert getattr(TERMS.part(name.split()[0]), "INPUTS", "images") in ("images", "features")


@any_term
def test_the_weight_comes_first_and_may_be_zero(name):
    options = TERMS.options(name.split()[0])
    assert next(iter(options.__dataclass_fields__)) == "weight"
    assert options(weight=0.0).weight == 0


def test_l1_and_charbonnier_are_means_over_valid_pixels_in_numpy_too():
    real, fake = images("l1", 0), images("l1", 1)
    mask = hole(real)
    difference = np.where(mask.numpy() > 0, (fake - real).numpy().astype(np.float64), np.nan)
    absolute = np.nanmean(np.abs(difference), axis=(1, 2, 3))
    smooth = np.nanmean(np.sqrt(difference**2 + 1e-6), axis=(1, 2, 3))
    assert l1.build(l1.Options())(fake, real, mask).numpy() == pytest.approx(absolute, rel=1e-5)
    assert charbonnier.build(charbonnier.Options())(fake, real, mask).numpy() == pytest.approx(smooth, rel=1e-5)


def test_charbonnier_of_equal_images_is_eps():
    real = images("charbonnier", 0)
    term = charbonnier.build(charbonnier.Options(eps=0.25))
    assert term(real, real, everywhere(real)).tolist() == pytest.approx([0.25] * BATCH)


def test_ssim_agrees_with_scikit_image():
    real, fake = images("ssim", 0), images("ssim", 1)
    ours = 1 - ssim.build(ssim.Options())(fake, real, everywhere(real))
    for index in range(BATCH):
        a, b = (((x[index] + 1) / 2).numpy().astype(np.float64) for x in (fake, real))
        _, full = structural_similarity(
            a, b, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        assert ours[index].item() == pytest.approx(full[:, 5:-5, 5:-5].mean(), abs=1e-5)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_ssim_is_taken_in_fp32_also_under_autocast(name):
    term, real, fake = build(name), images(name, 0), images(name, 1)
    expected = term(fake, real, everywhere(real))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = term(fake, real, everywhere(real))
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, expected, rtol=0, atol=1e-6)


def test_ms_ssim_agrees_with_piq():
    from trainers.vision import import_torchvision

    import_torchvision()
    from piq import multi_scale_ssim

    real, fake = images("ms_ssim", 0), (images("ms_ssim", 0) + 0.3 * images("ms_ssim", 1)).clamp(-1, 1)
    ours = 1 - ms_ssim.build(ms_ssim.Options())(fake, real, everywhere(real))
    theirs = multi_scale_ssim((fake + 1) / 2, (real + 1) / 2, data_range=1.0, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_ms_ssim_is_refused_below_161_px_with_the_number():
    assert ms_ssim.refuse(ms_ssim.Options(), recipe(161)) == []
    (sentence,) = ms_ssim.refuse(ms_ssim.Options(), recipe(160))
    assert "161" in sentence and "160 px" in sentence
    term = ms_ssim.build(ms_ssim.Options())
    for side in (160, 161):
        square = torch.zeros(1, 1, side, side)
        if side == 160:
            with pytest.raises(ValueError, match="161"):
                term(square, square, square + 1)
        else:
            assert term(square, square, square + 1).abs() < 1e-6


def band_by_band(response, fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Absolute difference of scipy's responses, (B, C, H, W): its filters would smooth across bands too."""
    pairs = zip(fake.reshape(-1, *fake.shape[2:]), real.reshape(-1, *real.shape[2:]), strict=True)
    return np.abs([response(a) - response(b) for a, b in pairs]).reshape(fake.shape)


@pytest.mark.parametrize(
    ("operator", "responses"),
    [
        ("sobel", [lambda x: ndimage.sobel(x, 0, mode="nearest"), lambda x: ndimage.sobel(x, 1, mode="nearest")]),
        ("laplacian", [lambda x: ndimage.laplace(x, mode="nearest")]),
    ],
)
def test_the_gradient_term_compares_scipys_filter_responses(operator, responses):
    real, fake, mask = images("gradient", 0), images("gradient", 1), hole(images("gradient", 0))
    real, fake = fill(real, mask), fill(fake, mask)
    a, b = (x.numpy().astype(np.float64) for x in (fake, real))
    stacked = np.concatenate([band_by_band(response, a, b) for response in responses], axis=1)
    expected = np.nanmean(np.where(mask.numpy() > 0, stacked, np.nan), axis=(1, 2, 3))
    term = gradient.build(gradient.Options(operator=operator))
    assert term(fake, real, mask).numpy() == pytest.approx(expected, rel=1e-5)


def features_by_hand(tower: torch.nn.Sequential, pair: torch.Tensor) -> list[torch.Tensor]:
    """What stands behind each LeakyReLU of a tower, and its logits: each computed from the start."""
    ends = [at + 1 for at, layer in enumerate(tower) if isinstance(layer, torch.nn.LeakyReLU)]
    return [tower[:end](pair) for end in (*ends, len(tower))]


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_feature_matching_is_pix2pixhds_published_loop(scales):
    """`Pix2PixHDModel.forward`: feat_weights = 4 / (n_layers_D + 1), D_weights = 1 / num_D, L1 means, no logits."""
    part = patchgan.Options(width=4, layers=3, norm="instance", scales=scales)
    network = patchgan.build(part, bands=5, generator=torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(2)
    sar, fake, real = (2 * torch.rand(2, bands, 96, 96, generator=draw) - 1 for bands in (2, 3, 3))
    fake.requires_grad_()
    published = 0.0
    pairs = [torch.cat([sar, image], dim=1) for image in (fake, real)]
    for tower in network.towers:
        pred_fake, pred_real = (features_by_hand(tower, pair) for pair in pairs)
        assert len(pred_fake) == part.layers + 2
        for j in range(len(pred_fake) - 1):
            share = 4.0 / (part.layers + 1) / scales
            published = published + share * torch.nn.functional.l1_loss(pred_fake[j], pred_real[j].detach())
        pairs = [torch.nn.functional.avg_pool2d(pair, 3, 2, 1, count_include_pad=False) for pair in pairs]
    with torch.no_grad():
        wanted = network.features(sar, real)
    ours = feature_matching.build(feature_matching.Options())(network.features(sar, fake), wanted)
    assert ours.shape == (2,) and feature_matching.Options().weight == 10
    torch.testing.assert_close(ours.mean(), published, rtol=1e-5, atol=1e-7)
    one, two = (torch.autograd.grad(loss, fake)[0] for loss in (ours.mean(), published))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-9)


def test_feature_matching_ignores_the_logits_and_is_fp32():
    draw = torch.Generator().manual_seed(0)
    layers = [torch.rand(2, 3, 4, 4, generator=draw) for _ in range(2)]
    logits = [torch.rand(2, 1, 2, 2, generator=draw) for _ in range(2)]
    term = feature_matching.build(feature_matching.Options())
    assert torch.equal(term([[layers[0], logits[0]]], [[layers[1], logits[1]]]),
                       term([[layers[0], logits[1]]], [[layers[1], logits[0]]]))  # fmt: skip
    half = term([[layers[0].bfloat16(), logits[0]]], [[layers[1].bfloat16(), logits[1]]])
    assert half.dtype == torch.float32
