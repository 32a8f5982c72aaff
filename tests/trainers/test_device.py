"""The laws of training on an accelerator: on a GPU where there is one, else skipped.

`ABLATE_TEST_DEVICE=cpu` runs them on the processor. torch, numpy, pytest and pytorch-msssim are all that they need.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ablate import events
from ablate.records import Status, TrialFolder, TrialSpec
from tests.trainers import tiny
from trainers import train
from trainers.checkpoint import FINAL, Checkpoints, read
from trainers.evaluate import of_sets
from trainers.families import METRICS, OBJECTIVES, TERMS, build
from trainers.graphs import WARM_UP
from trainers.ondevice import TilesOnDevice
from trainers.ranks import Ranks, join
from trainers.recipe import Compute, Ema, Recipe, Timing
from trainers.tiles import Tiles
from trainers.training import Training

DEVICE = os.environ.get("ABLATE_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
pytestmark = pytest.mark.skipif(not DEVICE, reason="no GPU here; ABLATE_TEST_DEVICE=cpu runs these on the processor")

FEW = 3  # updates
TILES, SIDES = 24, (32, 64)  # a U-Net with dropout has six halvings
LARGE = 176  # px: five scales of MS-SSIM need 161

Row = dict[str, Any]
NORMS: dict[str, Row] = {
    "spectral": {"norm": "spectral"},
    "sync_batch in both": {"norm": "sync_batch", "norm_g": "sync_batch"},
    "batch in both": {"norm": "batch", "norm_g": "batch"},
    "instance in both": {"norm": "instance", "norm_g": "instance"},
    "none in both": {"norm": "none", "norm_g": "none"},
}
FEATURES: dict[str, Row] = {
    **{objective: {"objective": objective} for objective in OBJECTIVES.names()},
    **NORMS,
    "feature matching, two scales": {"terms": ("l1", "feature_matching"), "scales": 2},
    "structural terms": {"terms": ("charbonnier", "gradient", "ssim")},
    "gated skips": {"skip": "gated"},
    "two of G for one of D": {"updates": (2, 1)},
    "two of D for one of G": {"updates": (1, 2)},
    "average": {"ema": Ema(decay=0.9), "norm_g": "batch"},
    "stages with a ramp": {"stages": True},
    "channels last": {"compute": Compute(memory_format="channels_last"), "norm": "batch"},
}
# These don't compute as the processor does in fp32: they are only asked for finite numbers.
OF_THEIR_OWN: dict[str, Row] = {
    "dropout": {"dropout": 0.5, "tile": 64},
    "tf32": {"compute": Compute(precision="tf32")},
    "bf16": {"compute": Compute(precision="bf16"), "norm": "spectral"},
    "bf16, wgan_gp": {"compute": Compute(precision="bf16"), "objective": "wgan_gp"},
    "bf16, channels last": {"compute": Compute(precision="bf16", memory_format="channels_last"), "norm": "batch"},
}


def recipe(of: Row, *, steps: int = FEW) -> Recipe:
    staged = of.get("stages")
    made = tiny.recipe(**{"steps": steps, "every": steps, **{key: of[key] for key in of if key != "stages"}})
    if not staged:
        return made
    later = tiny.stage(made, Timing(ramp=0.5, moments="reset"), terms={"ssim": 5, "l1": 2, "feature_matching": 3})
    return replace(made, stages=(tiny.stage(made, Timing(until=1 / steps)), later))


def smooth(draw: np.random.Generator, *shape: int) -> np.ndarray:
    """Random pictures in [-1, 1]: sums of a few waves, of shape (..., H, W)."""
    rows, columns = (np.linspace(0, 1, side) for side in shape[-2:])
    total = np.zeros(shape)
    for _ in range(4):
        frequency, phase = draw.uniform(1, 9, (2, *shape[:-2], 1, 1)), draw.uniform(0, 6.3, (*shape[:-2], 1, 1))
        total += np.sin(frequency[0] * rows[:, None] + frequency[1] * columns + phase)
    return np.tanh(total / 2)


def prepared(folder: Path, side: int) -> Path:
    """As in tiny.py, by numpy alone: 24 tiles, four to a scene, a nodata border in two of them."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    optical = smooth(draw, TILES, tiny.BANDS_OPTICAL, side, side)
    sar = optical[:, : tiny.BANDS_SAR] + 0.3 * draw.normal(size=(TILES, tiny.BANDS_SAR, side, side))
    mask = np.ones((TILES, 1, side, side), np.uint8)
    mask[0, :, :5], mask[-6, :, :, :7] = 0, 0
    arrays = {"sar": sar.clip(-1, 1).astype(np.float16), "optical": optical.astype(np.float16), "mask": mask}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    stated = {name: {"bytes": (folder / f"{name}.npy").stat().st_size, "shape": list(array.shape)}
              for name, array in arrays.items()}  # fmt: skip
    rows = {
        "name": [f"t{i}" for i in range(TILES)], "scene": [f"s{i // 4}" for i in range(TILES)],
        "split": ["train"] * (TILES - 8) + ["validation"] * 4 + ["test"] * 4,
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps({"arrays": stated, "tiles": rows}))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """With data sets where tiny.trial_folder looks for them, so that it makes none by scipy."""
    folder = tmp_path_factory.mktemp("device")
    for side in SIDES:
        prepared(folder / "cache" / (f"tiny{side}" if side != tiny.TILE else "tiny"), side)
    return folder


