"""Every option of every part changes numbers when it alone is changed.

`SECOND` gives each option another value. A new option without one fails here, by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate import events
from tests.trainers import tiny
from trainers import train
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, OBJECTIVES, TERMS, part_name
from trainers.ranks import Ranks
from trainers.recipe import PARTS, PLAIN, Budget, Ema, Evaluate, Optimizer, Plateau, Recipe, Stage, Start, Timing
from trainers.terms import _vgg19
from trainers.weights import VARIABLE, local

WEIGHTS, LOGGED, SCORED, LAID_OUT, ENDED = "weights", "logged", "scored", "laid out", "ended"

# Options that the preparation of the data alone reads; the numbers of a training see its tiles.
PREPARATION = {
    "tile": "tests/trainers/test_prepare.py: another tile is another set of tiles",
    "misregistration": "tests/trainers/test_misregistration.py",
    **{f"split.{name}": "tests/trainers/test_prepare.py: whole scenes, by share and seed"
       for name in ("validation", "test", "seed")},
    "split.guard": "tests/trainers/test_prepare.py: scenes that lie side by side stay together",
    "sar.domain": "tests/trainers/test_domains.py", "sar.bands": "tests/trainers/test_raster.py",
    **{f"sar.{name}": "tests/trainers/test_ranges.py: changed alone, it changes SAR tiles and nothing else"
       for name in ("scale", "range", "low", "high", "percentiles", "despeckle", "window", "looks")},
    "optical.bands": "tests/trainers/test_raster.py",
    **{f"optical.{name}": "tests/trainers/test_ranges.py: changed alone, it changes optical tiles and nothing else"
       for name in ("offset", "scale", "range", "percentiles")},
    "scenes": "tests/trainers/test_synthesis.py", "size": "tests/trainers/test_synthesis.py",
    "stride": "tests/trainers/test_tiles.py", "seed": "tests/trainers/test_synthesis.py",
    "root": "tests/trainers/test_layouts.py", "table": "tests/trainers/test_layouts.py",
    "sar_folder": "tests/trainers/test_layouts.py", "optical_folder": "tests/trainers/test_layouts.py",
    "scene_pattern": "tests/trainers/test_layouts.py",
    "name_pattern": "tests/trainers/test_layouts.py", "split_column": "tests/trainers/test_layouts.py",
    "sar_side": "tests/trainers/test_layout_strip.py",
    "polarisations": "tests/trainers/test_layout_bigearthnet.py",
    "optical_bands": "tests/trainers/test_layout_bigearthnet.py",
    "blocks": "tests/trainers/test_layout_scenes.py", "gap": "tests/trainers/test_layout_scenes.py",
    "allow_leak": "tests/trainers/test_layouts.py",
    "resample": "tests/trainers/test_layout_bigearthnet.py and test_real_pairs.py",
    "shifts": "tests/trainers/test_misregistration.py",
}  # fmt: skip


@dataclass(frozen=True)
class Second:
    """Another value of an option, what the base needs for it to matter, and where the change shows after `updates`."""

    value: Any
    shows: str = WEIGHTS
    base: Callable[[Recipe], Recipe] = lambda base: base
    updates: int = 3
    tile: int = tiny.TILE


def with_(**changes: Any) -> Callable[[Recipe], Recipe]:
    """The base with options at dotted paths (`__` for a dot) replaced."""

    def apply(base: Recipe) -> Recipe:
        for path, value in changes.items():
            base = tiny.changed(base, path.replace("__", "."), value)
        return base

    return apply


def staged(until: Any = 0.25, **later: Any) -> Callable[[Recipe], Recipe]:
    """Two stages; the second, of other terms, begins after the first update of four unless `until` says otherwise."""

    def apply(base: Recipe) -> Recipe:
        base = replace(base, budget=Budget(generator_updates=4))
        optimizer = later.get("optimizer", base.optimizer)
        timing = Timing(**{key: value for key, value in later.items() if key != "optimizer"})
        second = tiny.stage(base, timing, terms={"l1": 1.0, "ssim": 5.0}, optimizer=optimizer)
        return replace(base, stages=(tiny.stage(base, Timing(until=until)), second))

    return apply


DECAYING = Optimizer(lr=1e-3, constant=0.0)
PERCEPTUAL = TERMS.options("perceptual")
RANDOM = with_(terms={"perceptual": PERCEPTUAL(weight=10.0, weights="random")})
MINE = with_(terms={"perceptual": PERCEPTUAL(weight=10.0, weights="file", sha256="0" * 64)})


def term(name: str, **options: Any) -> Callable[[Recipe], Recipe]:
    return with_(terms={name: TERMS.options(name)(**{"weight": 10.0, **options})})


SECOND: dict[str, Second] = {
    "data.flip": Second("none"),
    "generator.unet.width": Second(6),
    "generator.unet.depth": Second(4),
    "generator.unet.norm": Second("none"),
    "generator.unet.skip": Second("add"),
    "generator.unet.dropout": Second(0.5, tile=64),
    "generator.unet.fusion": Second(True),
    "discriminator.patchgan.width": Second(6),
    "discriminator.patchgan.layers": Second(1),
    "discriminator.patchgan.scales": Second(2),
    "discriminator.patchgan.norm": Second("spectral"),
    **{f"objective.{name}.adv_weight": Second(3.0) for name in OBJECTIVES.names()},
    **{f"objective.{name}.smoothing": Second((0.9, 0.0)) for name in ("vanilla", "lsgan")},
    "objective.wgan_gp.penalty_weight": Second(1.0),
    "objective.wgan_gp.critic": Second("sum"),
    **{f"terms.{name}.weight": Second(3.0, base=term(name)) for name in TERMS.names()},
    "terms.ms_ssim.weight": Second(3.0, base=term("ms_ssim"), tile=176, updates=1),
    "terms.perceptual.weight": Second(3.0, base=RANDOM),
    "terms.charbonnier.eps": Second(0.5, base=term("charbonnier")),
    "terms.gradient.operator": Second("laplacian", base=term("gradient")),
    "terms.perceptual.layers": Second(("relu1_1",), base=RANDOM),
    "terms.perceptual.weights": Second("random", base=MINE),
    "terms.perceptual.sha256": Second("1" * 64, base=MINE),
    "terms.perceptual.bands": Second((3, 2, 1), base=RANDOM),
    "optimizer.lr": Second(2e-3),
    "optimizer.lr_ratio": Second(0.5),
    "optimizer.betas": Second((0.0, 0.9)),
    "optimizer.warm_up": Second(0.5),
    "optimizer.constant": Second(0.0),
    "optimizer.decay": Second("cosine", base=with_(optimizer__constant=0.0)),
    "updates.generator": Second(2),
    "updates.discriminator": Second(2),
    "budget.generator_updates": Second(3),
    "budget.images": Second(12, base=with_(budget=Budget(images=24))),
    "evaluate.every": Second(2, shows=LOGGED),
    "evaluate.test": Second(True, shows=LOGGED),
    "evaluate.mode": Second("paper", shows=SCORED, base=with_(generator__norm="batch")),
    "ema.decay": Second(0.5, base=with_(ema=Ema(decay=0.05)), shows=SCORED),
    "compute.precision": Second("bf16"),
    "compute.memory_format": Second("channels_last", shows=LAID_OUT),
    "start.generator": Second("generator", updates=1),
    "start.discriminator": Second("discriminator", updates=1),
    "health.collapse": Second("end", shows=ENDED),
    "batch": Second(2),
    "terms": Second({"ssim": TERMS.options("ssim")(weight=10.0)}),
    "stages": Second("two of them"),
    "stages.0.timing.until": Second(0.75, base=staged(0.5), updates=4),
    "stages.1.timing.ramp": Second(0.5, base=staged()),
    "stages.1.timing.moments": Second("reset", base=staged()),
    "stages.1.timing.schedule": Second("reset", base=staged(0.5, optimizer=DECAYING), updates=4),
    "stages.1.terms": Second({"l1": TERMS.options("l1")(weight=10.0)}, base=staged()),
    "stages.1.optimizer": Second(Optimizer(lr=1e-4), base=staged()),
    "stages.1.adv_weight": Second(5.0, base=staged()),
    "stages.0.timing.until.plateau": Second(3, base=staged(Plateau(plateau=1, at_most=0.9)), updates=4),
    "stages.0.timing.until.at_most": Second(0.25, base=staged(Plateau(plateau=9, at_most=0.5)), updates=4),
    "stages.0.timing.until.improvement": Second(0.1, base=staged(Plateau(plateau=1, at_most=0.9)), updates=4),
}
FAMILIES = {"generator": GENERATORS, "discriminator": DISCRIMINATORS, "objective": OBJECTIVES}


def options_of_all_parts() -> Iterator[str]:
    for key, family in PARTS.items():
        for name in family.names():
            for option in fields(family.options(name)):
                if family is LAYOUTS and is_dataclass(option.default_factory):
                    yield from (f"data.{option.name}.{inner.name}" for inner in fields(option.default_factory))
                elif family is LAYOUTS:
                    yield f"data.{option.name}"
                else:
                    yield f"{key}.{name}.{option.name}"
    for name in TERMS.names():
        yield from (f"terms.{name}.{option.name}" for option in fields(TERMS.options(name)))
    for key, cls in PLAIN.items():
        yield from (f"{key}.{option.name}" for option in fields(cls))
    # A first stage has no beginning to choose, a last one no end.
    yield from (f"stages.{int(option.name != 'until')}.timing.{option.name}" for option in fields(Timing))
    yield from (f"stages.1.{option.name}" for option in fields(Stage) if option.name != "timing")
    yield from (f"stages.0.timing.until.{option.name}" for option in fields(Plateau))
    yield from (option.name for option in fields(Recipe) if option.name not in {*PARTS, *PLAIN})


ALL = tuple(dict.fromkeys(options_of_all_parts()))
LIVE = [option for option in ALL if option.removeprefix("data.") not in PREPARATION or not option.startswith("data.")]
FORGOTTEN = Second(None)


def test_every_option_has_a_second_value_or_is_read_by_the_preparation_alone():
    without = [option for option in LIVE if option not in SECOND]
    assert not without, f"give {', '.join(without)} another value in SECOND, and say where the change shows"
    assert not set(SECOND) - set(LIVE), "no such option any more"
    stale = set(PREPARATION) - {option.removeprefix("data.") for option in ALL if option.startswith("data.")}
    assert not stale


def base_for(option: str, second: Second) -> Recipe:
    """The recipe whose one option is to be changed, of the part that has the option."""
    head, *rest = option.split(".")
    base = tiny.recipe(steps=6, every=6, tile=second.tile, batch=1 if second.tile > 64 else 4)
    if head in FAMILIES and rest[0] != part_name(getattr(base, head)):
        base = replace(base, **{head: FAMILIES[head].options(rest[0])()})
    return second.base(base)


def change(base: Recipe, option: str, value: Any) -> Recipe:
    if option == "stages":
        return staged()(base)
    head, *rest = option.split(".")
    return tiny.changed(base, ".".join([head, *rest[1:]]) if head in FAMILIES else option, value)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Callable[[int], Path]:
    root, made = tmp_path_factory.mktemp("data"), {}

    def of(tile: int) -> Path:
        if tile not in made:
            made[tile] = tiny.prepared(root / str(tile), tile=tile)
        return made[tile]

    return of


HASHES: dict[str, str] = {}  # what stands for a hash in SECOND -> the hash of a file


@pytest.fixture(autouse=True)
def weights_of_mine(tmp_path_factory, monkeypatch):
    """Two files of VGG19 weights; a study knows them by their hash."""
    folder = tmp_path_factory.mktemp("weights")
    layers = PERCEPTUAL(weight=1.0).layers
    for at in range(2):
        state = {name: (at + 0.5) * tensor for name, tensor in _vgg19.random_state(layers).items()}
        torch.save(state, folder / "file.pth")
        sha256 = hashlib.sha256((folder / "file.pth").read_bytes()).hexdigest()
        (folder / "file.pth").rename(folder / local("vgg19", sha256).name)
        HASHES[str(at) * 64] = sha256
    monkeypatch.setenv(VARIABLE, str(folder))


def with_hashes(of: Recipe) -> Recipe:
    found = of.terms.get("perceptual")
    return tiny.changed(of, "terms.perceptual.sha256", HASHES[found.sha256]) if found and found.sha256 else of


def files_to_start_from(of: Recipe, data: Path) -> tuple[Recipe, dict[str, Path]]:
    """Networks of another seed in files, which `start` knows by their sha256."""
    paths = {}
    for role in ("generator", "discriminator"):
        if getattr(of.start, role):
            other = tiny.training(replace(of, start=Start()), data, seed=99)
            paths[role] = data.parent / f"{role}.pt"
            torch.save({"step": 0, "world_size": 1, **other.state_dict()}, paths[role])
            digest = hashlib.sha256(paths[role].read_bytes()).hexdigest()
            of = tiny.changed(of, f"start.{role}", digest)
    return of, paths


def outcome(of: Recipe, second: Second, data: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Weights, logged means and outputs after some updates, in which plateaus are read as a run reads them."""
    of, files = files_to_start_from(with_hashes(of), data)
    training = tiny.training(of, data, start=files)
    logged = {}
    for update in range(second.updates):
        training.advance()
        logged |= {f"{update}/{key}": value for key, value in tiny.logged(training).items()}
        training.course.read([1.0, 0.95, 0.95, 0.95][update])
    training.settle()
    sar = training.draws.batch(0).sar
    networks = {name: getattr(training, name).state_dict() for name in ("generator", "discriminator")}
    first = next(training.generator.parameters())
    return {
        WEIGHTS: tiny.tensors(networks), LOGGED: tiny.tensors(logged),
        SCORED: {"output": training.predictor()(sar)},
        LAID_OUT: {"strides": torch.tensor(first.stride())},
    }  # fmt: skip


