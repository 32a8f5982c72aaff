"""Large images are walked through in blocks, and give what they would give as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.images import write
from trainers import windows
from trainers.layouts._common import Sar
from trainers.layouts.csv import Options as Csv
from trainers.nodata import Outside, is_dark, strips, touching_border
from trainers.pairs import Window
from trainers.prepare import prepare
from trainers.raster import read
from trainers.tiles import Tiles

SIZES = st.integers(32, 400)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(windows, "BLOCK", 128)


@given(SIZES, SIZES, st.integers(32, 96), st.integers(8, 120))
@settings(max_examples=60)
def test_every_tile_is_in_one_block_that_reads_it_whole(rows, columns, tile, stride):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BLOCK", 128)
        found = list(windows.blocks((rows, columns), tile, stride))
    together = sorted(corner for block in found for corner in block.corners)
    assert together == windows.corners((rows, columns), tile, stride)
    for block in found:
        window = block.window
        assert window.row >= 0 and window.column >= 0
        assert window.row + window.rows <= rows and window.column + window.columns <= columns
        for row, column in block.corners:
            assert window.row <= row and row + tile <= window.row + window.rows
            assert window.column <= column and column + tile <= window.column + window.columns
        assert max(window.shape) <= max(128, tile) + 2 * windows.HALO


def test_an_image_below_a_tile_is_one_block_without_a_corner():
    assert [(block.window.shape, block.corners) for block in windows.blocks((20, 90), 32, 32)] == [((20, 90), ())]


@pytest.fixture
def large(tmp_path):
    """A table of three pairs of 420 x 300 px: dB with a black rim and a black pond, and 8-bit pictures."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for index in range(3):
        texture = ndimage.gaussian_filter(rng.normal(size=(2, 420, 300)), (0, 2, 2))
        sar = (-12 + 20 * texture).astype(np.float32)
        sar[:, :, : 8 + 3 * index] = 0  # the end of the swath
        sar[:, 200:212, 150:162] = 0  # exact zeros in the middle are values
        write(tmp_path / f"s{index}.tif", sar)
        write(tmp_path / f"o{index}.png", rng.integers(1, 256, (3, 420, 300)).astype(np.uint8))
    rows = [f"s{index}.tif,o{index}.png,scene{index}" for index in range(3)]
    (tmp_path / "pairs.csv").write_text("\n".join(["sar,optical,group", *rows]) + "\n")
    return str(tmp_path / "pairs.csv")


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_blocks_give_the_tiles_of_the_whole(large, tmp_path, monkeypatch, shift):
    data = Csv(table=large, tile=64, misregistration=shift, sar=Sar(domain="db"))
    whole = Tiles.open(prepare(data, tmp_path / "whole"))
    monkeypatch.setattr(windows, "BLOCK", 128)
    parts = Tiles.open(prepare(data, tmp_path / "parts"))
    order = [parts.names.index(name) for name in whole.names]
    assert sorted(order) == list(range(len(parts)))
    for one, other, error in zip(whole.read(range(len(whole))), parts.read(order), (0, 1e-3, 0), strict=True):
        np.testing.assert_allclose(one, other, atol=error)
    assert (np.asarray(whole.mask) == 0).any()


@given(st.integers(0, 10_000), st.integers(5, 130), st.floats(0.1, 0.7))
@settings(max_examples=60, deadline=None)
def test_black_from_the_border_is_found_to_the_pixel_in_strips(seed, height, share):
    values = (np.random.default_rng(seed).random((1, 120, 90)) > share).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainers.nodata.STRIP", height)
        outside = Outside()
        for strip in strips((120, 90)):
            outside.add(is_dark(values[:, strip.row : strip.row + strip.rows]))
        outside.close()
        found = outside.within(Window(0, 0, 120, 90))
        np.testing.assert_array_equal(found, touching_border(is_dark(values)))
        np.testing.assert_array_equal(outside.within(Window(40, 5, 30, 60)), found[40:70, 5:65])


