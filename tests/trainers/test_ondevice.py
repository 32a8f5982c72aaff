"""Tiles decoded on a device are those that numpy reads, to the bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.trainers import tiny
from trainers import ondevice
from trainers.families import LAYOUTS
from trainers.ondevice import TilesOnDevice, room, size
from trainers.prepare import prepare
from trainers.tiles import Tiles

COUNT, SIDE = 7, 6
CPU = torch.device("cpu")
KINDS = (np.uint8, np.uint16, np.float16, np.float32)


def tiles(sar: type, optical: type, masks: str) -> Tiles:
    """All codes come up, under the mask too; floats in [-1, 1]."""
    draw = np.random.default_rng(1)

    def images(bands: int, kind: type) -> np.ndarray:
        shape = (COUNT, bands, SIDE, SIDE)
        if np.issubdtype(kind, np.integer):
            codes = draw.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
            codes.flat[:2] = 0, np.iinfo(kind).max
            return codes
        return draw.uniform(-1, 1, shape).astype(kind)

    mask = np.ones((COUNT, 1, SIDE, SIDE), np.uint8)
    if masks != "whole":
        mask[1, :, :2], mask[4, :, :, 1:3] = 0, 0
    if masks == "one empty":
        mask[5] = 0
    names = tuple(map(str, range(COUNT)))
    return Tiles(images(2, sar), images(3, optical), mask, names, names, ("train",) * COUNT)


def same(one: torch.Tensor, other: np.ndarray) -> bool:
    """Bit for bit: also the sign of a 0."""
    return one.dtype == torch.float32 and np.array_equal(one.numpy().view(np.int32), other.view(np.int32))


@pytest.mark.parametrize("masks", ["whole", "holes", "one empty"])
@pytest.mark.parametrize(("sar", "optical"), [*itertools.product(KINDS, repeat=2)])
def test_what_is_read_there_is_what_is_read_here(sar, optical, masks):
    of = tiles(sar, optical, masks)
    held = np.array([1, 2, 4, 5, 6])
    there = TilesOnDevice(of, held, CPU)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        chosen, flips = draw.choice(held, 8), draw.random(8) < 0.5
        found = there.read(torch.from_numpy(there.places(chosen)), torch.from_numpy(flips))
        assert all(same(*pair) for pair in zip(found, of.read(chosen, flips), strict=True))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_code_has_its_value(kind):
    codes = np.arange(np.iinfo(kind).max + 1, dtype=kind)
    side = int(np.sqrt(len(codes)))
    image, mask = codes.reshape(1, 1, side, side), np.ones((1, 1, side, side), np.uint8)
    of = Tiles(image, image, mask, ("a",), ("a",), ("train",))
    there = TilesOnDevice(of, [0], CPU)
    found = there.read(torch.tensor([0]), torch.tensor([False]))
    assert all(same(*pair) for pair in zip(found, of.read([0]), strict=True))


@pytest.mark.parametrize("at_a_time", [1, 2, COUNT, 100])
def test_tiles_go_there_a_few_at_a_time(monkeypatch, at_a_time):
    of = tiles(np.uint16, np.uint8, "holes")
    monkeypatch.setattr(ondevice, "UPLOADED", at_a_time)
    chosen = np.array([6, 0, 3, 2, 5])
    there = TilesOnDevice(of, chosen, CPU)
    found = there.read(torch.from_numpy(there.places(chosen)), torch.ones(len(chosen), dtype=torch.bool))
    assert all(same(*pair) for pair in zip(found, of.read(chosen, np.ones(len(chosen), bool)), strict=True))


@pytest.mark.parametrize("given", [{}, {"misregistration": 2.0}])
def test_a_prepared_data_set_draws_the_same_batches_from_there(tmp_path, given):
    folder = prepare(LAYOUTS.options("synthetic")(scenes=4, size=64, tile=32, **given), tmp_path)
    of = tiny.changed(tiny.recipe(batch=5), "data.flip", "horizontal")
    one, other = (tiny.training(of, folder, ways=ways).draws for ways in ((), ("resident",)))
    assert other.held is not None and one.tiles.sar.dtype.kind == "u"
    flipped = 0
    for number in range(8):
        here, there = one.batch(number), other.batch(number)
        flipped += int(one.order.batch_at(number)[1].sum())
        for name in ("sar", "real", "mask"):
            assert same(getattr(there, name), getattr(here, name).numpy())
    assert 0 < flipped < 40


def test_a_memory_map_is_held_without_its_file(tmp_path):
    of = tiles(np.uint16, np.uint8, "holes")
    np.save(tmp_path / "sar.npy", of.sar)
    mapped = Tiles(np.load(tmp_path / "sar.npy", mmap_mode="r"), of.optical, of.mask, of.names, of.scenes, of.splits)
    there = TilesOnDevice(mapped, range(COUNT), CPU)
    (tmp_path / "sar.npy").unlink()
    found = there.read(torch.arange(COUNT), torch.zeros(COUNT, dtype=torch.bool))
    assert same(found[0], of.read(range(COUNT))[0])


def test_a_tile_that_is_not_held_is_not_given_for_another():
    there = TilesOnDevice(tiles(np.uint8, np.uint8, "whole"), [0, 2], CPU)
    with pytest.raises(AssertionError, match="not held"):
        there.places(np.array([0, 1]))


def test_what_tiles_take_there_is_known_before():
    of = tiles(np.uint8, np.uint16, "whole")
    there = TilesOnDevice(of, [0, 3, 4], CPU)
    assert size(of, [0, 3, 4]) == sum(codes.nbytes for codes in there._codes) == 3 * SIDE * SIDE * (2 + 3 * 2 + 1)
    assert room(CPU) > 1e15