@pytest.mark.parametrize("option", [option for option in LIVE if SECOND.get(option, FORGOTTEN).shows in
                                    (WEIGHTS, SCORED, LAID_OUT)])  # fmt: skip
def test_an_option_changed_alone_changes_numbers(data, option):
    second = SECOND.get(option, FORGOTTEN)
    base = base_for(option, second)
    other = change(base, option, second.value)
    assert other != base
    one, two = (outcome(of, second, data(second.tile)) for of in (base, other))
    assert not tiny.equal(one[second.shows], two[second.shows]), f"{option} shows nowhere in {second.shows}"
    if second.shows == SCORED:
        assert tiny.equal(one[WEIGHTS], two[WEIGHTS]), f"{option} was to change scores alone"


def finished(root: Path, of: Recipe, name: str, *, constant: bool = False) -> events.TrialResult:
    """The result of a trial; of a generator that gives one colour, if it is to be `constant`."""
    folder = tiny.trial_folder(root, tiny.spec(of), name)
    trial = train.Trial(folder, tiny.spec(of), tiny.METRICS, root / "cache" / "tiny", Ranks())
    if constant:
        last = trial.training.generator.ups[-1][1]
        last.weight.requires_grad_(False).zero_()
    trial.run()
    return events.fold(name, events.read(folder.events))


