"""The shift between SAR and optical: known ones are found, wrong pairs are recognised, nodata moves nothing."""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.realdata import real_data
from trainers.checks.alignment import align, partners
from trainers.checks.deformation import fit_affine
from trainers.checks.shift import correlate, edges, locate, pool
from trainers.domains import optical_scaling, sar_scaling
from trainers.families import LAYOUTS, build
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.misregistration import moved
from trainers.nodata import has_data
from trainers.synthesis import OPTICAL_RANGE, render

LEVELS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # px
ALLOWED = 0.25  # px, of the median error
AXES = ((1, 0), (-1, 0), (0, 1), (0, -1))
DIAGONALS = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # both axes at once
FEW = {"ombria": ("g30", "GUYANA", "TIMOR"), "terramind": ("282D_485L_3_3", "433D_629L_3_1", "637U_59R_1_3")}


def tile(sar, optical, *, options, sar_domain, optical_range=None):
    """Two stored images, scaled as the preparation does it, and where both are valid."""
    name, domain = sar.path, "display" if optical.values.dtype == np.uint8 else "reflectance"
    arguments = {"dtype": sar.values.dtype, "bands": len(sar.values), "example": name}
    one = sar_scaling(options.sar, domain=sar_domain, **arguments).apply(sar.values)[0]
    arguments = {"dtype": optical.values.dtype, "bands": len(optical.values), "example": name}
    other = optical_scaling(options.optical, default=optical_range, **arguments).apply(optical.values)[0]
    mask = sar.valid & optical.valid & has_data(sar.values, sar_domain) & has_data(optical.values, domain)
    return one, other, mask


@cache
def synthetic(shifts: float = 0.0, scenes: int = 8, size: int = 128):
    """Whole scenes as tiles, and the shifts that they were drawn with."""
    options = Synthetic(scenes=scenes, size=size, tile=64, shifts=shifts)
    source = build(LAYOUTS, options)
    tiles = [
        tile(*source.read(pair), options=options, sar_domain="db", optical_range=OPTICAL_RANGE) for pair in source.pairs
    ]
    return tiles, [render(options, index).shift for index in range(scenes)]


@cache
def real(name: str, limit: int = 2, every: bool = False) -> dict[str, list]:
    """Scene -> up to `limit` tiles; the scenes of FEW or every one."""
    if name == "ombria":
        options, domain = Csv(table=str(real_data("ombria") / "pairs.csv"), tile=256), "display"
    else:
        root = str(real_data("terramind_terramesh"))
        options, domain = Folders(root=root, sar_folder="S1RTC", optical_folder="S2L2A", tile=224), "db"
    source, found = build(LAYOUTS, options), {}
    for pair in source.pairs:
        members = found.setdefault(pair.scene, [])
        if len(members) < limit and (every or pair.scene in FEW[name]):
            members.append(tile(*source.read(pair), options=options, sar_domain=domain))
    return {scene: members for scene, members in found.items() if members}


def displaced(tile, shift):
    sar, optical, mask = tile
    image, valid = moved(optical, mask, shift) if any(shift) else (optical, mask)
    return sar, image, valid & mask


def surface(tile):
    sar, optical, mask = tile
    return correlate(edges(sar, mask), edges(optical, mask))


def estimate(*tiles):
    return locate(pool(map(surface, tiles)))


def errors(found, truth, origin=(0.0, 0.0)) -> list[float]:
    return [abs(found.dy - truth[0] - origin[0]), abs(found.dx - truth[1] - origin[1])]


def wrong(tiles, seed=0):
    """The tiles, each with the optical image of another."""
    order = np.random.default_rng(seed).permutation(len(tiles))
    partner = dict(zip(order, np.roll(order, 1), strict=True))
    return [(sar, tiles[partner[i]][1], mask & tiles[partner[i]][2]) for i, (sar, _, mask) in enumerate(tiles)]


def names(tiles) -> list[str]:
    return [f"scene-{index}" for index in range(len(tiles))]


# Known shifts


