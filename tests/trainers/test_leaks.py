"""Leaks between splits are found by every method, and nowhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.realdata import real_data
from trainers.checks.borders import by_borders, by_duplicates, by_likeness, by_overlap, methods_by_content
from trainers.checks.leaks import Footprint, Tile, by_bounds, by_scene
from trainers.checks.signatures import signature
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.layouts.synthetic import Options as Synthetic
from trainers.prepare import prepare
from trainers.synthesis import OPTICAL_RANGE, render
from trainers.tiles import Tiles

PARTS = ("train", "validation", "test")
CONTENT = (by_duplicates, by_likeness, by_borders, by_overlap)
METHODS = pytest.mark.parametrize("method", CONTENT, ids=lambda method: method.__name__)


def cut(scenes, *, tile: int, stride: int):
    """Names ("scene:row:column") and signatures of the tiles of scenes [(sar, optical, mask)]."""
    names, signatures = [], []
    for index, (sar, optical, mask) in enumerate(scenes):
        for row in range(0, mask.shape[0] - tile + 1, stride):
            for col in range(0, mask.shape[1] - tile + 1, stride):
                window = np.s_[..., row : row + tile, col : col + tile]
                names.append(f"{index:02d}:{row}:{col}")
                signatures.append(signature(sar[window], optical[window], mask[window]))
    return names, signatures


@cache
def synthetic(seed: int = 0, *, scenes: int = 6, size: int = 256):
    """Generated scenes, scaled to [-1, 1]."""
    options = Synthetic(tile=64, scenes=scenes, size=size, seed=seed)
    return [scaled(render(options, index)) for index in range(scenes)]


def scaled(scene):
    depth = np.array([25, 32.5])[:, None, None]  # dB below 0 of VV and VH
    sar = 2 * np.nan_to_num(scene.sar / depth + 1, nan=0) - 1
    optical = 2 * scene.optical / OPTICAL_RANGE[1] - 1
    return sar.clip(-1, 1), optical.clip(-1, 1), np.isfinite(scene.sar).all(axis=0) & (scene.optical > 0).all(axis=0)


@cache
def synthetic_tiles(seed: int = 0, *, tile: int = 64, stride: int = 64, size: int = 256, scenes: int = 6):
    return cut(synthetic(seed, scenes=scenes, size=size), tile=tile, stride=stride)


def noise(count: int, seed: int = 0, *, smooth: float = 0, side: int = 64):
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    images = ndimage.gaussian_filter(rng.normal(size=(count, 5, side, side)), (0, 0, smooth, smooth))
    return [signature(image[:2], image[2:], np.ones((side, side))) for image in images]


def by_tile(names, seed: int = 0) -> list[Tile]:
    """The random split: every tile by itself."""
    splits = np.random.default_rng(seed).choice(PARTS, len(names), p=(0.6, 0.2, 0.2)).tolist()
    return [Tile(name, name.split(":")[0], split) for name, split in zip(names, splits, strict=True)]


def whole(names, scenes, seed: int = 0) -> list[Tile]:
    """The honest split: scenes kept whole."""
    order = np.random.default_rng(seed).permutation(sorted(set(scenes))).tolist()
    third = max(1, len(order) // 5)
    split = dict.fromkeys(order, "train") | dict.fromkeys(order[:third], "test")
    split |= dict.fromkeys(order[third : 2 * third], "validation")
    return [Tile(name, scene, split[scene]) for name, scene in zip(names, scenes, strict=True)]


def apart(names, *, row: int, col: int, tiles) -> set[tuple[str, str]]:
    """Pairs of tiles of different splits in one scene, the second that far below and right of the first."""
    split = {tile.name: tile.split for tile in tiles}
    pairs = set()
    for name in names:
        scene, top, left = name.split(":")
        other = f"{scene}:{int(top) + row}:{int(left) + col}"
        if other in split and split[other] != split[name]:
            pairs.add(tuple(sorted((name, other))))
    return pairs


def found(finding) -> set[tuple[str, str]]:
    return {(leak.one, leak.other) for leak in finding.leaks}


@cache
def prepared(name: str, folder: str):
    """Names, scenes and signatures of a real data set as it is prepared."""
    root = real_data(name)
    data = {
        "ombria": lambda: Csv(table=str(root / "pairs.csv"), tile=256),
        "terramind_terramesh": lambda: Folders(root=str(root), sar_folder="S1RTC", optical_folder="S2RGB", tile=64),
    }[name]()
    tiles = Tiles.open(prepare(data, Path(folder)))
    signatures = [signature(*(array[0] for array in tiles.read([i]))) for i in range(len(tiles))]
    return list(tiles.names), list(tiles.scenes), signatures


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("cache"))
    return lambda name: prepared(name, folder)


# The line.


@pytest.mark.parametrize("seed", range(3))
def test_the_random_split_of_ombria_leaks_by_borders_alone_and_the_grouped_one_does_not(real, seed):
    names, groups, signatures = real("ombria")
    hidden = [Tile(tile.name, "", tile.split) for tile in by_tile(names, seed)]
    random = by_borders(hidden, signatures)
    assert random.leaking and random.chance < 1e-6 and random.found > 80 and random.decoys == 0
    group = dict(zip(names, groups, strict=True))
    assert all(group[leak.one] == group[leak.other] for leak in random.leaks)
    grouped = whole(names, groups, seed)
    assert not any(finding.found for finding in methods_by_content(grouped, signatures))


def test_all_neighbours_of_ombria_lie_in_one_group_and_closed_squares_of_tiles_miss_no_side(real):
    names, groups, signatures = real("ombria")
    alone = [Tile(name, "", name) for name in names]  # every tile its own split: all neighbours are looked for
    finding = by_borders(alone, signatures)
    group = dict(zip(names, groups, strict=True))
    assert finding.found >= 180 and finding.decoys == 0
    assert all(group[leak.one] == group[leak.other] for leak in finding.leaks)
    known, detected, contradicted = neighbours_by_position(finding)
    assert detected / known >= 0.98 and contradicted == 0


def neighbours_by_position(finding) -> tuple[int, int, int]:
    """Pairs of tiles that lie side by side once the matches have placed them on a grid, those of them that were
    matched, and matches that contradict the places that others give."""
    steps: dict[str, list] = {}
    for leak in finding.leaks:
        first = leak.how.split(" is ")[0].split(" of ")
        forward = (0, 1) if first[0] == "right" else (1, 0)
        a, b = (leak.one, leak.other) if first[1] == leak.one else (leak.other, leak.one)
        steps.setdefault(a, []).append((b, forward))
        steps.setdefault(b, []).append((a, (-forward[0], -forward[1])))
    placed: dict[str, tuple] = {}
    contradicted = 0
    for start in steps:
        if start in placed:
            continue
        placed[start], queue = (start, 0, 0), [start]
        while queue:
            name = queue.pop()
            part, row, col = placed[name]
            for other, (down, right) in steps[name]:
                place = (part, row + down, col + right)
                if other not in placed:
                    placed[other] = place
                    queue.append(other)
                contradicted += placed[other] != place
    at = set(placed.values())
    known = sum((part, row + down, col + right) in at for part, row, col in at for down, right in ((0, 1), (1, 0)))
    return known, finding.found, contradicted


@pytest.mark.parametrize("seed", range(2))
def test_half_stride_overlap_is_found_on_synthetic_scenes(seed):
    names, signatures = synthetic_tiles(stride=32)
    tiles = by_tile(names, seed)
    finding = by_overlap(tiles, signatures)
    assert finding.leaking
    assert found(finding) == apart(names, row=32, col=0, tiles=tiles) | apart(names, row=0, col=32, tiles=tiles)
    assert {leak.evidence["shift_px"] for leak in finding.leaks} == {32}
    assert min(leak.evidence["correlation"] for leak in finding.leaks) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("stride, shifts", [(16, {16, 32, 48}), (48, {48})])
def test_other_quarters_of_a_tile_are_found_as_well(stride, shifts):
    names, signatures = synthetic_tiles(stride=stride)
    finding = by_overlap(by_tile(names), signatures)
    assert finding.leaking and {leak.evidence["shift_px"] for leak in finding.leaks} == shifts


def test_neighbours_at_full_stride_are_found_by_borders_and_not_taken_for_overlap():
    names, signatures = synthetic_tiles()
    tiles = by_tile(names)
    borders, truth = by_borders(tiles, signatures), apart(names, row=64, col=0, tiles=tiles)
    truth |= apart(names, row=0, col=64, tiles=tiles)
    assert borders.leaking and found(borders) <= truth and len(found(borders)) >= 0.85 * len(truth)
    assert not by_overlap(tiles, signatures).leaking
    kept = whole(names, [name.split(":")[0] for name in names])
    assert not any(finding.leaking for finding in methods_by_content(kept, signatures))


def test_real_tiles_of_64_px_from_five_far_places_leak_by_tile_and_not_by_place(real):
    names, scenes, signatures = real("terramind_terramesh")
    assert by_borders(by_tile(names), signatures).leaking
    assert not any(finding.found for finding in methods_by_content(whole(names, scenes), signatures))


# Laws of the methods that look at pixels.


@METHODS
def test_no_leak_without_two_splits(method):
    names, signatures = synthetic_tiles(stride=32)
    finding = method([Tile(name, "", "train") for name in names], signatures)
    assert not finding.leaks and not finding.leaking and finding.chance == 1
    assert method([], []).leaks == ()


@METHODS
def test_no_tile_matches_itself_and_all_leaks_cross_splits(method):
    names, signatures = synthetic_tiles(stride=32)
    tiles = by_tile(names)
    split = {tile.name: tile.split for tile in tiles}
    for leak in method(tiles, signatures).leaks:
        assert leak.one < leak.other and leak.splits == (split[leak.one], split[leak.other])
        assert leak.splits[0] != leak.splits[1] and all(np.isfinite(list(leak.evidence.values())))


@METHODS
def test_the_order_of_the_tiles_changes_nothing(method):
    names, signatures = synthetic_tiles(stride=32, scenes=2)
    tiles = by_tile(names)
    signatures = [*signatures[:-1], signatures[0]]  # a duplicate
    order = np.random.default_rng(1).permutation(len(tiles))
    one, other = method(tiles, signatures), method([tiles[i] for i in order], [signatures[i] for i in order])
    assert found(one) == found(other) and (one.found, one.decoys) == (other.found, other.decoys)
    assert [leak.how for leak in one.leaks] == [leak.how for leak in other.leaks]


@pytest.mark.parametrize("smooth", [0, 2, 6])
def test_noise_gives_no_leak_however_smooth_it_is(smooth):
    findings = methods_by_content(by_tile([f"{i:03d}" for i in range(200)]), noise(200, smooth=smooth))
    assert not any(finding.found for finding in findings)


def test_smooth_tiles_among_rough_ones_give_no_leak():
    signatures = noise(150, seed=1) + noise(50, seed=2, smooth=8)
    tiles = by_tile([f"{i:03d}" for i in range(200)])
    assert not any(finding.leaking for finding in methods_by_content(tiles, signatures))


def test_a_pattern_that_all_tiles_share_is_no_leak():
    rng = np.random.default_rng(3)
    pattern = rng.normal(size=(5, 64, 64))  # a sensor's fixed pattern, or a frame burnt in
    images = rng.normal(size=(100, 5, 64, 64)) + pattern
    signatures = [signature(image[:2], image[2:], np.ones((64, 64))) for image in images]
    tiles = by_tile([f"{i:03d}" for i in range(100)])
    assert not by_borders(tiles, signatures).leaking and not by_overlap(tiles, signatures).leaking


@pytest.mark.filterwarnings("error")
@METHODS
def test_constant_and_nodata_tiles_match_nothing_and_give_no_nan(method):
    flat, step, gone = np.full((5, 64, 64), 0.3), np.full((5, 64, 64), -1.0), np.full((5, 64, 64), np.nan)
    step[:, 20:] = 1
    masks = np.ones((64, 64)), np.ones((64, 64)), np.zeros((64, 64))
    kinds = [signature(image[:2], image[2:], mask) for image, mask in zip((flat, step, gone), masks, strict=True)]
    for known in kinds:
        assert np.isfinite(known.lines).all() and np.isfinite(known.thumbnail).all() and not known.lines.any()
    signatures = [kinds[0]] * 4 + [kinds[2]] * 4 + noise(20)
    tiles = by_tile([f"{i:03d}" for i in range(len(signatures))])
    assert method(tiles, signatures).found == 0


def test_nodata_takes_its_part_of_a_line_and_no_more():
    sar, optical, mask = synthetic()[0]
    gap = mask.copy()
    gap[100:120] = False
    left, right = np.s_[..., :128, :128], np.s_[..., :128, 128:]
    signatures = [signature(sar[at], optical[at], gap[at]) for at in (left, right)] + noise(60, side=128)
    tiles = [Tile(f"{i:03d}", "", PARTS[i % 2]) for i in range(62)]
    assert found(by_borders(tiles, signatures)) == {("000", "001")}


def test_one_neighbour_is_named_but_does_not_yet_make_a_split_leak():
    names, signatures = synthetic_tiles(tile=128, stride=128, scenes=2)
    pair = [signatures[names.index("00:0:0")], signatures[names.index("00:0:128")]]
    tiles = [Tile(f"{i:03d}", "", PARTS[i % 2]) for i in range(62)]
    finding = by_borders(tiles, pair + noise(60, seed=4, side=128))
    assert finding.found == 1 and not finding.leaking and 0.01 < finding.chance < 0.1


@pytest.mark.slow
def test_scenes_without_shared_ground_leak_no_oftener_than_stated():
    matched, leaking, asked = 0, 0, 0
    for seed in range(300, 320):
        for stride in (64, 32):
            names, signatures = synthetic_tiles(seed, stride=stride, size=192)
            tiles = whole(names, [name.split(":")[0] for name in names], seed)
            findings = [by_borders(tiles, signatures), by_overlap(tiles, signatures)]
            matched += sum(finding.found > 0 for finding in findings)
            leaking += sum(finding.leaking for finding in findings)
            asked += len(findings)
    assert leaking == 0 and matched <= 12  # 80 comparisons, 0.05 expected of each: 4; more than 12 have p < 0.001


# Duplicates.


def test_equal_values_in_two_splits_are_found_by_either_side():
    rng = np.random.default_rng(0)
    sar, optical = rng.normal(size=(4, 2, 64, 64)), rng.normal(size=(4, 3, 64, 64))
    mask = np.ones((64, 64))
    signatures = [signature(sar[s], optical[o], mask) for s, o in ((0, 0), (1, 1), (0, 2), (3, 1))]
    tiles = [Tile(name, "", split) for name, split in zip("abcd", ("train", "train", "test", "test"), strict=True)]
    finding = by_duplicates(tiles, signatures)
    assert finding.leaking and {(leak.one, leak.other, leak.how) for leak in finding.leaks} == {
        ("a", "c", "equal sar values"),
        ("b", "d", "equal optical values"),
    }


@pytest.mark.parametrize("change", ["noise", "contrast", "eight bits", "one pixel"])
def test_near_identical_tiles_are_found(change):
    names, signatures = synthetic_tiles()
    scenes, rng = synthetic(), np.random.default_rng(0)
    copies = []
    for sar, optical, _ in scenes:
        changed = {
            "noise": lambda image: image + rng.normal(0, 0.05, image.shape),
            "contrast": lambda image: 0.6 * image + 0.2,
            "eight bits": lambda image: np.round(image * 20) / 20,
            "one pixel": lambda image: np.roll(image, 1, axis=-1),
        }[change]
        copies.append(tuple(changed(image)[..., 64:128, 64:128] for image in (sar, optical)))
    masks = [mask[64:128, 64:128] for _, _, mask in scenes]
    also = [signature(*images, mask) for images, mask in zip(copies, masks, strict=True)]
    tiles = [Tile(name, "", "train") for name in names] + [Tile(f"copy {i}", "", "test") for i in range(len(also))]
    finding = by_likeness(tiles, signatures + also)
    assert finding.leaking and found(finding) <= {(f"{i:02d}:64:64", f"copy {i}") for i in range(len(also))}
    assert len(found(finding)) >= len(also) - 1


# Scene keys and bounds.


def test_a_scene_in_two_splits_is_named_once():
    tiles = [Tile(f"{i}", scene, split) for i, (scene, split) in enumerate([*[("x", "train")] * 3, ("x", "test")])]
    finding = by_scene([*tiles, Tile("9", "y", "test")])
    assert finding.leaking and len(finding.leaks) == 1
    leak = finding.leaks[0]
    assert (leak.one, leak.other, leak.splits) == ("0", "3", ("train", "test"))
    assert leak.evidence == {"tiles_one": 3, "tiles_other": 1}
    assert not by_scene([Tile("0", "x", "train"), Tile("1", "y", "test")]).leaking


def footprint(x: float, y: float, *, crs="EPSG:32632", pixel: float = 10, side: int = 100, turn: float = 0):
    cos, sin = pixel * np.cos(turn), pixel * np.sin(turn)
    return Footprint(crs, (cos, sin, x, sin, -cos, y), (side, side))


@pytest.mark.parametrize(
    "x, guard, gap", [(990, 0, -1), (1000, 0, None), (1000, 1, 0), (1050, 5, None), (1050, 6, 5), (5000, 6, None)]
)
def test_bounds_nearer_than_the_guard_leak(x, guard, gap):
    tiles = [Tile("a", "", "train"), Tile("b", "", "test")]
    finding = by_bounds(tiles, [footprint(0, 0), footprint(x, 0)], guard=guard)
    assert [leak.evidence["gap_px"] for leak in finding.leaks] == ([] if gap is None else [gap])
    assert finding.leaking == (gap is not None) and finding.found == len(finding.leaks)


def test_rotated_bounds_are_compared_as_they_lie_and_other_grids_not_at_all():
    tiles = [Tile("a", "", "train"), Tile("b", "", "test")]
    turned = footprint(0, 0, turn=np.pi / 4)  # a square on its corner: its box is larger than itself
    beside = footprint(1200, 1200, side=60)
    assert not by_bounds(tiles, [turned, footprint(800, -1300, side=20)], guard=0).found
    assert by_bounds(tiles, [turned, footprint(300, 200)], guard=0).found == 1
    assert not by_bounds(tiles, [turned, beside], guard=0).found
    assert not by_bounds(tiles, [footprint(0, 0), footprint(0, 0, crs="EPSG:32633")], guard=9).found
    assert not by_bounds(tiles, [footprint(0, 0), None], guard=9).found


def test_bounds_agree_with_a_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    places = [footprint(*rng.uniform(0, 20_000, 2), side=int(rng.integers(20, 200))) for _ in range(150)]
    tiles = by_tile([f"{i:03d}" for i in range(150)])
    finding, truth = by_bounds(tiles, places, guard=3), 0
    for i, (x, y, size) in enumerate(boxes := [(p.transform[2], p.transform[5], 10 * p.shape[0]) for p in places]):
        for j in range(i):
            u, v, other = boxes[j]
            gap = max(max(x, u) - min(x + size, u + other), max(y - size, v - other) - min(y, v))
            truth += tiles[i].split != tiles[j].split and gap < 30
    assert finding.found == truth > 50
    order = rng.permutation(150)
    assert by_bounds([tiles[i] for i in order], [places[i] for i in order], guard=3) == finding


def test_ten_thousand_neighbouring_images_are_compared_in_a_moment():
    places = [footprint(1000 * (i % 100), 1000 * (i // 100)) for i in range(10_000)]
    tiles = [Tile(f"{i:05d}", "", PARTS[i % 3]) for i in range(10_000)]
    assert by_bounds(tiles, places, guard=0).found == 0
    assert by_bounds(tiles, places, guard=1).leaking
