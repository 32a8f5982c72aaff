"""GANs made sick on purpose are diagnosed as what they have; the same recipe left alone is healthy.

Synthetic scenes at 32 px, 120 updates. By default one seed of each, by `-m slow` all five.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate import events
from ablate.records import Status, TrialFolder, TrialResult
from tests.trainers import tiny
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, TERMS
from trainers.prepare import prepare
from trainers.ranks import Ranks
from trainers.recipe import Health, Optimizer, Recipe
from trainers.train import Trial

DATA = LAYOUTS.options("synthetic")(tile=32, scenes=10, size=128)
STEPS, SEEDS = 120, (1, 2, 3, 4, 5)

# A D that keeps up and does not win: it is twice as wide as G and learns half as fast.
HEALTHY = tiny.recipe(
    steps=STEPS,
    every=STEPS,
    data=DATA,
    generator=GENERATORS.options("unet")(width=8, norm="instance"),
    discriminator=DISCRIMINATORS.options("patchgan")(width=16, layers=2, norm="instance"),
    terms={"l1": TERMS.options("l1")(weight=100.0)},
    optimizer=Optimizer(lr=2e-4, lr_ratio=0.5),
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return prepare(DATA, tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def blank(scenes) -> Path:
    """The same tiles with a SAR image of zeros."""
    folder = scenes.with_name("blank")
    shutil.copytree(scenes, folder)
    np.save(folder / "sar.npy", np.zeros_like(np.load(folder / "sar.npy")))
    return folder


def faster(of: Recipe, **rates: float) -> Recipe:
    return replace(of, optimizer=replace(of.optimizer, **rates))


def without_learning(trial: Trial) -> None:
    """A generator at learning rate 0; the discriminator learns as before."""
    rates = trial.training.course.rates
    trial.training.course.rates = lambda done: (0.0, rates(done)[1])


def without_mapping(trial: Trial) -> None:
    """A generator of which only the colour of one uniform image is left to learn."""
    last = [part for part in trial.training.generator.modules() if isinstance(part, torch.nn.ConvTranspose2d)][-1]
    torch.nn.init.zeros_(last.weight).requires_grad_(False)


def alone(trial: Trial) -> None:
    """Left as it is."""


# The sickness: the recipe, what is done to the trial, whether the condition is zeroed.
SICK: dict[str, tuple[Recipe, Callable[[Trial], None], bool]] = {
    "healthy": (HEALTHY, alone, False),
    "d_dominant": (faster(HEALTHY, lr_ratio=5.0), alone, False),
    "vanishing": (HEALTHY, without_learning, False),
    "input_ignored": (HEALTHY, alone, True),
    "collapsed": (HEALTHY, without_mapping, False),
    "diverged": (faster(HEALTHY, lr=0.5), alone, False),
}


def run(of: Recipe, cache: Path, folder: Path, *, seed: int, provoke: Callable[[Trial], None] = alone) -> TrialResult:
    trial = Trial(TrialFolder(folder), tiny.spec(of, seed=seed), ("mae",), cache, Ranks())
    provoke(trial)
    trial.run()
    return events.fold("trial", events.read(folder / "events.jsonl"))


@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
@pytest.mark.parametrize("kind", SICK)
def test_each_sick_gan_is_diagnosed_as_such_and_a_healthy_one_is_not(tmp_path, scenes, blank, kind, seed):
    recipe, provoke, zeroed = SICK[kind]
    found = run(recipe, blank if zeroed else scenes, tmp_path, seed=seed, provoke=provoke)
    assert found.diagnosis == kind, found.findings
    assert found.status is (Status.diverged if kind == "diverged" else Status.done)
    assert found.evidence and bool(found.findings) == (kind != "healthy")
    assert set(found.warnings) >= set(found.findings.values())
    if kind == "diverged":
        assert found.steps < STEPS and found.why.startswith("Training diverged")


def test_where_the_recipe_says_so_a_collapse_ends_the_trial_as_an_outcome(tmp_path, scenes):
    found = run(replace(HEALTHY, health=Health(collapse="end")), scenes, tmp_path, seed=1, provoke=without_mapping)
    assert found.status is Status.collapsed and found.diagnosis == "collapsed" and found.steps < STEPS
    assert found.why.startswith(found.findings["collapsed"])


def test_numbers_that_are_not_finite_end_the_trial_at_once(tmp_path, scenes):
    def poison(trial: Trial) -> None:
        with torch.no_grad():
            next(trial.training.generator.parameters()).fill_(float("nan"))

    found = run(HEALTHY, scenes, tmp_path, seed=1, provoke=poison)
    assert (found.status, found.diagnosis, found.steps) == (Status.diverged, "diverged", 3)
