"""The probe's values against loops in numpy, on tiles with nodata; and what makes them comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers import tiny
from tests.trainers.two_ranks import on_two_ranks
from trainers.masks import fill
from trainers.probe import Probe, partners
from trainers.ranks import Ranks
from trainers.tiles import Tiles

BANDS, SIDE = 3, 8
TILE_KEYS = {"health/grey_l1", "health/input_variation"}
PAIR_KEYS = {"health/output_variance", "health/input_use", "health/output_contrast"}


def tiles(n: int = 6, *, scenes: int = 3, seed: int = 0, nodata: bool = True) -> Tiles:
    draw = np.random.default_rng(seed)
    mask = np.ones((n, 1, SIDE, SIDE), np.uint8)
    if nodata:
        mask[0, :, :3], mask[-1, :, :, 5:] = 0, 0
    return Tiles(
        sar=draw.uniform(-1, 1, (n, 2, SIDE, SIDE)).astype(np.float16),
        optical=draw.uniform(-1, 1, (n, BANDS, SIDE, SIDE)).astype(np.float16),
        mask=mask,
        names=tuple(f"t{i}" for i in range(n)),
        scenes=tuple(f"s{i % scenes}" for i in range(n)),
        splits=("validation",) * n,
    )  # fmt: skip


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(2, BANDS, 3, padding=1), torch.nn.Tanh())


def truth_of(probe: Probe):
    return lambda sar: probe.real.clone()


def by_loops(probe: Probe, output: np.ndarray) -> dict[str, float]:
    """Every value, pixel by pixel, from what the names say."""
    real, sar, mask = (t.double().numpy() for t in (probe.real, probe.sar, probe.mask[:, 0]))
    n = len(real)
    valid = [(i, y, x) for i in range(n) for y in range(SIDE) for x in range(SIDE) if mask[i, y, x]]
    both = [(i, y, x) for i, y, x in valid if mask[probe.partner[i], y, x]]

    def mean(difference, places):
        return np.mean([np.mean(np.abs(difference(i, y, x))) for i, y, x in places])

    def variance(images):
        found = []
        for y in range(SIDE):
            for x in range(SIDE):
                have = [images[i, :, y, x] for i in range(n) if mask[i, y, x]]
                found += [np.var(have, axis=0)] if len(have) > 1 else []
        return np.mean(found)

    p = probe.partner
    l1 = mean(lambda i, y, x: output[i, :, y, x] - real[i, :, y, x], valid)
    to_sar = mean(lambda i, y, x: output[i, :, y, x].mean() - sar[i, :, y, x].mean(), valid)
    greys = [sar[i, :, y, x].mean() for i, y, x in valid]
    least = min(np.mean(np.abs(np.array(greys) - level)) for level in greys)
    values = {
        "probe_l1": l1,
        "identity": to_sar / l1,
        "input_distance": to_sar / least,
        "output_variance": variance(output) / variance(real),
        "input_use": mean(lambda i, y, x: output[i, :, y, x] - real[i, :, y, x], both)
        / mean(lambda i, y, x: output[i, :, y, x] - real[p[i], :, y, x], both),
        "output_contrast": mean(lambda i, y, x: output[i, :, y, x] - output[p[i], :, y, x], both)
        / mean(lambda i, y, x: real[i, :, y, x] - real[p[i], :, y, x], both),
        "input_variation": np.sqrt(variance(sar)),
        "grey_l1": mean(lambda i, y, x: real[i, :, y, x], valid),
    }  # fmt: skip
    return {f"health/{name}": value for name, value in values.items()}


def test_every_value_is_what_its_name_says_pixel_by_pixel():
    probe, net = Probe(tiles(), Ranks()), network()
    output = net(probe.sar).detach().double().numpy()
    assert probe.read(net) == pytest.approx(by_loops(probe, output), rel=1e-5)


def test_the_change_is_that_since_the_last_reading_in_units_of_the_error():
    probe = Probe(tiles(nodata=False), Ranks())
    first, second = network(0), network(1)
    assert "health/output_change" not in probe.read(first)
    found = probe.read(second)
    moved = (second(probe.sar) - first(probe.sar)).abs().mean()
    assert found["health/output_change"] * found["health/probe_l1"] == pytest.approx(float(moved.detach()), rel=1e-5)
    assert probe.read(second)["health/output_change"] == 0


def test_the_truth_itself_and_one_image_for_all_are_told_apart():
    probe = Probe(tiles(nodata=False), Ranks())
    perfect = probe.read(truth_of(probe))
    assert perfect["health/probe_l1"] == perfect["health/input_use"] == 0
    assert perfect["health/output_contrast"] == perfect["health/output_variance"] == 1
    uniform = probe.read(lambda sar: torch.full_like(probe.real, 0.3))
    assert uniform["health/output_contrast"] == uniform["health/output_variance"] == 0
    assert uniform["health/input_use"] == pytest.approx(1)
    assert uniform["health/input_distance"] >= 1


def test_a_copy_of_the_input_is_nearer_to_it_than_to_the_truth():
    found = Probe(tiles(), Ranks()).read(lambda sar: sar.mean(1, keepdim=True).expand(-1, BANDS, -1, -1))
    assert found["health/identity"] == pytest.approx(0, abs=1e-7) and found["health/input_distance"] < 1e-6


@pytest.mark.parametrize("what", [0.9, float("nan")])
def test_nodata_changes_nothing(what):
    data = tiles()
    hole = data.mask == 0
    dirty = replace(data, optical=np.where(hole, np.float16(what), data.optical))
    net = network()

    def scribble(sar: torch.Tensor) -> torch.Tensor:
        return torch.where(probe.mask > 0, net(sar), torch.tensor(what))

    probe = Probe(data, Ranks())
    assert Probe(dirty, Ranks()).read(scribble) == probe.read(net)


def test_a_resumed_probe_reads_as_the_one_that_went_on():
    whole, first = Probe(tiles(), Ranks()), Probe(tiles(), Ranks())
    assert whole.read(network(0)) == first.read(network(0))
    resumed = Probe(tiles(), Ranks())
    resumed.load_state_dict(first.state_dict())
    assert resumed.read(network(1)) == whole.read(network(1))
    fresh = Probe(tiles(), Ranks())
    fresh.load_state_dict(Probe(tiles(), Ranks()).state_dict())
    assert "health/output_change" not in fresh.read(network(0))


def _readings(rank: int) -> list[dict[str, float]]:
    """Two readings of five tiles, two of a single one."""
    probes = [Probe(tiles(n), Ranks(rank=rank, size=2) if rank >= 0 else Ranks()) for n in (5, 1)]
    return [probe.read(network(seed)) for probe in probes for seed in (0, 1)]


def test_two_ranks_read_what_one_does_also_where_a_rank_has_no_tile(tmp_path: Path):
    first, second = on_two_ranks(_readings, tmp_path)
    assert first == second
    for shared, alone in zip(first, _readings(-1), strict=True):
        assert shared == pytest.approx(alone, rel=1e-6)


def test_what_takes_two_tiles_is_absent_with_one():
    found = Probe(tiles(1), Ranks()).read(network())
    assert not found.keys() & (PAIR_KEYS | {"health/input_variation"})
    assert "health/probe_l1" in found


def test_tiles_without_a_valid_pixel_have_no_values():
    data = tiles(2)
    assert Probe(replace(data, mask=np.zeros_like(data.mask)), Ranks()).read(network()) == {}


def test_an_output_that_is_not_finite_is_seen():
    found = Probe(tiles(), Ranks()).read(lambda sar: network()(sar) * float("nan"))
    varying = {key: value for key, value in found.items() if key not in TILE_KEYS}
    assert varying and all(np.isnan(value) for value in varying.values())


def test_an_input_that_does_not_vary_is_seen_and_likeness_to_it_is_not_judged():
    data = tiles()
    found = Probe(replace(data, sar=np.zeros_like(data.sar)), Ranks()).read(network())
    assert found["health/input_variation"] == 0 and "health/input_distance" not in found


def test_the_probe_takes_at_most_its_size_and_validation_tiles_only(tmp_path):
    data = Tiles.open(tiny.prepared(tmp_path))
    probe = Probe(data, Ranks(), size=3)
    known = torch.from_numpy(data.read(data.split("validation"))[0])
    assert len(probe.sar) == 3
    assert all(any(torch.equal(tile, other) for other in known) for tile in probe.sar)


def test_without_a_validation_tile_there_is_nothing_to_read():
    with pytest.raises(ValueError, match="no validation tile"):
        Probe(replace(tiles(2), splits=("train", "test")), Ranks())


def test_reading_makes_no_gradients():
    probe, net = Probe(tiles(), Ranks()), network()
    probe.read(net)
    assert not probe.last.requires_grad and all(p.grad is None for p in net.parameters())


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_every_tile_has_a_partner_in_another_scene_where_none_holds_more_than_half(scenes):
    chosen = partners(scenes)
    assert sorted(chosen) == list(range(len(scenes)))
    if len(scenes) > 1:
        assert all(chosen != np.arange(len(scenes)))
    if 2 * max(map(scenes.count, scenes)) <= len(scenes):
        assert all(scenes[i] != scenes[j] for i, j in enumerate(chosen))


def test_filling_is_that_of_training():
    probe = Probe(tiles(), Ranks())
    assert torch.equal(probe.real, fill(probe.real, probe.mask)) and not probe.real[0, :, :3].any()