def test_the_interval_of_evaluations_sets_where_scores_are_taken(tmp_path):
    base = base_for("evaluate.every", SECOND["evaluate.every"])
    one, two = (finished(tmp_path, of, name) for name, of in
                (("base", base), ("other", replace(base, evaluate=Evaluate(every=2)))))  # fmt: skip
    places = [[row[0] for row in found.curves["validation", "mae"]] for found in (one, two)]
    assert places == [[6], [2, 4, 6]]
    assert one.scores == two.scores, "how often is no part of what is learnt"


def test_test_scenes_are_scored_once_at_the_end_and_only_where_it_is_asked_for(tmp_path):
    base = base_for("evaluate.test", SECOND["evaluate.test"])
    one, two = (finished(tmp_path, of, name) for name, of in
                (("base", base), ("other", change(base, "evaluate.test", True))))  # fmt: skip
    assert not any(split == "test" for split, _ in one.curves)
    assert [[row[0] for row in two.curves["test", name]] for name in tiny.METRICS] == [[6]] * len(tiny.METRICS)
    assert two.scores == one.scores  # those of validation
    assert two.curves["test", "mae"][0][2] != two.scores["mae"]


def test_a_declared_collapse_ends_the_trial_where_it_is_asked_to(tmp_path):
    base = tiny.recipe(steps=100, every=100, optimizer=Optimizer(lr=1e-2))
    one, two = (finished(tmp_path, of, name, constant=True) for name, of in
                (("base", base), ("other", change(base, "health.collapse", "end"))))  # fmt: skip
    assert (one.status.value, two.status.value) == ("done", "collapsed")
    assert two.steps < one.steps == 100 and "collapsed" in two.why