@pytest.mark.parametrize("level", LEVELS)
def test_a_known_shift_of_a_synthetic_pair_is_found(level):
    found = []
    for dy, dx in DIAGONALS if level else DIAGONALS[:1]:
        shift = (level * dy, level * dx)
        each = np.array([errors(estimate(displaced(tile, shift)), shift) for tile in synthetic()[0]])
        assert np.median(each, axis=0).max() <= ALLOWED  # in every direction
        found += each.tolist()
    assert np.median(found) <= 0.15 and np.max(found) <= 0.5


def test_the_shifts_that_synthetic_scenes_are_drawn_with_are_found():
    tiles, shifts = synthetic(shifts=1.0)
    found = [errors(estimate(tile), shift) for tile, shift in zip(tiles, shifts, strict=True)]
    assert np.median(found) <= 0.15 and max(np.hypot(*shift) for shift in shifts) > 2


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("name", ["ombria", "terramind"])
def test_a_known_shift_of_real_pairs_pooled_per_scene_is_found_from_their_own_on(name, level):
    found = []
    for tiles in real(name).values():
        own = estimate(*tiles)
        for dy, dx in DIAGONALS[1:3]:
            shift = (level * dy, level * dx)
            found.append(errors(estimate(*(displaced(tile, shift) for tile in tiles)), shift, (own.dy, own.dx)))
    assert np.median(found, axis=0).max() <= ALLOWED and np.max(found) <= 2 * ALLOWED


@pytest.mark.slow
@pytest.mark.parametrize("name, median, most", [("ombria", 0.01, 0.15), ("terramind", 0.02, 0.2)])
def test_a_known_shift_is_found_in_every_real_scene(name, median, most):
    found = []
    for tiles in real(name, limit=3, every=True).values():
        own = estimate(*tiles)
        for level in LEVELS[1:]:
            for dy, dx in (AXES[0], AXES[3], DIAGONALS[1]):
                shift = (level * dy, level * dx)
                found.append(errors(estimate(*(displaced(tile, shift) for tile in tiles)), shift, (own.dy, own.dx)))
    assert np.median(found) <= median and np.percentile(found, 95) <= most


@pytest.mark.slow
@pytest.mark.parametrize("size, median, most", [(64, 0.2, 0.6), (96, 0.12, 0.25), (192, 0.1, 0.2)])
def test_a_known_shift_is_found_in_synthetic_scenes_of_any_size(size, median, most):
    tiles, found = synthetic(scenes=12, size=size)[0], []
    for level in LEVELS:
        for dy, dx in AXES + DIAGONALS:
            shift = (level * dy, level * dx)
            found += [errors(estimate(displaced(tile, shift)), shift) for tile in tiles]
    assert np.median(found) <= median and np.percentile(found, 95) <= most


def test_real_pairs_of_ombria_are_nearly_aligned_as_their_provenance_says():
    tiles = [tile for members in real("ombria").values() for tile in members]
    found = align(tiles, [scene for scene, members in real("ombria").items() for _ in members])
    assert found.verdict == "aligned" and found.share_beyond_2px == 0
    assert abs(found.median_dy) < 0.6 and abs(found.median_dx) < 1


# Laws


@pytest.mark.parametrize("index", range(3))
def test_a_mirrored_pair_has_the_mirrored_shift(index):
    sar, optical, mask = displaced(synthetic()[0][index], (1.3, -0.6))
    here = estimate((sar, optical, mask))
    there = estimate((sar[:, :, ::-1], optical[:, :, ::-1], mask[:, ::-1]))
    assert (there.dy, there.dx) == pytest.approx((here.dy, -here.dx), abs=0.01)
    turned = estimate((sar.swapaxes(1, 2), optical.swapaxes(1, 2), mask.T))
    assert (turned.dy, turned.dx) == pytest.approx((here.dx, here.dy), abs=0.01)


def test_exchanged_images_have_the_opposite_shift():
    sar, optical, mask = displaced(synthetic()[0][0], (1.3, -0.6))
    here, there = estimate((sar, optical, mask)), estimate((optical, sar, mask))
    assert (there.dy, there.dx) == pytest.approx((-here.dy, -here.dx), abs=0.01)


def test_contrast_brightness_and_order_of_bands_do_not_matter():
    sar, optical, mask = synthetic()[0][1]
    here, there = surface((sar, optical, mask)), surface((sar, 0.1 - optical[::-1], mask))
    np.testing.assert_allclose(here.correlation, there.correlation, atol=1e-4)


