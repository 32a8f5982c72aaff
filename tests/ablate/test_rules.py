"""Rules over whole recipes; what each part refuses by itself is tested beside the part."""

from __future__ import annotations

import itertools

import pytest

from ablate import machine
from ablate.plan import make_plan
from ablate.resolve import resolve
from ablate.study import load
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
    synchronised = cautioned(ranks, batch=batch, **{f"{network}__norm": "sync_batch"})
    assert ("batch norm" in synchronised) is (batch < 4)


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


def test_a_decay_that_begins_before_the_warm_up_ends_is_refused_where_it_stands():
    def optimizer(**options) -> dict:
        return {**resolve(BASE, {}).document["optimizer"], **options}

    assert refused(optimizer=optimizer(warm_up=0.6, constant=0.5)) == [("optimizer",)]
    assert refused(optimizer=optimizer(warm_up=0.5, constant=0.5)) == []
    assert refused(optimizer=optimizer(warm_up=0.6, constant=0.5, decay="none")) == []


def test_a_schedule_that_all_stages_share_is_refused_once():
    stages = [{"until": 0.5}, {"terms.l1": 3}]
    resolved = resolve(BASE, {"stages": stages}).document
    for stage in (resolved, *resolved["stages"]):
        stage["optimizer"] = {**stage["optimizer"], "warm_up": 0.6, "constant": 0.5}
    assert [path for path, _ in rules.refusals(Recipe.from_document(resolved), ranks=1)] == [("optimizer",)]


PLANNED = """\
name: planned
base:
  data: {layout: synthetic, tile: 32, scenes: 4, size: 64}
  generator: {width: 4, norm: %(norm)s}
  discriminator: {width: 4, layers: 2, norm: %(norm)s}
  batch: 8
  budget: {generator_updates: 4}
  evaluate: {every: 2}
factors:
  precision:
    tf32: {compute.precision: tf32}
    bf16: {compute.precision: bf16}
  norm:
    sync: {generator.norm: sync_batch, discriminator.norm: sync_batch}
seeds: 2
metric: {name: psnr, smallest_effect: 0.1}
resources: {ranks: %(ranks)d, device: %(device)s}
"""


def plan(folder, *, ranks: int = 1, device: str = "cpu", norm: str = "batch"):
    (folder / "study.yaml").write_text(PLANNED % {"ranks": ranks, "device": device, "norm": norm})
    return make_plan(load(folder / "study.yaml"))


def trials(made, arm: str) -> list[str]:
    return [cell.trial for cell in made.cells if cell.arm == arm]


def notes(made, name: str) -> str:
    return " | ".join(made.arm(name).resolved.notes)


@pytest.mark.parametrize(("device", "shared"), [("cpu", True), ("cuda", False)])
def test_tf32_on_a_cpu_is_fp32_shares_its_trials_and_is_said(tmp_path, device, shared):
    made = plan(tmp_path, device=device)
    assert (trials(made, "precision=tf32") == trials(made, "base")) is shared
    assert not set(trials(made, "precision=bf16")) & set(trials(made, "base"))
    assert ("compute.precision tf32 is fp32 on a CPU" in notes(made, "precision=tf32")) is shared
    assert "tf32" not in notes(made, "base") + notes(made, "precision=bf16")


@pytest.mark.parametrize(("ranks", "shared"), [(1, True), (2, False)])
def test_sync_batch_on_one_rank_is_batch_shares_its_trials_and_is_said(tmp_path, ranks, shared):
    made = plan(tmp_path, ranks=ranks)
    assert (trials(made, "norm=sync") == trials(made, "base")) is shared
    for network in ("generator", "discriminator"):
        assert (f"{network}.norm sync_batch is batch on one rank" in notes(made, "norm=sync")) is shared
    assert "sync_batch" not in notes(made, "base")


def test_the_notes_of_a_plan_are_in_what_is_kept_of_it(tmp_path):
    (arm,) = (arm for arm in plan(tmp_path).to_json()["arms"] if arm["name"] == "precision=tf32")
    assert arm["notes"] == ["compute.precision tf32 is fp32 on a CPU"]
    assert machine.device("cpu", ranks=1) == "cpu"
