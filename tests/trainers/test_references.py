"""Predictors without training against plain numpy, and their events."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ablate.events import Ended, Measured, Started, read
from ablate.records import TrialFolder
from tests.trainers import jobs
from trainers import references
from trainers.layouts.synthetic import Options
from trainers.prepare import prepare
from trainers.tiles import Tiles

METRICS = ["psnr", "mae", "gmsd"]
NAMES = ["mean_colour", "linear_map", "random_partner"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return prepare(Options(scenes=6, tile=32, size=96), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder(cache, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps({"cache": str(cache), "metrics": METRICS, "split": "validation"}))
    return tmp_path


@pytest.fixture(scope="module")
def values(cache):
    return references.measure(cache, metrics=METRICS, split="validation")


def expected_mae(tiles: Tiles, predict) -> float:
    """Mean absolute error on [0, 1] per tile, then per scene, then over scenes."""
    scenes: dict[str, list[float]] = {}
    for index in tiles.split("validation"):
        sar, optical, mask = (part[0].astype(np.float64) for part in tiles.read([index]))
        error = np.abs(predict(index, sar) - optical) / 2
        scenes.setdefault(tiles.scenes[index], []).append(error[:, mask[0] > 0].mean())
    return float(np.mean([np.mean(errors) for errors in scenes.values()]))


def training_pixels(tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    sar, optical, mask = tiles.read(tiles.split("train"))
    valid = mask[:, 0] > 0
    return (np.moveaxis(part, 1, -1)[valid].astype(np.float64) for part in (sar, optical))


def test_every_reference_has_every_metric_and_the_weighted_l1(values):
    assert list(values) == [f"{name}/{metric}" for name in NAMES for metric in [*METRICS, "g_l1"]]
    assert np.isfinite(list(values.values())).all()
    for name in NAMES:
        assert values[f"{name}/g_l1"] == pytest.approx(200 * values[f"{name}/mae"])


def test_mean_colour_is_the_mean_of_valid_training_pixels(cache, values):
    tiles = Tiles.open(cache)
    _, colours = training_pixels(tiles)
    mean = colours.mean(axis=0)[:, None, None]
    assert values["mean_colour/mae"] == pytest.approx(expected_mae(tiles, lambda index, sar: mean), rel=1e-5)


def test_the_linear_map_is_least_squares_over_valid_training_pixels(cache, values):
    tiles = Tiles.open(cache)
    inputs, colours = training_pixels(tiles)
    weights = np.linalg.lstsq(np.column_stack([inputs, np.ones(len(inputs))]), colours, rcond=None)[0]

    def predict(index, sar):
        return np.clip(np.einsum("ihw,io->ohw", sar, weights[:-1]) + weights[-1][:, None, None], -1, 1)

    assert values["linear_map/mae"] == pytest.approx(expected_mae(tiles, predict), rel=1e-5)


def test_a_random_partner_is_a_training_tile_of_another_scene(cache, values):
    tiles = Tiles.open(cache)
    for split in ("validation", "train"):
        partners = references.Partners(tiles, tiles.split(split), tiles.split("train"))
        for index, partner in partners.partner.items():
            assert tiles.splits[partner] == "train"
            assert tiles.scenes[partner] != tiles.scenes[index]
    chosen = references.Partners(tiles, tiles.split("validation"), tiles.split("train")).partner

    def predict(index, sar):
        return tiles.read([chosen[int(index)]])[1][0]

    assert values["random_partner/mae"] == pytest.approx(expected_mae(tiles, predict), rel=1e-5)


def test_what_stands_under_the_mask_is_not_learnt_from(cache, values):
    tiles = Tiles.open(cache)
    mask = np.array(tiles.mask)
    mask[tiles.split("train"), :, 5:20, 5:30] = 0
    _, optical, _ = tiles.read(range(len(tiles)))
    garbage = np.where(mask > 0, optical, np.float32(0.9))
    holed = [replace(tiles, mask=mask, optical=images) for images in (optical, garbage)]
    one, other = (references.compare(tiles, metrics=METRICS, split="validation") for tiles in holed)
    for name in ("mean_colour/mae", "linear_map/mae"):
        assert one[name] == other[name] != values[name]


def test_an_unrelated_picture_is_worse_than_no_picture(values):
    assert values["mean_colour/psnr"] > values["random_partner/psnr"]


def test_a_run_leaves_its_events_once(folder, values):
    references.run(folder)
    events = read(folder / "events.jsonl")
    assert [type(event) for event in events] == [Started, Measured, Ended]
    assert events[1].values == pytest.approx(values, rel=1e-9)
    assert (events[1].step, events[1].images, events[1].split, events[2].status) == (0, 0, "validation", "done")
    before = (folder / "events.jsonl").read_bytes()
    references.run(folder)
    assert (folder / "events.jsonl").read_bytes() == before


def test_a_run_that_was_cut_off_is_done_again(folder):
    references.run(folder)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text(lines[0] + lines[1][:40])
    references.run(folder)
    again = read(folder / "events.jsonl")
    assert [(type(event), event.attempt) for event in again] == [(Started, 1), (Started, 2), (Measured, 2), (Ended, 2)]
    assert again[2].values == json.loads(lines[1])["values"]


def test_scoring_that_hangs_is_ended_within_its_limit_and_said(cache, tmp_path):
    folder = TrialFolder(tmp_path)
    folder.spec.write_text(json.dumps({"cache": str(cache), "metrics": METRICS, "split": "validation"}))
    codes = jobs.run(folder, kind="references", limits="start=3", failpoints="stream-opened=sleep:600", wait=120)
    assert codes == [1] and jobs.words(folder)["type"] == "Stalled"
    assert jobs.run(folder, kind="references") == [0]


def test_the_watchdog_hears_of_every_reading(cache):
    heard = []
    references.measure(cache, metrics=["mae"], split="validation", beat=lambda: heard.append(1))
    tiles = Tiles.open(cache)
    least = 2 * len(tiles.split("train")) // references.BATCH + 3 * len(tiles.split("validation")) // references.BATCH
    assert len(heard) >= least > 0
