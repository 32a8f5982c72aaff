"""What is stored is what was read: to the bit where 8 bits hold it, within half a step of 16 bits elsewhere."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.images import decibels, folders, picture, reflectance
from trainers.codes import decode, encode
from trainers.domains import Scaling
from trainers.layouts._common import Optical, Sar
from trainers.layouts.folders import Options as Folders
from trainers.prepare import prepare
from trainers.reading import Reader
from trainers.tiles import Tiles

HALF_A_STEP = 0.5 / 32767 + 1e-7  # and what float32 rounds
EVERY = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)


def test_every_8_bit_number_is_read_back_to_the_bit():
    scaled, _ = Scaling("display", "8-bit", (0.0,), (255.0,)).apply(EVERY)
    codes = encode(scaled, np.ones((16, 16), bool), np.dtype(np.uint8))
    np.testing.assert_array_equal(codes, EVERY)
    np.testing.assert_array_equal(decode(codes, np.ones((1, 16, 16), np.uint8)), scaled)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50))
def test_16_bits_are_off_by_half_a_step_at_most_and_hold_the_ends_and_the_middle(values):
    image = np.array([*values, -1, 0, 1], np.float32).reshape(1, 1, -1)
    mask = np.ones(image.shape[1:], bool)
    found = decode(encode(image, mask, np.dtype(np.uint16)), mask[None])
    assert found.dtype == np.float32 and np.abs(found - image).max() <= HALF_A_STEP
    assert found[0, 0, -3:].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_masked_pixels_are_zero_without_a_sign(kind):
    image = np.random.default_rng(0).uniform(-1, 1, (3, 20, 20)).astype(np.float32)
    mask = np.random.default_rng(1).random((20, 20)) > 0.5
    found = decode(encode(image, mask, np.dtype(kind)), mask[None])
    assert not found[:, ~mask].any() and not np.signbit(found[:, ~mask]).any()


def test_16_bits_are_better_than_half_floats_almost_everywhere():
    """Why floats are stored as whole numbers: 16 times closer at worst, and closer in the mean."""
    image = np.random.default_rng(0).uniform(-1, 1, (1, 300, 300)).astype(np.float32)
    mask = np.ones((300, 300), bool)
    ours = np.abs(decode(encode(image, mask, np.dtype(np.uint16)), mask[None]) - image)
    theirs = np.abs(image.astype(np.float16).astype(np.float32) - image)
    assert ours.max() < theirs.max() / 15 and ours.mean() < theirs.mean() / 5


PICTURES = {"sar": picture, "optical": picture, "suffix": ".png"}


@pytest.mark.parametrize(
    "kinds, options, expected",
    [
        (PICTURES, {}, ("uint8", "uint8")),
        (PICTURES, {"misregistration": 1.0}, ("uint8", "uint16")),
        (PICTURES, {"resample": "bilinear"}, ("uint8", "uint16")),
        (PICTURES, {"sar": Sar(low=(0,) * 3, high=(200,) * 3)}, ("uint16", "uint8")),
        (PICTURES, {"optical": Optical(range=(0, 255))}, ("uint8", "uint8")),
        (PICTURES, {"optical": Optical(offset=1)}, ("uint8", "uint16")),
        (PICTURES, {"sar": Sar(range="percentiles")}, ("uint16", "uint8")),
        ({}, {}, ("uint16", "uint16")),
    ],
)
def test_the_type_is_as_the_source_allows_and_meta_says_how_to_read_it(tmp_path, kinds, options, expected):
    folder = prepare(Folders(root=str(folders(tmp_path / "d", **kinds)), **options), tmp_path / "cache")
    arrays = json.loads((folder / "meta.json").read_text())["arrays"]
    assert tuple(arrays[key]["dtype"] for key in ("sar", "optical")) == expected
    assert {arrays[key]["decoding"] for key in ("sar", "optical")} <= {
        "code * 2 / 255 - 1, and 0 where the mask is 0", "(code - 32768) / 32767"
    }  # fmt: skip
    assert Tiles.open(folder).sar.dtype == expected[0]


@pytest.mark.parametrize("kinds, error", [(PICTURES, 0), ({}, HALF_A_STEP)])
def test_tiles_are_what_the_reader_gives(tmp_path, monkeypatch, kinds, error):
    scaled, read = {}, Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, pair, *a, **k: scaled.setdefault(pair, read(self, pair, *a, **k)))
    tiles = Tiles.open(prepare(Folders(root=str(folders(tmp_path / "d", **kinds))), tmp_path / "cache"))
    by_name = {pair.name: whole for pair, whole in scaled.items()}
    for index, name in enumerate(tiles.names):
        whole = by_name[name.split(":")[0]]
        sar, optical, mask = tiles.read([index])
        np.testing.assert_array_equal(mask[0, 0], whole.mask)
        assert np.abs(sar[0] - whole.sar).max() <= error and np.abs(optical[0] - whole.optical).max() <= error


def test_reflectance_is_read_back_number_by_number(tmp_path):
    tiles = Tiles.open(prepare(Folders(root=str(folders(tmp_path / "d"))), tmp_path / "cache"))
    for index, name in enumerate(tiles.names):
        numbers = np.rint(5000 * (tiles.read([index])[1][0] + 1))
        np.testing.assert_array_equal(numbers, reflectance(int(name[1])))


def test_decibels_are_read_back_to_a_thousandth(tmp_path):
    tiles = Tiles.open(prepare(Folders(root=str(folders(tmp_path / "d"))), tmp_path / "cache"))
    for index, name in enumerate(tiles.names):
        found = (tiles.read([index])[0][0, 0] - 1) * 12.5
        np.testing.assert_allclose(found, np.clip(decibels(int(name[1]))[0], -25, 0), atol=1e-3)


def test_floats_in_a_cache_stand_for_themselves(tmp_path):
    from tests.trainers import tiny

    tiles = Tiles.open(tiny.prepared(tmp_path))
    assert tiles.sar.dtype == np.float16
    np.testing.assert_array_equal(tiles.read([3])[0][0], tiles.sar[3].astype(np.float32))


def test_another_type_than_meta_states_is_damage(tmp_path):
    folder = prepare(Folders(root=str(folders(tmp_path / "d"))), tmp_path / "cache")
    np.save(folder / "sar.npy", np.load(folder / "sar.npy").view(np.int16))
    with pytest.raises(ValueError, match="int16 of shape"):
        Tiles.open(folder)