@pytest.fixture
def repeatable(monkeypatch):
    """cuDNN's fastest sums come in any order: where two runs are compared bit by bit it takes those in one order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture(autouse=True)
def exact_again():
    """Precision is a setting of the process: what a test chose is taken back."""
    yield
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def here() -> Ranks:
    """One process on the device."""
    with join(DEVICE) as ranks:
        return ranks


def begun(of: Recipe, root: Path, ranks: Ranks, ways: tuple[str, ...] = ()) -> Training:
    data = root / "cache" / ("tiny" if of.data.tile == tiny.TILE else f"tiny{of.data.tile}")
    return tiny.training(of, data, ranks, ways=ways)


def still(of: Recipe) -> Recipe:
    """The recipe at learning rate 0: Adam divides a gradient by its size, and so makes rounding into steps."""
    stages = tuple(replace(stage, optimizer=replace(stage.optimizer, lr=0.0)) for stage in of.stages)
    return replace(of, optimizer=replace(of.optimizer, lr=0.0), stages=stages)


def first_updates(of: Recipe, root: Path, ranks: Ranks, updates: int) -> dict[str, torch.Tensor]:
    """Losses and gradients of the first updates, on the processor, the networks standing still."""
    training = begun(still(of), root, ranks)
    for _ in range(updates):
        training.advance()
    found = {key: torch.tensor(value) for key, value in tiny.logged(training).items()
             if key.startswith(("loss_", "term/", "weighted/"))}  # fmt: skip
    for name, network in (("d", training.discriminator), ("g", training.generator)):
        found |= {f"grad/{name}/{key}": p.grad.cpu() for key, p in network.named_parameters()}
    return found


def check_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    """Gradients by the largest of their network: some are 0 but for rounding, as a bias before a norm."""
    assert found.keys() == expected.keys() and any(key.startswith("grad/") for key in expected)
    largest = {
        part: max(float(value.abs().max()) for key, value in expected.items() if key.startswith(part))
        for part in ("grad/d/", "grad/g/")
    }
    assert min(largest.values()) > 0
    for key, value in expected.items():
        scale = largest[key[:7]] if key[:7] in largest else max(float(value.abs()), 0.1)  # a critic's loss is near 0
        assert float((found[key] - value).abs().max()) <= tolerance * scale, key


# -- updates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEATURES | OF_THEIR_OWN)
def test_three_updates_give_finite_numbers_and_move_both_networks_on_the_device(root, name):
    training = begun(recipe((FEATURES | OF_THEIR_OWN)[name]), root, here())
    networks = (training.generator, training.discriminator, training.result)
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    for _ in range(FEW):
        training.advance()
    training.settle()
    values = tiny.logged(training)
    assert {"loss_d", "loss_g", "health/auc"} <= values.keys()
    assert all(np.isfinite(value) for value in values.values()), values
    for network, start in zip(networks, before, strict=True):
        assert {tensor.device.type for tensor in network.state_dict().values()} == {DEVICE}
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
        assert not all(torch.equal(p, old) for p, old in zip(network.parameters(), start, strict=True))


@pytest.mark.parametrize("name", FEATURES)
def test_the_first_updates_have_the_losses_and_gradients_of_the_processor(root, name):
    """Up to the first of every kind: of G alone, and of a second stage."""
    of = recipe(FEATURES[name])
    updates = max(of.updates.generator, len(of.course) + (len(of.course) > 1))
    found, expected = (first_updates(of, root, ranks, updates) for ranks in (here(), Ranks()))
    check_alike(found, expected, 1e-3)


def test_a_network_starts_from_the_same_weights_and_predicts_the_same_after_an_update(root):
    """Noise of 1e-5 in the gradients, which Adam makes larger, moves predictions by 0.2 % of the update."""
    there, base = (begun(recipe({"norm": "spectral"}), root, ranks) for ranks in (here(), Ranks()))
    for one, two in ((there.generator, base.generator), (there.discriminator, base.discriminator)):
        pairs = zip(one.parameters(), two.parameters(), strict=True)
        assert all(torch.equal(a.detach().cpu(), b.detach()) for a, b in pairs)
    start = base.predict(base.draws.batch(0).sar)
    for training in (there, base):
        training.advance()
    outputs = [training.predict(training.draws.batch(0).sar).cpu() for training in (there, base)]
    assert (outputs[1] - start).abs().max() > 0.1
    assert (outputs[0] - outputs[1]).norm() <= 1e-2 * (outputs[1] - start).norm()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_coarser_number_format_is_the_same_update_but_for_rounding(root, precision):
    coarse, exact = (first_updates(recipe({"norm": "spectral", "compute": Compute(precision=kind)}), root, here(), 1)
                     for kind in (precision, "fp32"))  # fmt: skip
    check_alike(coarse, exact, 0.15)  # bf16 holds 8 bits: 0.04 on a processor
    if precision == "bf16":
        assert not all(torch.equal(coarse[key], exact[key]) for key in exact)


def test_each_trial_sets_the_number_format_that_it_states(root):
    for precision, rounds in (("tf32", True), ("fp32", False), ("tf32", True), ("bf16", False)):
        training = begun(recipe({"compute": Compute(precision=precision)}), root, here())
        for inside in (training.arithmetic.forward, training.arithmetic.backward):
            with inside():
                assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is rounds
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is False


# -- faster ways --------------------------------------------------------------------------------

REPLAYED = 2  # updates by a graph, after those that it needs before: of two kinds where G learns twice as often
BOTH = ("graph", "resident")


def by_ways(of: Recipe, root: Path, *ways: str) -> list[dict[str, float]]:
    """What is logged of each update, by these ways from the first one on."""
    training, found = begun(of, root, here(), ways), []
    training.fast.choice.decided = "fast"
    for _ in range(of.steps):
        training.advance()
        found.append(tiny.logged(training))
    if "graph" in ways:
        assert training.fast.graphs is not None and not training.fast.graphs.broken
        assert training.fast.graphs.steady
        assert DEVICE == "cpu" or training.fast.graphs._captured
    return found


def check_logged(found: list[dict[str, float]], expected: list[dict[str, float]], tolerance: float) -> None:
    assert len(found) == len(expected)
    for update, (one, two) in enumerate(zip(found, expected, strict=True)):
        assert one.keys() == two.keys()
        for key in two:  # shares of the logits move by whole patches
            nearly = pytest.approx(two[key], rel=tolerance, abs=tolerance and max(tolerance, 1e-3))
            assert one[key] == nearly, (update, key)


@pytest.mark.parametrize("name", FEATURES | OF_THEIR_OWN)
def test_graphs_over_tiles_on_the_device_learn_what_the_plain_way_learns(root, name, repeatable):
    """On a GPU but for the rounding of the learning rate, which Adam makes larger; elsewhere to the bit."""
    row = (FEATURES | OF_THEIR_OWN)[name]
    of = recipe(row, steps=2 * WARM_UP + 2 * REPLAYED)
    tolerance = 0.0 if DEVICE == "cpu" else 2e-2 if name in OF_THEIR_OWN else 2e-3
    check_logged(by_ways(of, root, *BOTH), by_ways(of, root), tolerance)


@pytest.mark.parametrize("name", ["vanilla", "dropout", "two of G for one of D"])
def test_networks_that_stand_still_are_given_the_same_gradients_by_a_graph(root, name, repeatable):
    """Draw for draw: its tiles, its flips, its dropout. Only what the networks learned could hide a difference."""
    of = still(recipe((FEATURES | OF_THEIR_OWN)[name], steps=2 * WARM_UP + 2 * REPLAYED))
    logged = by_ways(of, root, *BOTH)
    check_logged(logged, by_ways(of, root), 1e-5)
    assert len({values["loss_g"] for values in logged}) == of.steps


@pytest.mark.parametrize("way", BOTH)
def test_each_faster_way_goes_alone(root, way, repeatable):
    of = recipe({"norm": "spectral"}, steps=WARM_UP + REPLAYED)
    check_logged(by_ways(of, root, way), by_ways(of, root), 2e-3)


def test_tiles_are_decoded_on_the_device_to_the_same_bits(root):
    draw = np.random.default_rng(0)
    mask = (draw.random((4, 1, 16, 16)) < 0.7).astype(np.uint8)
    sar, optical = (draw.integers(0, np.iinfo(kind).max, (4, 2, 16, 16), kind, endpoint=True)
                    for kind in (np.uint8, np.uint16))  # fmt: skip
    names = ("a", "b", "c", "d")
    tiles, device = Tiles(sar, optical, mask, names, names, ("train",) * 4), here().device
    there, flips = TilesOnDevice(tiles, range(4), device), np.array([True, False, False, True])
    found = there.read(torch.arange(4, device=device), torch.from_numpy(flips).to(device))
    for one, other in zip(found, tiles.read(range(4), flips), strict=True):
        assert np.array_equal(one.cpu().numpy(), other)


# -- parts --------------------------------------------------------------------------------------


def pictures(seed: int) -> torch.Tensor:
    return torch.from_numpy(smooth(np.random.default_rng(seed), 2, 3, LARGE, LARGE).astype(np.float32))


def masked() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Generated and real images in [-1, 1] and their mask, filled alike where it is 0."""
    real, mask = pictures(0), torch.ones(2, 1, LARGE, LARGE)
    mask[0, :, 20:60, 31:] = 0
    return (0.7 * real + 0.3 * pictures(1)) * mask, real * mask, mask


