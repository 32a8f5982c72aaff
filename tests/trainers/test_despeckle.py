"""The Lee filter does what its formula says, on what is valid, and takes speckle but no mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.images import folders, refuses, write
from trainers import windows
from trainers.despeckle import Lee
from trainers.layouts._common import Sar
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.prepare import prepare
from trainers.synthesis import SPECKLE_SIGMA, render, speckle
from trainers.tiles import Tiles


def by_definition(band: np.ndarray, valid: np.ndarray, window: int, looks: float) -> np.ndarray:
    """Lee (1980), pixel by pixel."""
    reach, result = window // 2, band.astype(np.float64)
    for row, column in zip(*np.nonzero(valid), strict=True):
        around = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        values = band[around][valid[around]].astype(np.float64)
        mean, variance = values.mean(), values.var()
        backscatter = max((variance + mean**2) / (1 / looks + 1) - mean**2, 0.0)
        gain = backscatter / (mean**2 / looks + backscatter) if backscatter else 0.0
        result[row, column] = mean + gain * (band[row, column] - mean)
    return result


@given(st.integers(0, 1000), st.sampled_from([3, 5, 9]), st.floats(0.5, 20), st.floats(0, 0.6))
@settings(max_examples=25, deadline=None)
def test_it_agrees_with_its_definition(seed, window, looks, masked):
    rng = np.random.default_rng(seed)
    power = np.repeat([0.01, 0.3], 12)[None, :, None] * rng.gamma(4, 0.25, (2, 24, 17))
    valid = rng.random((24, 17)) >= masked
    power = power.astype(np.float32)
    found = Lee(window, looks)(power, valid)
    for band, expected in zip(found, (by_definition(band, valid, window, looks) for band in power), strict=True):
        np.testing.assert_allclose(band, expected, rtol=1e-5, atol=1e-9)


def test_masked_pixels_are_neither_used_nor_changed():
    rng = np.random.default_rng(0)
    power = rng.gamma(4, 0.25, (1, 40, 40)).astype(np.float32)
    valid = rng.random((40, 40)) > 0.3
    one, other = (Lee(7, 4.4)(np.where(valid, power, hidden).astype(np.float32), valid) for hidden in (0, np.nan))
    np.testing.assert_array_equal(one[:, valid], other[:, valid])
    assert not one[:, ~valid].any() and np.isnan(other[:, ~valid]).all()


@pytest.mark.parametrize("window", [3, 7, 15])
def test_homogeneous_speckle_gets_more_looks_and_keeps_its_mean(window):
    """Of the synthetic scenes' own speckle, which is correlated."""
    looks = {}
    for seed in range(4):
        power = (0.05 * speckle(np.random.default_rng(seed), (200, 200))).astype(np.float32)
        found = Lee(window, 4.4)(power[None], np.ones(power.shape, bool))[0]
        assert found.mean() == pytest.approx(power.mean(), rel=0.02)
        looks[seed] = [image.mean() ** 2 / image.var() for image in (power, found)]
    before, after = np.mean(list(looks.values()), axis=0)
    assert 3 < before < 5.5 and after > {3: 1.2, 7: 2, 15: 4}[window] * before


def test_homogeneous_fields_of_synthetic_scenes_get_smoother_and_keep_their_mean():
    scene = render(Synthetic(scenes=8, size=192, tile=64), 0)
    power = 10 ** (scene.sar / 10)
    found = Lee(7, 4.4)(power, np.isfinite(power).all(axis=0))
    ratios, means = [], []
    for row in range(0, 192 - 15, 16):
        for column in range(0, 192 - 15, 16):
            part = np.s_[0, row : row + 16, column : column + 16]
            if len(np.unique(scene.cover[part[1:]])) == 1 and not scene.special[part[1:]].any():
                before, after = power[part], found[part]
                ratios.append((after.var() / after.mean() ** 2) / (before.var() / before.mean() ** 2))
                means.append(after.mean() / before.mean())
    assert len(ratios) >= 5 and np.median(ratios) < 0.5
    assert np.median(means) == pytest.approx(1, abs=0.05)


