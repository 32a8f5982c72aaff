"""Starting from weights in a file: pix2pix's own networks compute the same here, and what does not fit is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainers import pix2pix, tiny
from trainers import checkpoint, start, start_rules, startfile, tensorfile, traits
from trainers.apply import load_generator
from trainers.families import DISCRIMINATORS, GENERATORS, build
from trainers.pairs import DataError
from trainers.ranks import Ranks
from trainers.recipe import Ema, Recipe, Start
from trainers.tiles import Tiles
from trainers.training import Training

NORMS = ("batch", "instance", "none")


def unet(*, tile: int = 32, bands: tuple[int, int] = (2, 3), **options):
    part = GENERATORS.options("unet")(**{"width": 4, **options})
    return build(GENERATORS, part, tile=tile, bands_in=bands[0], bands_out=bands[1])


def patchgan(*, bands: int = 5, **options):
    part = DISCRIMINATORS.options("patchgan")(**{"width": 4, **options})
    return build(DISCRIMINATORS, part, bands=bands)


def saved(path: Path, content: object, **how) -> Path:
    torch.save(content, path, **how)
    return path


def parameters(network: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.parameters())


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# -- the published networks -----------------------------------------------------------------------


def test_the_published_networks_have_their_known_sizes():
    assert parameters(pix2pix.UnetGenerator(3, 3, 8)) == 54_413_955
    assert parameters(pix2pix.NLayerDiscriminator(6)) == 2_768_705


def test_a_published_unet_256_computes_the_same_here(tmp_path):
    theirs = pix2pix.stir(pix2pix.UnetGenerator(3, 3, 8, dropout=True))
    ours = unet(tile=256, bands=(3, 3), width=64, dropout=0.5)
    start.load(ours, saved(tmp_path / "latest_net_G.pth", theirs.state_dict()), role="generator")
    x = images(1, 3, 256, 256)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("halvings", [5, 6, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_a_published_generator_computes_the_same_here(tmp_path, norm, halvings):
    theirs = pix2pix.stir(pix2pix.UnetGenerator(2, 3, halvings, width=4, norm=norm))
    ours = unet(tile=2**halvings, norm=norm)
    start.load(ours, saved(tmp_path / "latest_net_G.pth", theirs.state_dict()), role="generator")
    x = images(2, 2, 2**halvings, 2**halvings)
    for mode in (True, False):
        a, b = ours.train(mode)(x), theirs.train(mode)(x)
        assert torch.equal(a, b)
        assert a.std() > 0.01  # not all at the ends of tanh


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", NORMS)
def test_a_published_discriminator_computes_the_same_here(tmp_path, norm, layers):
    theirs = pix2pix.stir(pix2pix.NLayerDiscriminator(5, width=4, layers=layers, norm=norm))
    ours = patchgan(norm=norm, layers=layers)
    start.load(ours, saved(tmp_path / "latest_net_D.pth", theirs.state_dict()), role="discriminator")
    sar, optical = images(2, 2, 64, 64), images(2, 3, 64, 64)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(sar, optical)[0], theirs.train(mode)(torch.cat([sar, optical], 1)))


def test_training_a_published_generator_updates_its_running_statistics_alike(tmp_path):
    theirs = pix2pix.stir(pix2pix.UnetGenerator(2, 3, 5, width=4))
    ours = unet()
    start.load(ours, saved(tmp_path / "g.pth", theirs.state_dict()), role="generator")
    x = images(2, 2, 32, 32)
    ours.train()(x), theirs.train()(x)
    again = unet()
    start.load(again, saved(tmp_path / "later.pth", theirs.state_dict()), role="generator")
    assert equal(again, ours)


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "before torch 1.6"])
def test_files_of_old_torch_and_of_data_parallel_are_read(tmp_path, how):
    theirs = pix2pix.stir(pix2pix.UnetGenerator(2, 3, 5, width=4, norm="instance"))
    state = theirs.state_dict()
    wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
    layer = "module.model.model.1.model.3.model.2"  # torch before 0.4 kept statistics of instance norms
    leftovers = {f"{layer}.running_mean": torch.ones(16), f"{layer}.running_var": torch.ones(16)}
    ours, same = unet(norm="instance"), unet(norm="instance")
    start.load(ours, saved(tmp_path / "a.pth", {**wrapped, **leftovers}, **how), role="generator")
    start.load(same, saved(tmp_path / "b.pth", state), role="generator")
    assert equal(ours, same)


def test_counts_of_batches_may_be_missing_as_in_files_of_torch_before_0_4_1(tmp_path):
    theirs = pix2pix.stir(pix2pix.NLayerDiscriminator(5, width=4))
    state = {key: tensor for key, tensor in theirs.state_dict().items() if "num_batches" not in key}
    ours = patchgan()
    start.load(ours, saved(tmp_path / "d.pth", state), role="discriminator")
    x = images(1, 5, 32, 32)
    assert torch.equal(ours.eval()(x[:, :2], x[:, 2:])[0], theirs.eval()(x))


@pytest.mark.parametrize("norm", NORMS)
def test_load_generator_reads_a_published_generator_by_itself(tmp_path, norm):
    theirs = pix2pix.stir(pix2pix.UnetGenerator(2, 3, 6, width=4, norm=norm))
    ours = load_generator(saved(tmp_path / "latest_net_G.pth", theirs.state_dict()))
    x = images(1, 2, 64, 64)
    with torch.no_grad():
        assert ours.bands_in == 2 and torch.equal(ours(x), theirs.eval()(x))


# -- checkpoints of ours --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Tiles:
    return Tiles.open(tiny.prepared(tmp_path_factory.mktemp("tiles")))


def trained(tiles: Tiles, recipe: Recipe, *, steps: int = 2, start: dict[str, Path] | None = None) -> Training:
    training = Training(recipe, tiny.spec(recipe), tiles, Ranks(), start)
    for _ in range(steps):
        training.advance()
    return training


def started(recipe: Recipe, **paths: Path) -> Recipe:
    """The recipe as a worker reads it: digests in place of paths."""
    from ablate.startfiles import digest

    return replace(recipe, start=Start(**{role: digest(path) for role, path in paths.items()}))


@pytest.mark.parametrize("norm", ["batch", "spectral", "instance"])
def test_both_networks_of_a_checkpoint_are_taken_up(tiles, tmp_path, norm):
    recipe = tiny.recipe(norm=norm, norm_g="batch")
    before = trained(tiles, recipe)
    path = saved(tmp_path / "step.pt", before.state_dict())
    files = {"generator": path, "discriminator": path}
    after = trained(tiles, started(recipe, **files), steps=0, start=files)
    assert equal(after.generator, before.generator) and equal(after.discriminator, before.discriminator)


def test_of_a_checkpoint_with_an_average_the_average_is_taken_and_a_new_average_begins_there(tiles, tmp_path):
    recipe = tiny.recipe(ema=Ema(decay=0.9))
    before = trained(tiles, recipe, steps=4)
    assert not equal(before.average.network, before.generator)
    path = saved(tmp_path / "step.pt", before.state_dict())
    after = trained(tiles, started(recipe, generator=path), steps=0, start={"generator": path})
    assert equal(after.generator, before.average.network) and equal(after.average.network, after.generator)


def test_only_the_named_network_starts_from_the_file(tiles, tmp_path):
    recipe = tiny.recipe()
    path = saved(tmp_path / "step.pt", trained(tiles, recipe).state_dict())
    scratch = trained(tiles, recipe, steps=0)
    after = trained(tiles, started(recipe, generator=path), steps=0, start={"generator": path})
    assert not equal(after.generator, scratch.generator)
    assert equal(after.discriminator, scratch.discriminator)


def test_the_generator_of_a_finished_trial_is_taken_up_whatever_the_rest_of_its_recipe(tiles, tmp_path):
    before = trained(tiles, tiny.recipe(objective="lsgan", terms=("ssim",)))
    recipe = tiny.recipe()
    path = tmp_path / checkpoint.FINAL
    checkpoint.write(path, {"generator": before.result.state_dict(), "recipe": {}, "bands": [2, 3], "tile": 32})
    after = trained(tiles, started(recipe, generator=path), steps=0, start={"generator": path})
    assert equal(after.generator, before.generator)
    with pytest.raises(DataError, match="holds no discriminator: a trial that has ended keeps its generator alone"):
        start.load(after.discriminator, path, role="discriminator")


def test_a_resumed_trial_goes_on_from_its_checkpoint_and_not_from_the_start(tiles, tmp_path):
    path = saved(tmp_path / "step.pt", trained(tiles, tiny.recipe()).state_dict())
    recipe, files = started(tiny.recipe(steps=4), generator=path), {"generator": path}
    whole = trained(tiles, recipe, steps=4, start=files)
    first = trained(tiles, recipe, steps=2, start=files)
    second = trained(tiles, recipe, steps=0, start=files)
    second.load_state_dict(first.state_dict())
    second.advance(), second.advance()
    assert equal(second.generator, whole.generator) and equal(second.discriminator, whole.discriminator)


def test_a_copy_that_was_damaged_is_refused(tiles, tmp_path):
    path = saved(tmp_path / "step.pt", trained(tiles, tiny.recipe()).state_dict())
    recipe = started(tiny.recipe(), generator=path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="its sha256 is [0-9a-f]{64}, expected"):
        trained(tiles, recipe, steps=0, start={"generator": path})


# -- what does not fit ----------------------------------------------------------------------------


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "before torch 1.6"])
def test_a_file_that_would_run_code_is_refused_and_nothing_is_run(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "latest_net_G.pth", {"model.model.0.weight": Attack()}, **how)
    for read in (start.read, tensorfile.read):
        with pytest.raises(DataError, match=r"it names posix.system, which only running code .* none is run; save"):
            read(path)
    assert not (tmp_path / "attacked").exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    path = saved(tmp_path / "model.pt", torch.nn.Conv2d(3, 3, 3))
    for read in (start.read, tensorfile.read):
        with pytest.raises(DataError, match="names torch.nn.modules.conv.Conv2d"):
            read(path)


def damaged(folder: Path) -> dict[str, Path]:
    whole = saved(folder / "whole.pt", {"a": torch.zeros(9)}).read_bytes()
    contents = {"empty": b"", "text": b"not weights\n", "cut": whole[: len(whole) // 2],
                "picture": b"\x89PNG\r\n\x1a\n", "plain pickle": pickle.dumps({"a": 1}, protocol=2)}  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "archive", "w") as archive:
        archive.writestr("a.txt", "no weights")
    return {name: folder / name for name in [*contents, "archive"]}


def test_what_torch_did_not_write_is_refused(tmp_path):
    for path in damaged(tmp_path).values():
        for read in (start.read, tensorfile.read):
            with pytest.raises(DataError, match=f"{path.name}: not a file that torch.save wrote"):
                read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for read in (start.read, tensorfile.read):
        with pytest.raises(DataError, match="nowhere.pt: no such file"):
            read(tmp_path / "nowhere.pt")
        with pytest.raises(DataError, match="is a folder"):
            read(tmp_path)


MISFITS = {
    "its first convolution reads 3 bands, the data has 2 SAR bands": {"bands": (3, 3)},
    "it makes 4 bands, the data has 3 optical bands": {"bands": (2, 4)},
    "it has width 8, the recipe asks for width 4": {"width": 8},
    "it has depth 4, the recipe asks for depth 5": {"depth": 4},
    "it has norm instance or none, the recipe asks for norm batch": {"norm": "instance"},
    "it has skip add, the recipe asks for skip concat": {"skip": "add"},
    "it has skip gated, the recipe asks for skip concat": {"skip": "gated"},
    "it has fusion true, the recipe asks for fusion false": {"fusion": True},
}


@pytest.mark.parametrize("said", MISFITS)
def test_another_generator_is_refused_with_what_differs(tmp_path, said):
    path = saved(tmp_path / "g.pt", unet(**MISFITS[said]).state_dict())
    ours = unet()
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    with pytest.raises(DataError, match=f"g.pt: {said}$"):
        start.load(ours, path, role="generator")
    assert all(torch.equal(before[key], tensor) for key, tensor in ours.state_dict().items())


D_MISFITS = {
    "reads 6 bands, the data has 5 SAR and optical bands together": {"bands": 6},
    "it has layers 2, the recipe asks for layers 3": {"layers": 2},
    "it has scales 2, the recipe asks for scales 1": {"scales": 2},
    "it has norm spectral, the recipe asks for norm batch": {"norm": "spectral"},
    "it has width 8, the recipe asks for width 4": {"width": 8},
}


@pytest.mark.parametrize("said", D_MISFITS)
def test_another_discriminator_is_refused_with_what_differs(tmp_path, said):
    path = saved(tmp_path / "d.pt", patchgan(**D_MISFITS[said]).state_dict())
    with pytest.raises(DataError, match=f"{said}$"):
        start.load(patchgan(), path, role="discriminator")


def test_a_discriminator_given_as_generator_is_refused_and_the_other_way_round(tmp_path):
    g = saved(tmp_path / "g.pth", pix2pix.UnetGenerator(2, 3, 5, width=4).state_dict())
    d = saved(tmp_path / "d.pth", pix2pix.NLayerDiscriminator(5, width=4).state_dict())
    with pytest.raises(DataError, match=r"holds a discriminator \(a PatchGAN\), not a generator"):
        start.load(unet(), d, role="generator")
    with pytest.raises(DataError, match=r"holds a generator \(a U-Net\), not a discriminator"):
        start.load(patchgan(), g, role="discriminator")


@pytest.mark.parametrize(
    "content, said",
    [
        ({"epoch": 3, "state_dict": {}}, "holds a mapping of epoch, state_dict; expected a checkpoint of ablate's"),
        ({"features.0.weight": torch.zeros(1)}, "it lacks downs.0.0.weight"),
        ({"model.1.weight": torch.zeros(1), "model.10.conv_block.1.weight": torch.zeros(1)}, "ResNet generator"),
        ({"downs.0.0.weight": torch.zeros(1)}, "it lacks downs.1.1.weight"),
        ([1, 2], "holds a list"),
        ({}, "holds nothing"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        start.load(unet(), saved(tmp_path / "x.pt", content), role="generator")


# -- without torch --------------------------------------------------------------------------------


def all_networks() -> dict[str, tuple[str, torch.nn.Module]]:
    found = {}
    for said, options in MISFITS.items():
        found[said] = ("generator", unet(**options))
    for said, options in D_MISFITS.items():
        found[said] = ("discriminator", patchgan(**options))
    return found


def test_traits_read_without_torch_are_those_of_the_network(tmp_path):
    for role, network in all_networks().values():
        path = saved(tmp_path / "n.pt", {"generator": network.state_dict(), "discriminator": network.state_dict()})
        seen = startfile.weights(tensorfile.read(path), role, path)
        assert {key: tuple(t.shape) for key, t in network.state_dict().items()} == {k: s.shape for k, s in seen.items()}
        assert traits.of_state(seen) == traits.of_state(network.state_dict()) != {}


@pytest.mark.parametrize("norm", ["batch", "sync_batch", "instance", "none"])
@pytest.mark.parametrize("options", [{}, {"skip": "add"}, {"skip": "gated"}, {"fusion": True}, {"depth": 3}], ids=str)
def test_a_recipe_promises_the_traits_that_its_generator_has(norm, options):
    part = GENERATORS.options("unet")(width=4, norm=norm, **options)
    network = build(GENERATORS, part, tile=32, bands_in=2, bands_out=3)
    promised = traits.of_recipe(part, tile=32)
    found = traits.of_state(network.state_dict())
    assert {key: found[key] for key in promised} == promised


@pytest.mark.parametrize("norm", ["batch", "sync_batch", "instance", "none", "spectral"])
@pytest.mark.parametrize("options", [{}, {"layers": 1}, {"scales": 3}], ids=str)
def test_a_recipe_promises_the_traits_that_its_discriminator_has(norm, options):
    part = DISCRIMINATORS.options("patchgan")(width=4, norm=norm, **options)
    promised = traits.of_recipe(part, tile=32)
    found = traits.of_state(build(DISCRIMINATORS, part, bands=5).state_dict())
    assert {key: found[key] for key in promised} == promised


def test_rules_refuse_what_does_not_fit_the_recipe_and_bands_once_they_are_known(tmp_path):
    theirs = pix2pix.UnetGenerator(3, 3, 5, width=4, norm="instance")
    path = saved(tmp_path / "g.pth", theirs.state_dict())
    recipe = replace(tiny.recipe(), start=Start(generator=str(path)))
    assert list(start_rules.start_refusals(recipe)) == []
    (refusal,) = start_rules.band_refusals(recipe, bands_in=2, bands_out=3)
    said = "its first convolution reads 3 bands, the data has 2 SAR bands"
    assert refusal == (("start", "generator"), f"{path}: {said}")
    assert list(start_rules.band_refusals(recipe, bands_in=3, bands_out=3)) == []
    wide = replace(recipe, generator=replace(recipe.generator, width=8))
    (refusal,) = start_rules.start_refusals(wide)
    assert refusal[1].endswith("it has width 4, the recipe asks for width 8")


def test_a_file_that_changed_on_disk_is_read_again(tmp_path):
    path = saved(tmp_path / "g.pt", unet(norm="instance").state_dict())
    recipe = replace(tiny.recipe(), start=Start(generator=str(path)))
    assert list(start_rules.start_refusals(recipe)) == []
    saved(path, unet(norm="instance", width=8).state_dict())
    assert len(list(start_rules.start_refusals(recipe))) == 1


def test_another_norm_that_the_weights_do_not_show_is_said(tmp_path):
    content = {"generator": unet(norm="instance").state_dict(), "recipe": tiny.recipe().to_document()}
    path = saved(tmp_path / "generator.pt", content)
    for norm, said in (("instance", []), ("none", [
        "generator.pt was trained with norm instance; the same weights compute something else with norm none"])):
        recipe = replace(tiny.recipe(norm_g=norm), start=Start(generator=str(path)))
        assert list(start_rules.start_refusals(recipe)) == []
        assert list(start_rules.start_cautions(recipe))[1:] == said  # fmt: skip


def test_cautions_say_what_seeds_still_vary():
    recipe = tiny.recipe()
    assert list(start_rules.start_cautions(recipe)) == []
    (one,) = start_rules.start_cautions(replace(recipe, start=Start(generator="g.pt")))
    assert one.endswith("same generator: the spread over seeds is that of the discriminator's first weights and the "
                        "order of the data alone")  # fmt: skip
    both = replace(tiny.recipe(dropout=0.5), start=Start(generator="g.pt", discriminator="d.pt"))
    (two,) = start_rules.start_cautions(both)
    assert two.endswith("generator and discriminator: the spread over seeds is that of the order of the data and "
                        "dropout alone")  # fmt: skip
