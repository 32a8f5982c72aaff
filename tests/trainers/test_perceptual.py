"""The perceptual term beside torchvision's network, and where its weights may come from."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from ablate import events
from ablate.records import Status
from ablate.resolve import ResolveError, identity_document, resolve
from tests.trainers import tiny
from trainers import entry, train, weightfiles, weights
from trainers.families import TERMS, build
from trainers.options import places
from trainers.pairs import DataError
from trainers.recipe import DEFAULTS
from trainers.terms import perceptual
from trainers.terms._vgg19 import MEAN, STD, Features, convolutions, random_state, shapes
from trainers.vision import import_torchvision

LAYERS = get_args(perceptual.Layer)
SHALLOW = ("relu1_1", "relu2_1")
RANDOM = perceptual.Options(weights="random")
BASE = {**DEFAULTS, "budget": {"images": 8}, "evaluate": {"every": 8}}


def images(seed: int, bands: int = 3, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (2, bands, side, side)).astype(np.float32))


def loss(options: perceptual.Options, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return build(TERMS, options)(fake, real, torch.ones_like(real[:, :1]))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved(folder: Path, state: object, **options) -> perceptual.Options:
    """A term whose weights are `state`, saved where it looks for them."""
    torch.save(state, folder / "new.pth", **options)
    sha = digest(folder / "new.pth")
    (folder / "new.pth").rename(folder / f"vgg19-{sha[:8]}.pth")
    return perceptual.Options(weights="file", sha256=sha)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The folder named by ABLATE_WEIGHTS; torch.hub's cache is an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def deep() -> dict[str, torch.Tensor]:
    """Random weights of all convolutions, with biases, which our own random weights lack."""
    draw = torch.Generator().manual_seed(1)
    biases = {name: 0.1 * torch.randn(shape, generator=draw) for name, shape in shapes(LAYERS).items()}
    return random_state(LAYERS) | {name: value for name, value in biases.items() if name.endswith("bias")}


# -- the network ----------------------------------------------------------------------------------


def test_every_layer_equals_torchvisions_after_its_normalisation(deep):
    from torch import nn

    models = import_torchvision().models
    theirs = models.vgg.make_layers(models.vgg.cfgs["E"], batch_norm=False).eval()
    theirs.load_state_dict({name.removeprefix("features."): value for name, value in deep.items()})
    fake = images(0)
    transforms = models.VGG19_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transforms.mean, transforms.std))
    x, expected = ((fake + 1) / 2 - mean) / std, []
    with torch.no_grad():
        for module in theirs:
            x = module(x)
            expected += [x.clone()] if isinstance(module, nn.ReLU) else []
        found = Features(LAYERS, deep)(fake)
    assert len(found) == len(expected) == len(LAYERS) == 16
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other)


def test_the_published_file_and_normalisation_are_torchvisions():
    published = import_torchvision().models.VGG19_Weights.IMAGENET1K_V1
    assert weights.VGG19.url == published.url and published.url.endswith("/" + weights.VGG19.name)
    assert weights.VGG19.name == f"vgg19-{weights.VGG19.sha256}.pth"
    assert (MEAN, STD) == (tuple(published.transforms().mean), tuple(published.transforms().std))


def test_only_the_convolutions_up_to_the_deepest_layer_are_built():
    network = Features(SHALLOW, random_state(SHALLOW))
    assert sum(parameter.numel() for parameter in network.parameters()) == 112_576
    assert [at.layer for at in convolutions(("relu2_1", "relu1_1"))] == ["relu1_1", "relu1_2", "relu2_1"]
    whole = Features(LAYERS, random_state(LAYERS))
    assert sum(parameter.numel() for parameter in whole.parameters()) == 20_024_384  # VGG19 without its classifier


def test_nothing_in_the_network_learns_and_building_it_draws_nothing(folder):
    before = torch.get_rng_state()
    fake = images(0).requires_grad_()
    term = build(TERMS, RANDOM)
    term(fake, images(1), torch.ones(2, 1, 32, 32)).sum().backward()
    assert fake.grad.abs().max() > 0
    assert torch.equal(torch.get_rng_state(), before)
    network = Features(SHALLOW, random_state(SHALLOW))
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


# -- the loss -------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_over_layers_of_mean_absolute_differences():
    fake, real = images(0), images(1)
    network = Features(SHALLOW, random_state(SHALLOW))
    parts = [
        np.abs(a.numpy().astype(np.float64) - b.numpy()).reshape(2, -1).mean(axis=1)
        for a, b in zip(network(fake), network(real), strict=True)
    ]
    assert loss(RANDOM, fake, real).numpy() == pytest.approx((parts[0] + parts[1]) / 2, rel=1e-5)
    for layer, part in zip(SHALLOW, parts, strict=True):
        one = perceptual.Options(weights="random", layers=(layer,))
        assert loss(one, fake, real).numpy() == pytest.approx(part, rel=1e-5)


def test_random_weights_are_the_same_each_time_and_a_deeper_layer_leaves_the_others_alone():
    shallow, deeper = random_state(SHALLOW), random_state((*SHALLOW, "relu3_1"))
    assert all(torch.equal(shallow[name], deeper[name]) for name in shallow) and len(deeper) == len(shallow) + 4
    assert torch.equal(loss(RANDOM, images(0), images(1)), loss(RANDOM, images(0), images(1)))


def test_three_bands_are_chosen_and_the_others_do_not_count():
    fake, real = images(0, bands=5), images(1, bands=5)
    chosen = perceptual.Options(weights="random", bands=(4, 3, 1))
    expected = loss(RANDOM, fake[:, [3, 2, 0]], real[:, [3, 2, 0]])
    assert torch.equal(loss(chosen, fake, real), expected)
    fake[:, [1, 4]] = 0
    assert torch.equal(loss(chosen, fake, real), expected)


def test_a_single_band_is_grey_and_bands_that_are_not_there_are_named():
    fake, real = images(0, bands=1), images(1, bands=1)
    assert torch.equal(loss(RANDOM, fake, real), loss(RANDOM, fake.expand(-1, 3, -1, -1), real.expand(-1, 3, -1, -1)))
    with pytest.raises(DataError, match=r"bands: \[1, 2, 3\], but the optical images have 2 bands"):
        loss(RANDOM, images(0, bands=2), images(1, bands=2))


def test_features_are_taken_in_fp32_also_under_autocast():
    expected = loss(RANDOM, images(0), images(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = loss(RANDOM, images(0), images(1))
    assert under.dtype == torch.float32
    assert torch.equal(under, expected)
    halves = [images(seed).bfloat16() for seed in (0, 1)]
    assert torch.equal(loss(RANDOM, *halves), loss(RANDOM, *(half.float() for half in halves)))


# -- where weights come from ----------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_is_found_by_its_hash_and_may_hold_more_than_is_needed(folder, deep, zipped):
    state = {**deep, "classifier.0.weight": torch.zeros(3)}
    options = saved(folder, state, _use_new_zipfile_serialization=zipped)
    network = Features(SHALLOW, deep)
    with torch.no_grad():
        pairs = zip(network(images(0)), network(images(1)), strict=True)
        expected = torch.stack([(a - b).abs().mean(dim=(1, 2, 3)) for a, b in pairs]).mean(dim=0)
    torch.testing.assert_close(loss(options, images(0), images(1)), expected)


def test_torch_hubs_cache_is_looked_into_as_well(folder, monkeypatch):
    options = saved(folder, random_state(SHALLOW))
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    cache.parent.mkdir(parents=True)
    folder.rename(cache)
    assert torch.equal(loss(options, images(0), images(1)), loss(RANDOM, images(0), images(1)))
    monkeypatch.delenv(weights.VARIABLE)
    assert weights.folders() == [cache]
    assert torch.equal(loss(options, images(0), images(1)), loss(RANDOM, images(0), images(1)))


def test_half_precision_on_disk_is_fp32_in_use(folder):
    options = saved(folder, {name: value.half() for name, value in random_state(SHALLOW).items()})
    assert loss(options, images(0), images(1)).numpy() == pytest.approx(
        loss(RANDOM, images(0), images(1)).numpy(), rel=1e-3
    )


def test_a_missing_file_is_named_with_the_folders_where_it_may_lie(folder):
    options = perceptual.Options(weights="file", sha256="0123abcd" * 8)
    with pytest.raises(DataError) as caught:
        build(TERMS, options)
    for text in ("vgg19-0123abcd.pth", options.sha256, str(folder), torch.hub.get_dir(), weights.VARIABLE):
        assert text in str(caught.value)


def test_another_content_under_the_name_is_refused(folder):
    options = saved(folder, random_state(SHALLOW))
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=f"{path.name}: its sha256 is {digest(path)}, expected {options.sha256}"):
        build(TERMS, options)
    (folder / weights.VGG19.name).write_bytes(b"half a download")
    with pytest.raises(DataError, match="expected one that begins with dcbb9e9d"):
        build(TERMS, perceptual.Options())


class Code:
    def __reduce__(self):
        return print, ("code of a stranger ran",)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "no tensor features.0.weight"),
        ([1, 2], "no tensor features.0.weight"),
        ({"features.0.weight": torch.zeros(64, 1, 3, 3)}, r"shape \(64, 1, 3, 3\), expected \(64, 3, 3, 3\)"),
        ({"features.0.weight": Code()}, "not a state dict"),
    ],
)
def test_a_file_that_holds_no_such_tensors_is_refused_and_never_run(folder, capsys, state, says):
    with pytest.raises(DataError, match=says):
        build(TERMS, saved(folder, state))
    assert "stranger" not in capsys.readouterr().out


def test_a_file_that_torch_did_not_write_is_refused(folder):
    for content in (b"", b"hello", b"PK\x03\x04 no zip", bytes(range(256))):
        sha = hashlib.sha256(content).hexdigest()
        (folder / f"vgg19-{sha[:8]}.pth").write_bytes(content)
        with pytest.raises(DataError, match="not a state dict"):
            build(TERMS, perceptual.Options(weights="file", sha256=sha))


def test_published_weights_are_downloaded_once_and_checked(folder, tmp_path, monkeypatch):
    torch.save(random_state(SHALLOW), tmp_path / "far")
    sha = digest(tmp_path / "far")[:8]
    (tmp_path / "far").rename(tmp_path / f"vgg19-{sha}.pth")
    published = weights.WeightsFile(f"vgg19-{sha}.pth", sha, (tmp_path / f"vgg19-{sha}.pth").as_uri())
    monkeypatch.setattr(weightfiles, "VGG19", published)
    first = loss(perceptual.Options(), images(0), images(1))
    assert torch.equal(first, loss(RANDOM, images(0), images(1)))
    (tmp_path / f"vgg19-{sha}.pth").unlink()
    assert torch.equal(loss(perceptual.Options(), images(0), images(1)), first)


@pytest.mark.parametrize("content", [None, b"a captive portal"])
def test_a_failed_download_says_which_file_to_put_where(folder, tmp_path, content):
    if content:
        (tmp_path / "far.pth").write_bytes(content)
    file = weights.WeightsFile("vgg19-dcbb9e9d.pth", "dcbb9e9d", (tmp_path / "far.pth").as_uri())
    with pytest.raises(DataError) as caught:
        weights.load(file, shapes(SHALLOW))
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for text in (file.name, "begins with dcbb9e9d", f"put that file into {folder} or {cache}", file.url, "failed"):
        assert text in str(caught.value)
    assert not list(cache.glob("vgg19*"))


def test_only_published_weights_need_more_than_torch(folder):
    options = saved(folder, random_state(SHALLOW))
    code = (
        "import sys, torch; from trainers.terms.perceptual import Options, build\n"
        f"build({options!r}); build(Options(weights='random')); print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False"]


# -- in a study -----------------------------------------------------------------------------------


def test_the_hash_is_part_of_what_determines_a_trial_and_no_path_is():
    own = [{"weight": 1, "weights": "file", "sha256": digit * 64} for digit in "ab"]
    documents = [identity_document(resolve(BASE, {"terms": {"perceptual": term}}).recipe) for term in own]
    assert documents[0] != documents[1] and documents[0]["terms"]["perceptual"]["sha256"] == "a" * 64
    assert not places(perceptual.Options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": "file"}, "found none"),
        ({"weights": "file", "sha256": "AB" * 32}, "lower case"),
        ({"weights": "file", "sha256": "ab"}, "64 hex digits"),
        ({"weights": "random", "sha256": "ab" * 32}, "take it away"),
        ({"layers": []}, "at least one layer"),
        ({"layers": ["relu1_1", "relu1_1"]}, "none twice"),
        ({"layers": ["relu1_3"]}, "relu1_2"),
        ({"bands": [0, 1, 2]}, "at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_study_is_checked(options, says):
    with pytest.raises(ResolveError, match=says) as caught:
        resolve(BASE, {"terms": {"perceptual": {"weight": 1, **options}}})
    assert caught.value.errors[0][0][:2] == ("terms", "perceptual")


def test_a_worker_finds_the_file_and_without_it_the_data_are_to_blame(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(entry, "end_with_parent", lambda: None)
    options = saved(folder, random_state(SHALLOW))
    recipe = tiny.recipe(steps=2, every=2)
    recipe = type(recipe)(**{**vars(recipe), "terms": {"perceptual": options}})
    trial = tiny.trial_folder(tmp_path / "runs", tiny.spec(recipe))
    (path,) = folder.iterdir()
    path.rename(tmp_path / path.name)
    with pytest.raises(DataError):
        entry.main("run", str(trial.root))
    words = json.loads(trial.error(0).read_text())
    assert words["kind"] == "data" and path.name in words["message"]
    (tmp_path / path.name).rename(path)
    train.run(trial.root)
    found = events.fold("trial", events.read(trial.events))
    assert found.status is Status.done and found.curves["train", "term/perceptual"][-1][2] > 0
