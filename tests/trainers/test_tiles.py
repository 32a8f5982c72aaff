import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.layouts.synthetic import Options
from trainers.pairs import DataError
from trainers.prepare import prepare
from trainers.streams import AUGMENT, numpy_generator
from trainers.tiles import Order, Tiles, probe, rank_slice

sets = st.integers(1, 40).map(lambda count: np.arange(100, 100 + count))
seeds = st.integers(0, 2**31)


def _stream(indices, seed, batch, count, flip=True):
    """The first `count` samples and flips of an order."""
    order = Order(indices, seed=seed, batch=batch, flip=flip)
    parts = [order.batch_at(k) for k in range(-(-count // batch))]
    return tuple(np.concatenate(column)[:count] for column in zip(*parts, strict=True))


@settings(max_examples=60, deadline=None)
@given(sets, seeds, st.integers(1, 50))
def test_every_epoch_visits_every_tile_once(indices, seed, batch):
    tiles, _ = _stream(indices, seed, batch, 3 * len(indices))
    for epoch in tiles.reshape(3, -1):
        assert sorted(epoch) == indices.tolist()


@settings(max_examples=60, deadline=None)
@given(sets, seeds, st.integers(1, 50), st.integers(1, 50))
def test_the_sequence_of_samples_does_not_depend_on_the_batch(indices, seed, one, other):
    for a, b in zip(_stream(indices, seed, one, 90), _stream(indices, seed, other, 90), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=60, deadline=None)
@given(sets, seeds, st.integers(1, 9), st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_a_batch_is_a_pure_function_of_its_number(indices, seed, batch, visits):
    order = Order(indices, seed=seed, batch=batch, flip=True)
    for k in visits:
        fresh = Order(indices, seed=seed, batch=batch, flip=True).batch_at(k)
        for a, b in zip(order.batch_at(k), fresh, strict=True):
            assert a.shape == (batch,)
            np.testing.assert_array_equal(a, b)


def test_epochs_and_seeds_differ():
    indices = np.arange(50)
    tiles, flips = _stream(indices, 0, 10, 100)
    assert not np.array_equal(tiles[:50], tiles[50:])
    assert not np.array_equal(flips[np.argsort(tiles[:50])], flips[50:][np.argsort(tiles[50:])])
    assert not np.array_equal(tiles, _stream(indices, 1, 10, 100)[0])


def test_half_of_the_samples_are_flipped_or_none():
    assert 0.4 < _stream(np.arange(500), 0, 10, 1000)[1].mean() < 0.6
    assert not _stream(np.arange(500), 0, 10, 1000, flip=False)[1].any()


def test_whether_a_tile_is_flipped_is_drawn_for_the_tile_not_for_its_place():
    tiles, flips = _stream(np.arange(30), 5, 10, 30)
    drawn = numpy_generator(5, AUGMENT, 0).random(30) < 0.5
    np.testing.assert_array_equal(flips, drawn[tiles])


def test_flips_leave_the_order_alone():
    np.testing.assert_array_equal(_stream(np.arange(9), 0, 4, 40)[0], _stream(np.arange(9), 0, 4, 40, flip=False)[0])


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no tile"):
        Order([], seed=0, batch=1, flip=False)


@given(st.integers(1, 64), st.integers(1, 16))
def test_the_slices_of_the_ranks_make_up_the_global_batch(batch, ranks):
    slices = [np.arange(batch)[rank_slice(batch, rank, ranks)] for rank in range(ranks)]
    np.testing.assert_array_equal(np.concatenate(slices), np.arange(batch))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@settings(max_examples=60, deadline=None)
@given(sets, seeds, st.integers(1, 24), st.integers(1, 8), st.integers(0, 20))
def test_ranks_take_disjoint_samples_of_one_sequence_whatever_their_number(indices, seed, batch, ranks, k):
    """Each rank computes the order for itself; sample n of the sequence, its flip too, is the same for any number."""
    whole = Order(indices, seed=seed, batch=batch, flip=True).batch_at(k)
    parts = []
    for rank in range(ranks):
        mine = rank_slice(batch, rank, ranks)
        parts.append([column[mine] for column in Order(indices, seed=seed, batch=batch, flip=True).batch_at(k)])
    for column, expected in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(column), expected)
    epochs = np.divmod(np.arange(k * batch, (k + 1) * batch), len(indices))[0]
    for epoch in set(epochs):  # no two ranks see one tile in one epoch
        seen = whole[0][epochs == epoch]
        assert len(set(seen)) == len(seen)


@given(sets, seeds, st.integers(0, 5))
def test_the_flip_of_a_sample_is_a_function_of_seed_epoch_and_tile(indices, seed, epoch):
    start = epoch * len(indices)
    tiles, flips = _stream(indices, seed, 1, start + len(indices))
    drawn = numpy_generator(seed, AUGMENT, epoch).random(len(indices)) < 0.5
    np.testing.assert_array_equal(flips[start:], drawn[tiles[start:] - indices[0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare(Options(scenes=10, size=128), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tiles(folder):
    return Tiles.open(folder)


def test_tiles_are_contiguous_float32_in_minus_one_to_one_and_zero_where_masked(tiles):
    sar, optical, mask = tiles.read(range(len(tiles)))
    count = len(tiles)
    assert (sar.shape, optical.shape, mask.shape) == ((count, 2, 64, 64), (count, 3, 64, 64), (count, 1, 64, 64))
    assert (tiles.sar_bands, tiles.optical_bands, tiles.tile) == (2, 3, 64)
    for array in (sar, optical, mask):
        assert array.dtype == np.float32 and array.flags.c_contiguous and np.isfinite(array).all()
        assert np.abs(array).max() <= 1
    assert set(np.unique(mask)) == {0, 1}
    hidden = np.broadcast_to(mask == 0, sar.shape)
    assert hidden.any() and not sar[hidden].any() and not optical[np.broadcast_to(mask == 0, optical.shape)].any()


def test_tiles_come_in_the_order_asked_for(tiles):
    forward, backward = tiles.read([0, 1, 2]), tiles.read([2, 1, 0, 0])
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one[[2, 1, 0, 0]], other)


def test_a_flip_mirrors_sar_optical_and_mask_left_right_and_only_the_chosen(tiles):
    plain, flipped = tiles.read([0, 1, 2]), tiles.read([0, 1, 2], [True, False, True])
    for one, other in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(other[[0, 2]], one[[0, 2]][..., ::-1])
        np.testing.assert_array_equal(other[1], one[1])
        assert other.flags.c_contiguous


def test_the_splits_part_the_tiles_and_no_scene_is_in_two(tiles):
    parts = [tiles.split(name) for name in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(len(tiles)))
    scenes = [{tiles.scenes[index] for index in part} for part in parts]
    assert all(scenes) and sum(map(len, scenes)) == len(set().union(*scenes)) == 10
    with pytest.raises(ValueError, match="'val'.*validation"):
        tiles.split("val")


def test_names_are_unique(tiles):
    assert len(set(tiles.names)) == len(tiles)


def test_the_probe_is_fixed_and_spread_over_the_scenes_of_validation(tiles):
    validation = set(tiles.split("validation").tolist())
    scenes = {tiles.scenes[index] for index in validation}
    chosen = probe(tiles, len(scenes))
    assert {tiles.scenes[index] for index in chosen} == scenes and set(chosen.tolist()) <= validation
    np.testing.assert_array_equal(chosen, probe(tiles, len(scenes)))
    assert probe(tiles, 10_000).tolist() == sorted(validation)
    assert len(set(probe(tiles, 5).tolist())) == 5


@pytest.mark.parametrize("name", ["sar.npy", "optical.npy", "mask.npy", "meta.json"])
def test_a_damaged_folder_is_refused_by_name(folder, tmp_path, name):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / name).write_bytes((copy / name).read_bytes()[:-100])
    with pytest.raises(DataError, match=str(copy)):
        Tiles.open(copy)


def test_prepared_data_are_read_with_numpy_alone(folder):
    code = (
        "import sys; from pathlib import Path; from trainers.tiles import Tiles, Order\n"
        f"tiles = Tiles.open(Path({str(folder)!r})); order = Order(tiles.split('train'), seed=0, batch=4, flip=True)\n"
        "tiles.read(*order.batch_at(0))\n"
        "print([name for name in ('torch', 'scipy', 'rasterio', 'pydantic') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_meta_says_what_was_found(folder, tiles):
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["domains"]["sar"]["domain"] == "db" and meta["domains"]["sar"]["low"] == [-25, -32.5]
    assert meta["domains"]["optical"]["high"] == [2300] * 3
    assert meta["arrays"]["sar"]["shape"] == list(tiles.sar.shape)
    assert meta["tiles"]["scene"] == list(tiles.scenes)
