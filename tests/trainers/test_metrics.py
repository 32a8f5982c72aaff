"""Laws over all metrics per image, other libraries' values, and the scoring of tiles.

Metrics of sets: test_set_metrics.py.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.overrides import TorchFunctionMode

from tests.trainers import published
from tests.trainers.two_ranks import on_two_ranks
from trainers.availability import unavailable
from trainers.evaluate import Scorer, of_sets, scene_mean
from trainers.families import METRICS
from trainers.generators import unet
from trainers.masks import fill
from trainers.metrics import _alexnet, lpips, ms_ssim
from trainers.pairs import DataError
from trainers.tiles import Tiles
from trainers.vision import import_torchvision

NAMES = [name for name in METRICS.names() if not of_sets(name)]
SIDE, BATCH = 192, 3  # multi-scale metrics need 161 px
any_metric = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.usefixtures("with_alexnet")


def metric(name: str):
    return METRICS.part(name).build()


def images(seed: int, *, bands: int = 3, batch: int = BATCH, side: int = SIDE) -> torch.Tensor:
    """Smooth pictures with some noise, in [0, 1]."""
    draw = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(draw.normal(size=(batch, bands, side, side)), (0, 0, 2, 2), mode="nearest")
    return torch.from_numpy(np.clip(0.5 + 2 * smooth + 0.02 * draw.normal(size=smooth.shape), 0, 1).astype(np.float32))


def everywhere(like: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(like[:, :1])


def hole(like: torch.Tensor) -> torch.Tensor:
    mask = everywhere(like)
    mask[0, :, 20:60, 31:], mask[1, :, :17] = 0, 0
    return mask


def better(name: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a > b if METRICS.part(name).GOAL == "max" else a < b


# -- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_says_what_is_better_and_what_it_is_called(name):
    part = METRICS.part(name)
    assert part.GOAL in ("max", "min")
    assert part.LABEL and isinstance(part.UNIT, str)


@any_metric
@pytest.mark.parametrize("bands", [1, 3])
def test_a_perfect_picture_has_the_best_value_and_a_worse_one_a_worse(name, bands):
    real, noise = images(0, bands=bands), images(1, bands=bands)
    scores = [metric(name)(real + share * (noise - real), real, everywhere(real)) for share in (0.0, 0.2, 0.8)]
    perfect = {"max": 1.0, "min": 0.0}[METRICS.part(name).GOAL] if name != "psnr" else 100.0
    assert scores[0].shape == (BATCH,) and scores[0].dtype == torch.float32
    assert scores[0].tolist() == pytest.approx([perfect] * BATCH, abs=1e-6)
    if name == "sam" and bands == 1:
        return  # one band has no colour to be wrong
    assert better(name, scores[0], scores[1]).all() and better(name, scores[1], scores[2]).all()


@any_metric
def test_metrics_are_finite_on_flat_pictures(name):
    black, white, real = torch.zeros(BATCH, 3, SIDE, SIDE), torch.ones(BATCH, 3, SIDE, SIDE), images(0)
    for fake, target in ((black, black), (black, white), (white, real), (real, black)):
        assert metric(name)(fake, target, everywhere(real)).isfinite().all()


@any_metric
def test_an_images_score_does_not_depend_on_its_batch(name):
    real, fake, mask = images(0), images(1), hole(images(0))
    real, fake = fill(real, mask), fill(fake, mask)
    together = metric(name)(fake, real, mask)
    alone = torch.cat([metric(name)(fake[i : i + 1], real[i : i + 1], mask[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=1e-6)


@any_metric
def test_what_stands_under_the_mask_changes_nothing(name):
    real, fake, mask = images(0), images(1), hole(images(0))
    scores = [
        metric(name)(*(fill(torch.where(mask > 0, x, images(seed)), mask) for x in (fake, real)), mask)
        for seed in (2, 3)
    ]
    assert torch.equal(*scores)


@any_metric
def test_a_quarter_of_nodata_leaves_a_score_where_it_was(name):
    """Of pictures that are alike all over: what is masked agrees by itself, and must not count as agreement."""
    real, mask = images(0), everywhere(images(0))
    fake = 0.7 * real + 0.3 * images(1)
    mask[..., : SIDE // 4] = 0
    whole, part = (metric(name)(fill(fake, m), fill(real, m), m) for m in (everywhere(real), mask))
    if name == "psnr":
        assert (whole - part).abs().max() < 0.3  # dB; diluted it would be 1.2
        return
    perfect = {"max": 1.0, "min": 0.0}[METRICS.part(name).GOAL]
    torch.testing.assert_close((part - perfect).mean(), (whole - perfect).mean(), rtol=0.1, atol=1e-4)


@pytest.mark.parametrize("name", ["mae", "psnr", "sam", "gmsd", "edge_f1"])
def test_metrics_by_pixel_count_valid_pixels_only(name):
    """Error under the mask, even when it is not filled, does not enter."""
    real, mask = images(0), hole(images(0))
    margin = -torch.nn.functional.max_pool2d(-mask, 9, 1, 4)  # GMSD halves, edges reach a few pixels
    fake = torch.where(margin > 0, 0.9 * real + 0.05, torch.where(mask > 0, real, 1 - real))
    alike = torch.where(mask > 0, fake, real)
    torch.testing.assert_close(metric(name)(fake, real, mask), metric(name)(alike, real, mask), rtol=1e-4, atol=1e-4)


# -- other libraries ----------------------------------------------------------------------------


def test_psnr_agrees_with_scikit_image():
    real, fake = images(0), images(1)
    expected = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0) for a, b in zip(real, fake, strict=True)]
    assert metric("psnr")(fake, real, everywhere(real)).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_agrees_with_scikit_image():
    real, fake = images(0), images(1)
    expected = [
        structural_similarity(a.astype(np.float64), b.astype(np.float64), channel_axis=0, data_range=1.0,
                              gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)[1]
        [:, 5:-5, 5:-5].mean()
        for a, b in zip(fake.numpy(), real.numpy(), strict=True)
    ]  # fmt: skip
    assert metric("ssim")(fake, real, everywhere(real)).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("bands", [1, 3])
def test_ms_ssim_is_that_of_piq(bands):
    import_torchvision()
    from piq import multi_scale_ssim

    real = images(0, bands=bands)
    fake = 0.7 * real + 0.3 * images(1, bands=bands)
    expected = multi_scale_ssim(fake, real, data_range=1.0, reduction="none")
    found = metric("ms_ssim")(fake, real, everywhere(real))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    assert 0.1 < found.min() and found.max() < 0.99


def test_ms_ssim_needs_161_pixels_and_says_so_before_it_is_computed():
    assert unavailable("ms_ssim", tile=160) == "it needs tiles of at least 161 px; the tile is 160 px"
    assert unavailable("ms_ssim", tile=161) is None
    small = images(0, side=ms_ssim.SMALLEST)
    assert metric("ms_ssim")(small, small, everywhere(small)).tolist() == pytest.approx([1] * BATCH)
    with pytest.raises(ValueError, match="161"):
        metric("ms_ssim")(small[..., 1:, 1:], small[..., 1:, 1:], everywhere(small)[..., 1:, 1:])


@pytest.mark.parametrize("side", [lpips.SMALLEST, 64, SIDE])
def test_lpips_is_that_of_its_authors(side):
    import_torchvision()
    package = pytest.importorskip("lpips", reason="the authors' package is not installed: pip install lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = package.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = published.alexnet()
    layers = [layer for part in (getattr(theirs.net, f"slice{n}") for n in range(1, 6)) for layer in part]
    convolutions = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    for at, layer in zip(_alexnet.CONVOLUTIONS, convolutions, strict=True):
        layer.weight.data, layer.bias.data = state[f"{at.key}.weight"], state[f"{at.key}.bias"]
    fake, real = images(0, side=side), images(1, side=side)
    with torch.no_grad():
        expected = theirs(fake, real, normalize=True).flatten()
    torch.testing.assert_close(metric("lpips")(fake, real, everywhere(real)), expected, rtol=1e-4, atol=1e-6)


def test_lpips_weighs_channels_by_its_authors_numbers():
    sha = hashlib.sha256(lpips.CHANNELS.read_bytes()).hexdigest()
    assert sha == "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"  # of lpips 0.1.4, v0.1/alex.pth
    assert "Redistribution" in (lpips.CHANNELS.parent / "LICENSE").read_text()
    theirs = torch.load(lpips.CHANNELS, map_location="cpu", weights_only=True)
    assert sum(weight.numel() for weight in theirs.values()) == 1152


def test_lpips_reads_three_bands_or_one_as_grey():
    five, grey = images(0, bands=5), images(1, bands=1)
    other = torch.cat([five[:, :3], images(2, bands=2)], dim=1)
    mask = everywhere(five)
    assert metric("lpips")(five, other, mask).tolist() == [0] * BATCH
    fake = images(2, bands=1)
    threefold = metric("lpips")(*(x.expand(-1, 3, -1, -1) for x in (fake, grey)), mask)
    torch.testing.assert_close(metric("lpips")(fake, grey, mask), threefold)
    with pytest.raises(DataError, match="three optical bands"):
        metric("lpips")(five[:, :2], five[:, :2], mask)
    assert unavailable("lpips", tile=64, bands=2) == "it reads three optical bands (or one as grey); the images have 2"


def test_lpips_needs_31_pixels():
    small = images(0, side=lpips.SMALLEST - 1)
    assert "31 px" in unavailable("lpips", tile=30)
    with pytest.raises(RuntimeError):
        metric("lpips")(small, small, everywhere(small))


def test_mae_and_sam_agree_with_numpy_on_valid_pixels():
    real, fake, mask = 0.05 + 0.9 * images(0), 0.05 + 0.9 * images(1), hole(images(0))  # a black pixel has no angle
    valid = mask.numpy()[:, 0] > 0
    a, b = (x.numpy().astype(np.float64) for x in (fake, real))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    absolute = np.abs(a - b).mean(axis=1)
    for name, values in (("sam", angle), ("mae", absolute)):
        expected = [values[i][valid[i]].mean() for i in range(BATCH)]
        assert metric(name)(fake, real, mask).tolist() == pytest.approx(expected, rel=1e-5)


def test_sam_keeps_small_angles_and_knows_black():
    def angle(a, b):
        a, b = (torch.tensor(x, dtype=torch.float32).view(1, 3, 1, 1) for x in (a, b))
        return metric("sam")(a, b, torch.ones(1, 1, 1, 1)).item()

    assert angle((1.0, 1e-4, 0.0), (1.0, 0.0, 0.0)) == pytest.approx(math.degrees(1e-4), rel=1e-3)
    assert angle((0.2, 0.0, 0.0), (0.0, 0.7, 0.0)) == pytest.approx(90)
    assert angle((0.0, 0.0, 0.0), (0.3, 0.1, 0.2)) == pytest.approx(90)
    assert angle((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)) == 0


@pytest.mark.parametrize("bands", [1, 3])
def test_gmsd_is_that_of_piq(bands):
    import_torchvision()
    from piq import gmsd

    real, fake = images(0, bands=bands), images(1, bands=bands)
    expected = gmsd(fake, real, data_range=1.0, reduction="none")
    torch.testing.assert_close(metric("gmsd")(fake, real, everywhere(real)), expected, rtol=0, atol=1e-5)


def edges_by_scipy(fake: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    """Edge F1 of one image, (C, H, W) and (H, W), built from scipy's parts."""
    valid = ~ndimage.binary_dilation(mask == 0, np.ones((3, 3)))
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    strength = []
    for image in (fake, real):
        grey = (image.astype(np.float64) * weights).sum(0)
        strength.append(np.hypot(*(ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1))))
    threshold = max(np.quantile(strength[1][valid], 0.9), 8 / 255)
    a, b = ((s >= threshold) & valid for s in strength)
    wide_a, wide_b = (ndimage.binary_dilation(edges, np.ones((5, 5))) for edges in (a, b))
    precision, recall = (a & wide_b).sum() / max(a.sum(), 1), (b & wide_a).sum() / max(b.sum(), 1)
    return 2 * precision * recall / max(precision + recall, 1e-12)