def test_an_image_against_itself_peaks_at_one_without_a_shift():
    _, optical, mask = synthetic()[0][0]
    found = estimate((optical, optical, mask))
    assert found.peak == pytest.approx(1, abs=1e-3) and found.length < 0.01 and found.clear


def test_surfaces_add_up_in_any_order():
    surfaces = [surface(tile) for tile in synthetic()[0][:4]]
    first = pool(surfaces)
    for order in list(permutations(surfaces))[::5]:
        np.testing.assert_allclose(pool(order).sums, first.sums, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose((pool(surfaces[:1]) + pool(surfaces[1:])).sums, first.sums, rtol=1e-9, atol=1e-9)


def test_a_surface_beyond_its_reach_is_not_clear():
    found = estimate(displaced(synthetic()[0][0], (0.0, 12.0)))
    assert not found.clear


def test_tiles_of_different_shape_are_refused():
    sar, optical, mask = synthetic()[0][0]
    with pytest.raises(ValueError, match=r"\(128, 128\).*\(100, 128\)"):
        correlate(edges(sar, mask), edges(optical[:, :100], mask[:100]))


# Nodata and constant tiles


@pytest.mark.parametrize("shift", [(0.0, 2.0), (-1.5, 0.5)])
def test_a_nodata_border_does_not_move_the_estimate(shift):
    """Both images end at the same slanted line: taken for an edge, it says that nothing is shifted."""
    found, naive = [], []
    for tile in synthetic()[0]:
        sar, optical, mask = displaced(tile, shift)
        nodata = np.arange(128) < np.linspace(10, 50, 128)[:, None]
        sar, optical = np.where(nodata, -1, sar), np.where(nodata, -1, optical)
        found.append(errors(estimate((sar, optical, mask & ~nodata)), shift))
        naive.append(errors(estimate((sar, optical, mask)), shift))
    assert np.median(found, axis=0).max() <= ALLOWED < np.median(naive, axis=0).max()


def test_what_nodata_holds_does_not_matter():
    sar, optical, mask = synthetic()[0][0]
    mask = mask.copy()
    mask[30:60, 50:] = False
    noise = np.random.default_rng(0).uniform(-1, 1, sar.shape)
    for content in (noise, np.nan):
        other = edges(np.where(mask, sar, content), mask)
        np.testing.assert_array_equal(other.direction, edges(sar, mask).direction)


@pytest.mark.parametrize("valid", [True, False])
def test_constant_and_empty_tiles_have_no_shift_and_add_nothing(valid):
    blank = (np.full((2, 64, 64), -1.0), np.full((3, 64, 64), 0.3), np.full((64, 64), valid))
    assert np.isfinite(surface(blank).correlation).all() and estimate(blank) is None
    sar, optical, mask = (each[..., :64, :64] for each in synthetic()[0][0])
    assert estimate((sar, optical, mask), blank) == estimate((sar, optical, mask))
    found = align([blank] * 3, ["a", "b", "c"])
    assert found.verdict == "unclear" and found.peak is found.median_dx is found.share_beyond_2px is None


# The verdict


def test_right_pairs_are_aligned_and_wrong_ones_unpaired():
    tiles = synthetic()[0]
    right = align(tiles, names(tiles))
    assert right.verdict == "aligned" and right.peak > 10 * right.shuffled_peak
    for seed in range(3):
        found = align(wrong(tiles, seed), names(tiles))
        assert found.verdict == "unpaired" and found.peak < 3 * found.shuffled_peak and found.median_dy is None


@pytest.mark.parametrize("name", ["ombria", "terramind"])
def test_wrong_real_pairs_are_unpaired_and_right_ones_are_not(name):
    quarters = [np.s_[..., y : y + 112, x : x + 112] for y in (0, 112) for x in (0, 112)]
    cut = [
        (scene, tuple(each[part] for each in tile))
        for scene, tiles in real(name, limit=1, every=True).items()
        for tile in tiles
        for part in quarters
    ]
    owners, tiles = zip(*cut, strict=True)
    right = align(tiles, owners)
    assert right.verdict in ("aligned", "shifted") and right.peak > 3 * right.shuffled_peak
    assert align(wrong(tiles), owners).verdict == "unpaired"


def test_a_shift_of_all_and_one_of_few_scenes_are_seen():
    tiles = synthetic()[0]
    all_moved = align([displaced(tile, (0.0, 1.5)) for tile in tiles], names(tiles))
    assert all_moved.verdict == "shifted" and all_moved.median_dx == pytest.approx(1.5, abs=ALLOWED)
    assert all_moved.share_beyond_2px == 0
    few = align([displaced(tile, (-3.0 * (i < 2), 0.0)) for i, tile in enumerate(tiles)], names(tiles))
    assert few.verdict == "shifted" and few.share_beyond_2px == pytest.approx(0.25)
    assert abs(few.median_dy) < 0.5


def test_one_pair_is_too_little_for_a_verdict_and_its_shift_is_still_told():
    found = align(synthetic()[0][:1], ["alone"])
    assert found.verdict == "unclear" and found.shuffled_peak is None and abs(found.median_dx) < 0.5


def test_more_scenes_than_tiles_are_refused():
    with pytest.raises(ValueError, match="1 tiles, but 2 scenes"):
        align(synthetic()[0][:1], ["a", "b"])


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=40))
def test_shuffled_partners_are_wrong_ones_and_of_other_scenes_where_there_are_enough(scenes):
    found = partners(scenes)
    assert found == partners(scenes) and 1 <= len(found) <= 4
    for partner in found:
        assert sorted(partner) == list(range(len(scenes)))
        assert all(index != other for index, other in enumerate(partner))
        if 2 * max(scenes.count(scene) for scene in scenes) <= len(scenes):
            assert all(scenes[index] != scenes[other] for index, other in enumerate(partner))


