"""Metrics of whole sets of tiles: laws, other libraries' values, and what is shared over ranks and metrics.

What a Scorer does with features is tested with a small network, and again with Inception among the slow tests: each
picture costs Inception a fifth of a second.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage

from ablate import events
from tests.trainers import published, tiny
from tests.trainers.two_ranks import on_two_ranks
from trainers import references, train
from trainers.availability import caution, unavailable
from trainers.evaluate import Scorer, of_sets
from trainers.families import METRICS
from trainers.metrics import _inception, fid, kid
from trainers.pairs import DataError
from trainers.streams import numpy_generator
from trainers.tiles import Tiles
from trainers.vision import import_torchvision
from trainers.weightfiles import INCEPTION
from trainers.weights import present

NAMES = [name for name in METRICS.names() if of_sets(name)]
TILE, COUNT = 32, 8
any_set_metric = pytest.mark.parametrize("name", NAMES)


def tiles(garbage: int = 0) -> Tiles:
    """Tiles whose SAR is their optical picture; one has a hole, and the last no valid pixel."""
    draw = np.random.default_rng(5)
    pictures = ndimage.gaussian_filter(draw.normal(size=(COUNT, 3, TILE, TILE)), (0, 0, 1, 1))
    optical = np.tanh(3 * pictures).astype(np.float16)
    mask = np.ones((COUNT, 1, TILE, TILE), np.uint8)
    mask[2, :, 5:20, 10:], mask[-1] = 0, 0
    if garbage:
        noise = np.random.default_rng(garbage).uniform(-1, 1, optical.shape).astype(np.float16)
        optical = np.where(mask > 0, optical, noise)
    return Tiles(
        sar=optical, optical=optical, mask=mask, names=tuple(f"tile{i}" for i in range(COUNT)),
        scenes=("a", "b") * (COUNT // 2), splits=("validation",) * COUNT,
    )  # fmt: skip


def worse(share: float):
    """A predictor whose pictures are blurred by that share of a box filter."""

    def predict(sar: torch.Tensor) -> torch.Tensor:
        blurred = torch.nn.functional.avg_pool2d(sar, 9, stride=1, padding=4)
        return (1 - share) * sar + share * blurred

    return predict


def scores(predict, of: Tiles | None = None, indices=range(COUNT), **options):
    torch.set_num_threads(1)
    options = {"metrics": NAMES, "batch": 4} | options
    return Scorer(of or tiles(), indices, **options).score(predict)


def features(seed: int, count: int, width: int, *, shift: float = 0.0) -> np.ndarray:
    """Correlated features, as float32."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(count, width)) @ np.random.default_rng(9).normal(size=(width, width)) / np.sqrt(width)
    return (np.abs(mixed) + shift).astype(np.float32)