@pytest.mark.parametrize("name", [name for name in TERMS.names() if name != "feature_matching"])
def test_a_term_has_the_value_and_the_gradient_of_the_processor(name):
    term = build(TERMS, TERMS.options(name)(**({"weights": "random"} if name == "perceptual" else {})))
    results = []
    for device in (here().device, torch.device("cpu")):
        fake, real, mask = (part.to(device) for part in masked())
        fake.requires_grad_()
        value = term(fake, real, mask)
        value.sum().backward()
        results.append((value.detach().cpu(), (fake.grad * mask).cpu()))  # a step fills its images under the mask
    (value, gradient), (expected, slope) = results
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5)
    assert (gradient - slope).norm() <= 1e-2 * slope.norm()  # a sign or a ReLU at 0 may fall either way
    assert expected.min() > 0 and slope.norm() > 0


@pytest.mark.parametrize("name", [name for name in METRICS.names() if not of_sets(name) and name != "lpips"])
def test_a_metric_has_the_value_of_the_processor(name):
    metric, parts = METRICS.part(name).build(), [(x + 1) / 2 for x in masked()[:2]] + [masked()[2]]
    value = metric(*(part.to(here().device) for part in parts))
    assert value.device.type == DEVICE
    torch.testing.assert_close(value.cpu(), metric(*parts), rtol=1e-3, atol=1e-3)