def test_a_window_of_a_small_image_has_the_mask_of_the_whole(tmp_path):
    values = np.random.default_rng(0).integers(50, 200, (1, 300, 300)).astype(np.uint8)
    values[:, 100:200, 100:200] = 0
    reader, pair = _reader(tmp_path, values)
    assert reader.read(pair, Window(150, 50, 100, 200)).mask.all()


@pytest.mark.parametrize("size", [300, 1200])
def test_a_lake_a_pixel_from_the_border_stays(tmp_path, size):
    """An overview would not see the gap between them; nor that between a lake and black that does reach the border."""
    values = np.full((1, size, size), 90, np.uint8)
    values[:, 1:40, 100:200] = values[:, -1] = values[:, -40:-2, 100:200] = 0
    for options in ({}, {"blocks": 2, "gap": 0}):
        found = _valid(tmp_path, values, **options)
        assert not found[-1].any() and found[:-1].all()


def test_a_window_and_every_second_pixel_are_those_of_the_file(tmp_path):
    values = np.arange(2 * 40 * 50, dtype=np.float32).reshape(2, 40, 50)
    path = str(write(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(read([path], window=Window(3, 5, 20, 30)).values, values[:, 3:23, 5:35])
    small = read([path], shrink=2).values
    assert small.shape == (2, 20, 25)
    np.testing.assert_allclose(small, values[:, ::2, ::2], atol=51)  # GDAL takes the nearest to the cell's middle


def test_bands_are_counted_through_all_files_of_an_image(tmp_path):
    one, two = np.full((2, 8, 8), 1, np.uint8), np.full((1, 8, 8), 7, np.uint8)
    one[1] = 3
    paths = [str(write(tmp_path / name, values)) for name, values in (("a.tif", one), ("b.tif", two))]
    assert [int(band[0, 0]) for band in read(paths).values] == [1, 3, 7]
    assert [int(band[0, 0]) for band in read(paths, bands=(3, 1)).values] == [7, 1]


@pytest.mark.parametrize("size", [200, 1000, 1100, 2100, 5000])
def test_a_frame_of_one_black_pixel_is_masked_at_any_size(tmp_path, size):
    values = np.full((1, size, size), 90, np.uint8)
    values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1] = 0, 0, 0, 0
    found = _valid(tmp_path, values)
    assert not (found[0].any() or found[-1].any() or found[:, 0].any() or found[:, -1].any())
    assert found[1:-1, 1:-1].all()


def _reader(tmp_path, values, **options):
    """A Reader of three pairs of a picture and an optical image without gaps, and the first pair."""
    from trainers.families import LAYOUTS, build
    from trainers.layouts.scenes import Options as Scenes
    from trainers.reading import Reader
    from trainers.survey import survey

    size = values.shape[-1]
    for index in range(3):
        write(tmp_path / "sar" / f"p{index}.tif", values)
        write(tmp_path / "optical" / f"p{index}.tif", np.full((3, size, size), 70 + index, np.uint8))
    data = Scenes(root=str(tmp_path), tile=32, **options)
    source = build(LAYOUTS, data)
    return Reader(source, survey(data, source)), source.pairs[0]


def _valid(tmp_path, values, **options) -> np.ndarray:
    """Where the first image holds data, put together from blocks of whole tiles."""
    reader, _ = _reader(tmp_path, values, **options)
    found = np.zeros(values.shape[1:], bool)
    for pair in (pair for pair in reader.source.pairs if pair.name.startswith("p0")):
        for block in windows.blocks(reader.source.shape(pair), 32, 4):
            part = block.window.within(pair.window)
            mask = reader.read(pair, block.window).mask
            found[part.row : part.row + part.rows, part.column : part.column + part.columns] = mask
    return found


def test_a_black_lake_at_an_inner_border_of_blocks_is_no_nodata(tmp_path):
    values = np.random.default_rng(0).integers(50, 200, (1, 300, 300)).astype(np.uint8)
    values[:, 100:200, 100:200] = 0
    values[:, :10] = 0
    found = _valid(tmp_path, values, blocks=2, gap=0)
    assert found[100:200, 100:200].all() and not found[:10].any() and found[10:].all()