def small():
    """Features as `_inception.features` gives them: the means of 12 random filters."""
    filters = torch.randn(12, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return 12, lambda images: torch.relu(torch.nn.functional.conv2d(images, filters)).mean(dim=(2, 3))


def use_small(set_name=setattr) -> None:
    for name in NAMES:
        set_name(METRICS.part(name), "features", small)


@pytest.fixture(params=["small", pytest.param("inception", marks=pytest.mark.slow)])
def network(request, monkeypatch) -> dict[str, str] | None:
    """The file of Inception's weights; None where a small network stands in for it."""
    if request.param == "inception":
        return request.getfixturevalue("with_inception")
    use_small(monkeypatch.setattr)
    return None


# -- laws ---------------------------------------------------------------------------------------


@any_set_metric
def test_a_perfect_set_has_the_best_value_and_a_worse_one_a_worse(name):
    real, other = features(0, 60, 16), features(1, 60, 16)
    values = [METRICS.part(name).build()(real + share * (3 * other - real), real) for share in (0.0, 0.3, 0.9)]
    assert METRICS.part(name).GOAL == "min"
    assert values[0] <= 1e-9 < values[1] < values[2]
    assert values[0] >= -0.05 * values[1]  # KID is unbiased, and so below 0 where there is no difference


@any_set_metric
def test_the_order_of_the_images_is_no_part_of_a_set(name):
    """The drawn subsets move a KID, but not by much."""
    real, fake = features(0, 90, 16), features(1, 90, 16, shift=0.3)
    order = np.random.default_rng(0).permutation(90)
    distance = METRICS.part(name).build()
    assert distance(fake[order], real) == pytest.approx(distance(fake, real), rel=1e-9 if name == "fid" else 0.02)


@any_set_metric
def test_too_few_images_have_no_value(name):
    distance, few = METRICS.part(name).build(), {"fid": 2, "kid": 3}[name]
    for count in range(few):
        assert math.isnan(distance(features(0, count, 8), features(1, count, 8)))
    assert math.isfinite(distance(features(0, few, 8), features(1, few, 8)))


def test_sets_do_not_depend_on_batch_or_rank_count_or_on_the_other_metrics(tmp_path, network):
    whole = scores(worse(0.5))
    assert whole.metrics == () and list(whole.sets) == NAMES
    assert all(value > 0 for value in whole.sets.values())
    for options in ({"batch": 1}, {"batch": COUNT}, {"metrics": ["psnr", *reversed(NAMES)]}):
        assert scores(worse(0.5), **options).sets == pytest.approx(whole.sets, rel=1e-4)
    for found in on_two_ranks(job, tmp_path, network):
        assert found == pytest.approx(whole.sets, rel=1e-4)


def job(rank: int, files: dict[str, str] | None) -> dict[str, float]:
    published.use(files) if files else use_small()
    return dict(scores(worse(0.5), rank=rank, ranks=2).sets)


def test_pixels_under_the_mask_and_tiles_without_a_valid_one_do_not_count(network):
    base = scores(worse(0.0)).sets
    # A blur would carry garbage over the rim: brightness does not.
    dark = [scores(lambda sar: 0.7 * sar, tiles(garbage)).sets for garbage in (0, 1, 2)]
    assert dark[0] == dark[1] == dark[2] != base
    assert scores(lambda sar: 0.7 * sar, indices=range(COUNT - 1)).sets == dark[0]
    assert base["fid"] < 1e-6 * dark[0]["fid"]


def test_a_network_that_has_diverged_is_infinitely_bad(network):
    def broken(sar):
        return torch.where(torch.arange(len(sar)).view(-1, 1, 1, 1) == 1, torch.nan, sar)

    assert scores(broken).sets == dict.fromkeys(NAMES, math.inf)
    assert scores(broken, metrics=["fid", "psnr"]).means()["psnr"] == -math.inf


def test_all_metrics_of_sets_share_one_pass_and_real_features_are_taken_once(network):
    scorer = Scorer(tiles(), range(COUNT), metrics=["psnr", *NAMES, "mae"], batch=4)
    assert len(scorer._extract) == 1
    first = scorer.score(worse(0.5))
    seen: list[int] = []
    ((key, (width, take)),) = scorer._extract.items()
    scorer._extract[key] = width, lambda images: seen.append(len(images)) or take(images)
    again = scorer.score(worse(0.5))
    assert sum(seen) == COUNT  # the generated images alone
    assert again.means() == first.means()
    assert list(first.means()) == ["psnr", "mae", *NAMES]
    assert first.table.shape == (COUNT, 2)  # what scores.csv holds


def test_references_have_metrics_of_sets_too(network):
    splits = ("train", "train", "train", "train", *["validation"] * 4)
    scenes = ("a", "b", "a", "b", "c", "c", "d", "d")
    both = replace(tiles(), splits=splits, scenes=scenes)
    found = references.compare(both, metrics=["psnr", "fid"], split="validation")
    assert all(math.isfinite(found[f"{name}/fid"]) for name in ("mean_colour", "linear_map", "random_partner"))
    assert found["linear_map/fid"] < 1e-2 * found["mean_colour/fid"]  # SAR is the picture here


# -- Inception ------------------------------------------------------------------------------------


def test_features_are_pool3_of_eight_bit_images(with_inception):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    before = torch.get_rng_state()
    width, take = _inception.features()
    assert torch.equal(torch.get_rng_state(), before)  # a trial's numbers do not depend on its metrics
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (2, 3, 40, 40), generator=draw, dtype=torch.uint8)
    path = present(published.weightfiles.INCEPTION)
    theirs = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=str(path))
    found = take(levels / 255)
    assert found.shape == (2, width) and found.std() > 1e-3
    torch.testing.assert_close(found, theirs(levels)[0])
    torch.testing.assert_close(take((levels + 0.4) / 255), found)  # rounded to 8 bits
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 23_850_960  # with 1,008 classes


def test_a_single_band_stands_for_grey_and_two_are_refused(with_inception):
    _, take = _inception.features()
    grey = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(take(grey), take(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(DataError, match="three optical bands"):
        take(grey.expand(-1, 2, -1, -1))


def test_another_file_under_the_name_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_WEIGHTS", str(tmp_path))
    (tmp_path / INCEPTION.name).write_bytes(b"something else")
    assert "its sha256 is" in unavailable("fid", tile=64)  # seen before anything runs, and once more when it is read
    with pytest.raises(DataError, match=f"its sha256 is .*, expected {INCEPTION.sha256}"):
        _inception.features()


# -- FID --------------------------------------------------------------------------------------------


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """By the definition, with scipy's matrix square root."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)


@pytest.mark.parametrize("count", [13, 50, 400])
def test_fid_is_the_frechet_distance_of_scipy_and_of_torch_fidelity(count):
    import_torchvision()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    fake, real = features(0, count, 12, shift=0.2), features(1, count + 7, 12)
    value = fid.build()(fake, real)
    assert value == pytest.approx(frechet(fake, real), rel=1e-6)
    theirs = [fid_features_to_statistics(torch.from_numpy(x).double()) for x in (fake, real)]
    assert value == pytest.approx(fid_statistics_to_metric(*theirs, verbose=False)[KEY_METRIC_FID], rel=1e-6)


def test_fid_of_fewer_images_than_features_is_exact():
    """Where scipy's root of a singular product fails: in the span of the images, after a rotation."""
    count, width = 10, 200
    small = [features(seed, count, 6) for seed in (0, 1)]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(width, 6)))[0]
    wide = [x.astype(np.float64) @ turn.T for x in small]
    assert fid.build()(*wide) == pytest.approx(frechet(*small), rel=1e-6)