# -- trials -------------------------------------------------------------------------------------

STATEFUL = {
    "dropout": 0.5, "tile": 64, "norm": "spectral", "norm_g": "batch", "ema": Ema(decay=0.9), "stages": True,
    "updates": (1, 2),
}  # fmt: skip
STEPS, STOP_AFTER = 6, 4


def trial(root: Path, name: str, of: Recipe) -> TrialFolder:
    spec: TrialSpec = replace(tiny.spec(of), device=DEVICE)
    return tiny.trial_folder(root, spec, name)


def train_until(folder: TrialFolder, stop_after: int | None, monkeypatch) -> None:
    """A process that trains the trial in `folder`; its stop flag is raised during update number `stop_after`."""
    advance = Training.advance

    def counted(training: Training) -> None:
        advance(training)
        if training.done == stop_after:
            folder.stop.touch()

    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", counted)
        train.run(folder.root)


def close(one, two) -> None:
    """Equal bit for bit on the processor; nearly so where sums may come in another order."""
    tolerance = {"rtol": 0, "atol": 0} if DEVICE == "cpu" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(one, two, **tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_that_is_interrupted_ends_as_one_that_is_not(root, precision, monkeypatch, repeatable):
    of = recipe({**STATEFUL, "compute": Compute(precision=precision)}, steps=STEPS)
    whole, cut = (trial(root, f"{kind} {precision}", of) for kind in ("whole", "cut"))
    train_until(whole, None, monkeypatch)
    train_until(cut, STOP_AFTER, monkeypatch)
    assert Checkpoints(cut.checkpoints).newest()["step"] == STOP_AFTER
    assert not any(isinstance(event, events.Ended) for event in events.read(cut.events))
    cut.stop.unlink()
    train_until(cut, None, monkeypatch)
    first, second = (events.fold("trial", events.read(folder.events)) for folder in (whole, cut))
    assert first.status is second.status is Status.done and set(first.scores) == set(tiny.METRICS)
    assert first.curves.keys() == second.curves.keys()
    numbers = [{str(key): torch.tensor(rows) for key, rows in found.curves.items()} for found in (first, second)]
    assert all(rows.isfinite().all() for rows in numbers[0].values())
    close(*numbers)
    close(*(tiny.tensors(read(folder.checkpoints / FINAL)["generator"]) for folder in (whole, cut)))


def test_a_trial_says_what_it_ran_on_and_its_result_is_read_anywhere(root, monkeypatch):
    folder = trial(root, "said", recipe({"norm_g": "batch"}))
    train_until(folder, None, monkeypatch)
    started = next(event for event in events.read(folder.events) if isinstance(event, events.Started))
    if DEVICE == "cuda":
        assert started.device == torch.cuda.get_device_name()
    state = read(folder.checkpoints / FINAL)["generator"]
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}
    begun(recipe({"norm_g": "batch"}), root, Ranks()).generator.load_state_dict(state)