# Local deformation


PLANTED = np.array([[0.004, -0.002, 0.3], [0.001, 0.006, -0.8]])


def planted(count=40, noise=0.2, outliers=0, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1000, (count, 2))
    shifts = np.column_stack([places, np.ones(count)]) @ PLANTED.T + rng.normal(0, noise, (count, 2))
    shifts[:outliers] = rng.uniform(-8, 8, (outliers, 2))
    return places, shifts


@pytest.mark.parametrize("outliers", [0, 10])
def test_a_planted_deformation_is_fitted_also_among_wrong_shifts(outliers):
    for seed in range(20):
        found = fit_affine(*planted(outliers=outliers, seed=seed))
        np.testing.assert_allclose(found.matrix[:, :2], PLANTED[:, :2], atol=6e-4)
        np.testing.assert_allclose(found.matrix[:, 2], PLANTED[:, 2], atol=0.3)
        assert 0.1 < found.residual < 0.5


def test_an_exact_deformation_is_fitted_exactly():
    found = fit_affine(*planted(noise=0))
    np.testing.assert_allclose(found.matrix, PLANTED, atol=1e-9)
    assert found.residual < 1e-6


def test_too_few_places_and_places_on_a_line_have_no_deformation():
    places, shifts = planted()
    assert fit_affine(places[:5], shifts[:5]) is None and fit_affine([], []) is None
    assert fit_affine(np.column_stack([places[:, 0], 2 * places[:, 0]]), shifts) is None
    assert fit_affine(np.ones_like(places), shifts) is None


def test_the_deformation_of_a_scene_is_measured_from_its_tiles():
    sar, optical, mask = synthetic(scenes=2, size=320)[0][0]
    slope = np.array([[0.008, 0.0], [0.0, -0.008]])  # content at (y, x) moves by slope @ (y - 160, x - 160)
    inverse = np.linalg.inv(np.eye(2) + slope)
    offset = np.full(2, 160.0) - inverse @ np.full(2, 160.0)
    warped = np.stack([ndimage.affine_transform(band, inverse, offset, order=3, mode="nearest") for band in optical])
    corners = [(y, x) for y in range(0, 257, 32) for x in range(0, 257, 32)]
    cut = [tuple(each[..., y : y + 64, x : x + 64] for each in (sar, warped, mask)) for y, x in corners]
    found = align(cut, ["scene"] * len(cut), places=[(y + 32, x + 32) for y, x in corners]).scenes[0]
    np.testing.assert_allclose(found.affine.matrix[:, :2], slope, atol=0.003)
    assert found.affine.residual < found.spread
