"""Rules over whole recipes; what each part refuses by itself is tested beside the part."""

from __future__ import annotations

import itertools

import pytest

from ablate.resolve import resolve
from trainers import rules
from trainers.families import OBJECTIVES, TERMS
from trainers.recipe import DEFAULTS, Recipe

BASE = {
    **DEFAULTS,
    "generator": {"name": "unet", "width": 8, "norm": "instance"},
    "discriminator": {"name": "patchgan", "width": 8, "norm": "instance"},
    "batch": 4,
    "budget": {"generator_updates": 20},
    "evaluate": {"every": 10},
}


def recipe(**patch) -> Recipe:
    """A sound recipe with options replaced, as a worker would read it (nothing checked)."""
    document = resolve(BASE, {}).document
    for path, value in patch.items():
        *above, last = path.split("__")
        node = document
        for key in above:
            node = node[key]
        node[last] = value
    return Recipe.from_document(document)


def refused(ranks: int = 1, **patch) -> list[tuple[str, ...]]:
    return [path for path, _ in rules.refusals(recipe(**patch), ranks=ranks)]


def cautioned(ranks: int = 1, **patch) -> str:
    return " | ".join(rules.cautions(recipe(**patch), ranks=ranks))


def test_a_sound_recipe_is_neither_refused_nor_cautioned():
    assert refused() == [] and cautioned() == ""


def test_exactly_one_budget_is_set():
    assert refused(budget={"generator_updates": 20, "images": 80}) == [("budget",)]
    assert refused(budget={"generator_updates": None, "images": None}) == [("budget",)]
    assert refused(budget={"generator_updates": None, "images": 80}) == []


@pytest.mark.parametrize(("every", "bad"), [(19, False), (20, False), (21, True)])
def test_the_first_evaluation_lies_within_the_budget(every, bad):
    assert (refused(evaluate={"every": every}) == [("evaluate", "every")]) is bad


@pytest.mark.parametrize(("generator", "discriminator"), list(itertools.product([1, 2, 3], repeat=2)))
def test_only_one_network_may_have_extra_updates(generator, discriminator):
    paths = refused(updates={"generator": generator, "discriminator": discriminator})
    assert paths == ([("updates",)] if min(generator, discriminator) > 1 else [])


@pytest.mark.parametrize(("batch", "ranks"), list(itertools.product(range(1, 9), range(1, 5))))
def test_ranks_must_divide_the_batch_and_the_message_names_one_that_works(batch, ranks):
    found = rules.refusals(recipe(batch=batch), ranks=ranks)
    assert bool(found) == (batch % ranks != 0)
    for path, sentence in found:
        proposed = int(sentence.split("; ")[1].split()[0])
        assert path == ("batch",) and proposed % ranks == 0 and proposed >= 1


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral", "sync_batch"])
@pytest.mark.parametrize("objective", OBJECTIVES.names())
def test_a_gradient_penalty_refuses_statistics_over_the_batch(objective, norm):
    resolved = resolve(BASE, {"objective": {"name": objective}}).document
    found = refused(objective=resolved["objective"], discriminator__norm=norm)
    has_penalty = resolved["objective"].get("penalty_weight", 0) > 0
    assert found == ([("discriminator", "norm")] if has_penalty and norm in ("batch", "sync_batch") else [])


def test_a_penalty_of_weight_nothing_refuses_nothing():
    objective = {"name": "wgan_gp", "adv_weight": 1.0, "penalty_weight": 0.0, "critic": "mean"}
    assert refused(objective=objective, discriminator__norm="batch") == []


def test_a_generator_must_learn_from_something():
    assert refused(terms={}, objective__adv_weight=0.0) == [("terms",)]
    assert refused(terms={"l1": {"weight": 0.0}}, objective__adv_weight=0.0) == [("terms",)]
    assert refused(terms={}) == []


def test_what_a_part_refuses_is_located_at_the_part():
    assert ("terms", "ms_ssim") in refused(terms={"ms_ssim": {"weight": 1.0}}, data__tile=64)
    assert ("generator",) in refused(generator__depth=7)


@pytest.mark.parametrize(("batch", "ranks", "warns"), [(3, 1, True), (4, 1, False), (4, 2, True), (8, 2, False)])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_batch_norm_on_few_samples_a_rank_gets_a_warning(network, batch, ranks, warns):
    text = cautioned(ranks, batch=batch, **{f"{network}__norm": "batch"})
    assert (f"batch norm in the {network}" in text) is warns
    assert "batch norm" not in cautioned(ranks, batch=batch, **{f"{network}__norm": "sync_batch"})


def test_sync_batch_is_proposed_only_where_it_would_help():
    assert "sync_batch" in cautioned(2, batch=4, generator__norm="batch")
    assert "sync_batch" not in cautioned(2, batch=2, generator__norm="batch")


@pytest.mark.parametrize("name", TERMS.names())
def test_a_term_of_weight_0_is_measured_and_cautioned(name):
    text = cautioned(terms={"l1": {"weight": 1.0}} | {name: {**_options(name), "weight": 0.0}})
    assert f"terms.{name} has weight 0" in text


def _options(name: str) -> dict:
    from dataclasses import asdict

    return asdict(TERMS.options(name)())


def test_training_without_reconstruction_and_a_penalty_with_momentum_are_cautioned():
    assert "only the discriminator" in cautioned(terms={})
    objective = {"name": "wgan_gp", "adv_weight": 1.0, "penalty_weight": 10.0, "critic": "mean"}
    assert "[0.0, 0.9]" in cautioned(objective=objective)
    assert "[0.0, 0.9]" not in cautioned(objective=objective, optimizer__betas=(0.0, 0.9))


def test_more_evaluations_than_a_curve_needs_are_cautioned():
    assert "100 evaluations" in cautioned(budget={"generator_updates": 1000, "images": None})
    assert cautioned(budget={"generator_updates": 500, "images": None}) == ""


def test_random_weights_of_a_perceptual_term_are_said_out_loud():
    def said(weights: str) -> str:
        patch = {"terms.perceptual": {"weight": 1.0, "weights": weights}}
        return " | ".join(resolve(BASE, patch).cautions)

    assert "random VGG19 weights" in said("random")
    assert "random" not in said("torchvision")