# -- a process group of one ---------------------------------------------------------------------

GROUPED: dict[str, Row] = {
    "wgan_gp": {"objective": "wgan_gp", "updates": (1, 2)},
    "wgan_gp, two scales, spectral": {"objective": "wgan_gp", "norm": "spectral", "scales": 2},
    "sync_batch": {"norm": "sync_batch", "norm_g": "sync_batch"},
    "feature matching": {"objective": "hinge", "terms": ("l1", "feature_matching")},
}


@pytest.fixture
def job(monkeypatch) -> None:
    """The environment that a launcher gives the only rank of a job."""
    given = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if "GLOO_SOCKET_IFNAME" not in os.environ:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")


@pytest.mark.filterwarnings("ignore:Grad strides do not match")  # of speed, in maps of one channel
@pytest.mark.parametrize("name", GROUPED)
def test_one_rank_of_a_process_group_is_the_plain_process(root, name, repeatable, request):
    of = recipe(GROUPED[name])
    plain = first_updates(of, root, here(), 1)
    request.getfixturevalue("job")
    with join(DEVICE) as ranks:
        assert dist.get_backend() == ("nccl" if DEVICE == "cuda" else "gloo")
        found = first_updates(of, root, ranks, 1)
        training = begun(of, root, ranks)
        assert not any(isinstance(network, DistributedDataParallel)  # a rank that is alone has nobody to agree with
                       for network in (training.steps.generator, training.steps.discriminator))  # fmt: skip
        for _ in range(FEW):
            training.advance()
        assert ranks.agree(True)
        values = tiny.logged(training)
    assert all(np.isfinite(value) for value in values.values()), values
    assert not dist.is_initialized()
    check_alike(found, plain, 1e-4)


def test_a_trial_of_one_rank_of_a_process_group_ends(root, monkeypatch, job):
    folder = trial(root, "grouped", recipe({"objective": "wgan_gp"}))
    train_until(folder, None, monkeypatch)
    assert events.fold("trial", events.read(folder.events)).status is Status.done