def test_fid_of_moved_features_is_the_squared_move():
    real = features(0, 30, 64)
    assert fid.build()(real + np.float32(0.5), real) == pytest.approx(64 * 0.25, rel=1e-5)


def test_fid_of_few_images_is_flagged(caplog, monkeypatch):
    use_small(monkeypatch.setattr)
    assert caution("fid", images=2048) is None
    assert caution("fid", images=2047).startswith("FID is of 2,047 images, fewer than 2,048")
    with caplog.at_level(logging.WARNING):
        Scorer(tiles(), range(COUNT), metrics=["fid"], batch=4)
    assert "FID is of 8 images" in caplog.text
    caplog.clear()
    Scorer(tiles(), range(COUNT), metrics=["fid"], batch=4, rank=1, ranks=2)
    Scorer(tiles(), range(COUNT), metrics=["kid", "psnr"], batch=4)
    assert not caplog.text


# -- KID --------------------------------------------------------------------------------------------


def drawn(count: int) -> list[list[np.ndarray]]:
    """The subsets of fake and real images."""
    draw, size = numpy_generator(0, "kid"), kid.subset_size(count)
    return [[draw.choice(count, size, replace=False) for _ in range(2)] for _ in range(kid.SUBSETS)]


def test_kid_is_the_mean_of_unbiased_mmds_by_loops():
    count, width = 7, 5
    fake, real = features(0, count, width, shift=0.5).astype(float), features(1, count, width).astype(float)

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / width + 1) ** 3

    def apart(x):
        values = [kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        return sum(values) / len(values)

    subsets = [(fake[some], real[others]) for some, others in drawn(count)]
    expected = [apart(x) + apart(y) - 2 * np.mean([kernel(a, b) for a in x for b in y]) for x, y in subsets]
    assert kid.build()(fake, real) == pytest.approx(np.mean(expected), rel=1e-9)


def test_kid_is_that_of_torch_fidelity_on_the_same_subsets(monkeypatch):
    import_torchvision()
    from torch_fidelity.metric_kid import kernel_mmd

    monkeypatch.setattr(kid, "SUBSETS", 4)
    fake, real = features(0, 1300, 24, shift=0.1).astype(float), features(1, 1300, 24).astype(float)
    expected = np.mean([kernel_mmd(fake[some], real[others]) for some, others in drawn(1300)])
    assert kid.build()(fake, real) == pytest.approx(expected, rel=1e-8)


def test_kid_is_unbiased_where_fid_is_not():
    """Two samples of one distribution: the mean KID is 0 within its error, the mean FID far above its own."""
    pairs = [(features(2 * seed, 20, 16), features(2 * seed + 1, 20, 16)) for seed in range(100, 160)]
    values = {name: np.array([METRICS.part(name).build()(*pair) for pair in pairs]) for name in NAMES}
    errors = {name: found.std() / math.sqrt(len(found)) for name, found in values.items()}
    assert abs(values["kid"].mean()) < 3 * errors["kid"]
    assert values["fid"].mean() > 10 * errors["fid"]


def test_a_subset_of_kid_is_smaller_than_the_set():
    for count in (3, 4, 8, 999, 1000, 1001, 5000):
        assert 2 <= kid.subset_size(count) < count
    assert kid.subset_size(5000) == 1000


def test_a_trial_scores_tiles_and_sets_and_keeps_tables_of_tiles(tmp_path, monkeypatch, with_alexnet):
    use_small(monkeypatch.setattr)
    folder = tiny.trial_folder(tmp_path, tiny.spec(tiny.recipe()))
    document = json.loads(folder.spec.read_text())
    folder.spec.write_text(json.dumps({**document, "metrics": ["gmsd", "fid", "lpips", "kid"]}))
    train.run(folder.root)
    scores = events.fold("trial", events.read(folder.events)).scores
    assert set(scores) == {"gmsd", "fid", "lpips", "kid"}
    assert folder.scores.read_text().splitlines()[0] == "tile,scene,gmsd,lpips"