def test_edge_f1_agrees_with_scipy():
    real, mask = images(0), hole(images(0))
    fake = 0.6 * real + 0.4 * images(1)
    real, fake = fill(real, mask), fill(fake, mask)
    expected = [edges_by_scipy(*(x[i].numpy() for x in (fake, real)), mask[i, 0].numpy()) for i in range(BATCH)]
    assert metric("edge_f1")(fake, real, mask).tolist() == pytest.approx(expected, abs=2e-3)
    assert 0.1 < min(expected) and max(expected) < 0.99


def test_edge_f1_forgives_two_pixels_and_not_three():
    def step(column: int) -> torch.Tensor:
        image = torch.zeros(1, 1, 32, 32)
        image[..., column:] = 1.0
        return image

    values = [metric("edge_f1")(step(16 + shift), step(16), everywhere(step(16))).item() for shift in range(6)]
    assert values[:3] == pytest.approx([1, 1, 1])
    assert values[3] == pytest.approx(0.5)  # the edge is two pixels wide: one of them is still near
    assert values[4:] == [0, 0]


def test_edge_f1_where_there_is_no_edge():
    flat, step = torch.full((1, 1, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
    step[..., 16:] = 1.0
    mask = everywhere(flat)
    assert metric("edge_f1")(flat, flat, mask).item() == 1
    assert metric("edge_f1")(flat, step, mask).item() == metric("edge_f1")(step, flat, mask).item() == 0


def test_the_rim_of_a_nodata_area_is_no_edge():
    real = torch.full((1, 3, 32, 32), 0.9)
    mask = everywhere(real)
    mask[..., :10] = 0
    filled = real * mask
    for name, perfect in (("edge_f1", 1.0), ("gmsd", 0.0)):
        assert metric(name)(filled, filled, mask).item() == perfect
    assert metric("edge_f1")(filled, filled * 0.9, mask).item() == 1  # no edge in either


# -- tiles --------------------------------------------------------------------------------------

TILE, COUNT = 64, 7


def some_tiles() -> Tiles:
    """Seven tiles of three scenes, one with a hole and one without a valid pixel."""
    optical = 2 * images(5, batch=COUNT, side=TILE).numpy() - 1
    mask = np.ones((COUNT, 1, TILE, TILE), np.uint8)
    mask[2, :, 10:30, 10:30], mask[6] = 0, 0
    return Tiles(
        sar=(optical[:, :2] * 0.8).astype(np.float16), optical=optical.astype(np.float16), mask=mask,
        names=tuple(f"tile{i}" for i in range(COUNT)), scenes=("a", "b", "b", "c", "c", "c", "a"),
        splits=("validation",) * COUNT,
    )  # fmt: skip


def network() -> torch.nn.Module:
    part = unet.Options(width=4, norm="instance")
    generator = torch.Generator().manual_seed(0)
    return unet.build(part, tile=TILE, bands_in=2, bands_out=3, generator=generator).eval()


METRICS_OF_TILES = [name for name in NAMES if name != "ms_ssim"]  # that needs larger tiles


def scored(**options) -> np.ndarray:
    torch.set_num_threads(1)
    options = {"metrics": METRICS_OF_TILES, "batch": 3} | options
    return Scorer(some_tiles(), range(COUNT), **options).score(network()).table


def test_scores_stand_by_tile_and_metric():
    tiles, table = some_tiles(), scored()
    assert table.shape == (COUNT, len(METRICS_OF_TILES)) and table.dtype == np.float64
    sar, real, mask = (torch.from_numpy(part) for part in tiles.read([2]))
    with torch.no_grad():
        fake = network()(sar)
    fake, real = ((fill(x, mask) + 1) / 2 for x in (fake, real))
    expected = [metric(name)(fake, real, mask).item() for name in METRICS_OF_TILES]
    assert table[2].tolist() == pytest.approx(expected, rel=1e-6)


def test_scores_do_not_depend_on_the_batch_size():
    table = scored(batch=COUNT)
    for batch in (1, 2, 3, 100):
        np.testing.assert_allclose(scored(batch=batch), table, rtol=1e-6, atol=1e-6)


class Reads(TorchFunctionMode):
    """Counts how often a device's values are asked for; each time the host would wait for all of its work."""

    NAMES = ("cpu", "item", "tolist", "__bool__", "__float__", "__int__", "nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in self.NAMES
        return function(*args, **(kwargs or {}))


def test_the_device_is_read_once_however_many_batches_there_are():
    counts = []
    for batch in (1, 3, COUNT):
        scorer, predict = Scorer(some_tiles(), range(COUNT), metrics=METRICS_OF_TILES, batch=batch), network()
        with Reads() as reads:
            scorer.score(predict)
        counts.append(reads.count)
    assert counts == [1, 1, 1]


def test_ranks_score_disjoint_shares():
    table = np.nan_to_num(scored())
    shares = [np.nan_to_num(scored(rank=rank, ranks=3)) for rank in range(3)]
    np.testing.assert_allclose(sum(shares), table, rtol=1e-6, atol=1e-6)
    assert [np.flatnonzero(share.any(axis=1)).tolist() for share in shares] == [[0, 3], [1, 4], [2, 5]]


def job(rank: int, files: dict[str, str]) -> np.ndarray:
    published.use(files)
    return scored(rank=rank, ranks=2)


def test_every_rank_of_a_group_holds_the_whole_table(tmp_path, with_alexnet):
    for table in on_two_ranks(job, tmp_path, with_alexnet):
        np.testing.assert_allclose(table, scored(), rtol=1e-6, atol=1e-6)


def test_a_tile_without_a_valid_pixel_is_unknown_and_left_out_aloud(caplog):
    table = scored()
    assert np.isnan(table[6]).all() and np.isfinite(table[:6]).all()
    with caplog.at_level(logging.WARNING):
        means = scene_mean(table, some_tiles().scenes, METRICS_OF_TILES)
    assert "1 of 7 tiles" in caplog.text
    assert means == pytest.approx(scene_mean(table[:6], some_tiles().scenes[:6], METRICS_OF_TILES))


def test_a_network_that_has_diverged_is_infinitely_bad():
    def broken(sar):
        return torch.full((len(sar), 3, *sar.shape[2:]), torch.nan)

    means = Scorer(some_tiles(), range(6), metrics=METRICS_OF_TILES, batch=4).score(broken).means()
    for name in METRICS_OF_TILES:
        assert means[name] == (-math.inf if METRICS.part(name).GOAL == "max" else math.inf)


def test_every_scene_counts_the_same():
    values = np.array([[1.0, 10.0], [3.0, 30.0], [8.0, np.nan], [np.nan, np.nan]])
    assert scene_mean(values, ["a", "a", "b", "c"], ["x", "y"]) == {"x": 5.0, "y": 20.0}
    assert math.isnan(scene_mean(values[3:], ["c"], ["x", "y"])["x"])
    assert math.isnan(scene_mean(np.zeros((0, 1)), [], ["x"])["x"])