def test_an_edge_stays_where_it_is():
    power = np.where(np.arange(40) < 20, 0.01, 1.0)[None, None, :] * np.ones((1, 40, 1))
    found = Lee(7, 4.4)(power.astype(np.float32), np.ones((40, 40), bool))
    assert (found[0, 20, 18:20] < 0.2).all() and (found[0, 20, 20:22] > 0.7).all()
    np.testing.assert_allclose(found[0, :, 30:], 1, rtol=1e-6)


def decibels_with_speckle(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([-12 + 10 * np.log10(speckle(rng, (64, 64))) for _ in range(2)]).astype(np.float32)


def test_every_domain_is_despeckled_as_intensity(tmp_path):
    """The mean of dB would lie about half a dB lower."""
    found = {}
    for domain, factor in (("db", 0), ("linear", 10), ("amplitude", 20)):
        stored = decibels_with_speckle if not factor else lambda seed, f=factor: 10 ** (decibels_with_speckle(seed) / f)
        data = Folders(root=str(folders(tmp_path / domain, sar=stored)), sar=Sar(domain=domain, despeckle="lee"))
        found[domain] = Tiles.open(prepare(data, tmp_path / "cache")).read(range(3))[0]
    for domain in ("linear", "amplitude"):
        np.testing.assert_allclose(found[domain], found["db"], atol=1e-4)
    intensity = 10 ** ((found["db"][:, 0] * 12.5 - 12.5) / 10)
    expected = np.mean([10 ** (decibels_with_speckle(seed)[0] / 10) for seed in range(3)])
    assert intensity.mean() == pytest.approx(expected, rel=0.02)


def test_blocks_are_despeckled_as_the_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(3):
        sar = (-12 + 10 * np.log10(np.stack([speckle(rng, (400, 300)) for _ in range(2)]))).astype(np.float32)
        sar[:, :, :10] = np.nan
        write(tmp_path / f"s{index}.tif", sar)
        write(tmp_path / f"o{index}.png", rng.integers(1, 256, (3, 400, 300)).astype(np.uint8))
        rows.append(f"s{index}.tif,o{index}.png,scene{index}")
    (tmp_path / "pairs.csv").write_text("\n".join(["sar,optical,group", *rows]) + "\n")
    data = Csv(table=str(tmp_path / "pairs.csv"), sar=Sar(despeckle="lee", window=2 * windows.HALO + 1))
    whole = Tiles.open(prepare(data, tmp_path / "whole"))
    monkeypatch.setattr(windows, "BLOCK", 128)
    parts = Tiles.open(prepare(data, tmp_path / "parts"))
    order = [parts.names.index(name) for name in whole.names]
    for one, other in zip(whole.read(range(len(whole))), parts.read(order), strict=True):
        np.testing.assert_allclose(one, other, atol=4e-5)  # a step of 16 bits


@pytest.mark.parametrize(
    "options, says",
    [
        ({"window": 8}, "window 8 must be odd"),
        ({"window": 67}, "window 67 must be 3 to 65 px: 32 px around a block are read"),
        ({"window": 1}, "window 1 must be 3 to 65 px"),
        ({"domain": "display"}, "despeckle lee with domain display"),
    ],
)
def test_a_filter_that_can_not_be_applied_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Sar(despeckle="lee", **options)


def test_pictures_that_turn_out_to_be_stretched_are_not_despeckled(tmp_path):
    from tests.trainers.images import picture

    data = Folders(root=str(folders(tmp_path, sar=picture)), sar=Sar(despeckle="lee"))
    said = refuses(data, tmp_path)
    assert "despeckle lee with 8-bit values" in said and "sar/p" in said


def test_the_speckle_is_the_one_that_the_looks_are_of():
    assert SPECKLE_SIGMA == 1.5 and Sar().looks == 4.4
