"""A setting that is dropped as inert changes no number: training with it and without is the same, bit for bit."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ablate import plan
from ablate.resolve import identity_document, resolve
from tests.trainers import tiny
from trainers import inert
from trainers.families import DISCRIMINATORS, GENERATORS, LAYOUTS, OBJECTIVES, TERMS
from trainers.layouts._common import Sar
from trainers.options import places
from trainers.recipe import DEFAULTS, PARTS, Compute, Evaluate, Optimizer, Recipe, Timing

UPDATES = 3
BASE = {
    **DEFAULTS,
    "data": {"layout": "synthetic", "tile": tiny.TILE},
    "generator": {"name": "unet", "width": 4, "norm": "instance"},
    "discriminator": {"name": "patchgan", "width": 4, "layers": 2, "norm": "instance"},
    "batch": 4,
    "budget": {"generator_updates": 6},
    "evaluate": {"every": 6},
}


def wgan_gp(**options) -> Recipe:
    return tiny.recipe(norm="none", **{"objective": "wgan_gp"}) if not options else replace(
        tiny.recipe(norm="none"), objective=OBJECTIVES.options("wgan_gp")(**options)
    )  # fmt: skip


def two_stages(optimizer: Optimizer, **timing) -> Recipe:
    base = tiny.recipe(steps=3, optimizer=optimizer)
    first = tiny.stage(base, Timing(until=0.3))
    return replace(base, stages=(first, tiny.stage(base, Timing(**timing), terms={"ssim": 3.0})))


def same_weights(**timing) -> Recipe:
    base = tiny.recipe(steps=3)
    later = tiny.stage(base, Timing(**timing), optimizer=Optimizer(lr=2e-3))
    return replace(base, stages=(tiny.stage(base, Timing(until=0.3)), later))


def late_warm_up(share: float) -> Recipe:
    base = tiny.recipe(steps=3)
    later = tiny.stage(base, Timing(), terms={"ssim": 3.0}, optimizer=Optimizer(lr=1e-3, warm_up=share))
    return replace(base, stages=(tiny.stage(base, Timing(until=0.3)), later))


def with_sar(**options) -> Recipe:
    base = tiny.recipe(steps=3)
    return replace(base, data=replace(base.data, sar=Sar(**options)))


# (Where the rule stands, option) -> recipes that hold an inert value of it.
CASES: dict[tuple[str, str], list[Recipe]] = {
    ("objectives.wgan_gp", "critic"): [wgan_gp(penalty_weight=0.0, critic="sum")],
    ("_of_evaluation", "mode"): [
        tiny.recipe(norm_g=norm, evaluate=Evaluate(every=3, mode="paper")) for norm in ("instance", "none")
    ],
    ("_of_optimizer", "constant"): [
        tiny.recipe(steps=3, optimizer=Optimizer(lr=1e-3, decay="none", constant=share)) for share in (0.0, 0.9)
    ],
    ("_of_optimizer", "decay"): [
        tiny.recipe(steps=3, optimizer=Optimizer(lr=1e-3, decay="cosine", constant=1.0))
    ],
    ("_of_timing", "schedule"): [
        two_stages(Optimizer(lr=1e-3, decay="none"), schedule="reset"),
        two_stages(Optimizer(lr=1e-3, constant=1.0), schedule="reset"),
    ],
    ("_of_timing", "ramp"): [same_weights(ramp=0.5)],
    ("_of_later", "warm_up"): [late_warm_up(0.3), late_warm_up(0.1)],
    # That prepared tiles don't change either is a test of test_ranges.py.
    ("_of_sar", "percentiles"): [
        with_sar(percentiles=(5.0, 95.0)), with_sar(percentiles=(0.0, 100.0), range="standard")
    ],
    ("_of_sar", "window"): [with_sar(window=5)],
    ("_of_sar", "looks"): [with_sar(looks=1.0)],
}


def declared() -> set[tuple[str, str]]:
    """Every rule, read from the sources: what `trainers.inert` yields, and what a part's `inert` returns."""
    rules = {
        (name, option)
        for name, function in inspect.getmembers(inert, inspect.isfunction)
        if name.startswith("_of_") and name != "_of_part"
        for option in options_named(function)
    }
    for family in (*PARTS.values(), TERMS):
        for name in family.names():
            own = getattr(family.part(name), "inert", None)
            package = family.package.removeprefix("trainers.")
            rules |= {(f"{package}.{name}", option) for option in (options_named(own) if own else ())}
    return rules


def options_named(function) -> set[str]:
    """The first of every pair (option, cause) that the function yields or returns."""
    given = [node.value for node in ast.walk(ast.parse(inspect.getsource(function)))
             if isinstance(node, ast.Yield | ast.Return)]  # fmt: skip
    pairs = [node for value in given for node in ast.walk(value) if isinstance(node, ast.Tuple)]
    return {pair.elts[0].value for pair in pairs if len(pair.elts) == 2 and isinstance(pair.elts[0], ast.Constant)}


def test_every_rule_has_a_case():
    assert set(CASES) == declared(), "a rule about what is inert is held to its word by a case in CASES"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny.prepared(tmp_path_factory.mktemp("data") / "tiny")


def numbers(of: Recipe, data: Path) -> dict:
    """Weights, logged means and predictions after some updates."""
    training = tiny.training(of, data)
    logged = []
    for _ in range(UPDATES):
        training.advance()
        logged.append(tiny.logged(training))
    training.settle()
    output = training.predictor()(training.draws.batch(0).sar[:1])
    networks = [training.generator.state_dict(), training.discriminator.state_dict()]
    return tiny.tensors({"networks": networks, "logged": logged, "output": output})


@pytest.mark.parametrize(("rule", "index"), [(rule, index) for rule, found in CASES.items()
                                             for index in range(len(found))])  # fmt: skip
def test_an_inert_setting_changes_no_number_and_is_said(data, rule, index):
    stated = CASES[rule][index]
    settled, notes = inert.without_inert(stated)
    assert settled != stated and any(f".{rule[1]} is inert with" in note for note in notes)
    assert tiny.equal(numbers(stated, data), numbers(settled, data))


def test_what_the_first_stage_replaces_of_the_recipe_changes_no_number(data):
    stated = two_stages(Optimizer(lr=1e-3))
    objective = replace(stated.objective, adv_weight=7.0)
    other = replace(stated, terms=tiny.recipe(terms=("ssim",)).terms, optimizer=Optimizer(lr=0.5), objective=objective)
    assert inert.without_inert(other)[0] == inert.without_inert(stated)[0]
    assert tiny.equal(numbers(other, data), numbers(stated, data))


@pytest.mark.parametrize(("rule", "index"), [(rule, 0) for rule in CASES])
def test_what_is_settled_stays_so(rule, index):
    settled, _ = inert.without_inert(CASES[rule][index])
    assert inert.without_inert(settled) == (settled, ())


def test_a_live_setting_is_left_alone():
    live = [
        tiny.recipe(norm_g="batch", evaluate=Evaluate(every=3, mode="paper")),
        tiny.recipe(tile=64, dropout=0.5, evaluate=Evaluate(every=3, mode="paper")),
        wgan_gp(critic="sum"),
        two_stages(Optimizer(lr=1e-3), schedule="reset"),
        two_stages(Optimizer(lr=1e-3, decay="none", warm_up=0.5), schedule="reset"),
        two_stages(Optimizer(lr=1e-3, constant=1.0, warm_up=0.5), schedule="reset"),
        tiny.recipe(optimizer=Optimizer(lr=1e-3, constant=0.9, decay="cosine")),
        late_warm_up(0.5),
    ]
    for recipe in live:
        assert inert.without_inert(recipe) == (recipe, ())


# What a machine makes of a setting: the note that says so -> the recipe with it, and the one that says it plainly.
HERE: dict[str, tuple[Recipe, Recipe]] = {
    "compute.precision tf32 is fp32 on a CPU": (
        tiny.recipe(compute=Compute(precision="tf32")), tiny.recipe(compute=Compute(precision="fp32"))
    ),
    "generator.norm sync_batch is batch on one rank": (tiny.recipe(norm_g="sync_batch"), tiny.recipe(norm_g="batch")),
    "discriminator.norm sync_batch is batch on one rank": (tiny.recipe(norm="sync_batch"), tiny.recipe(norm="batch")),
}  # fmt: skip


@pytest.mark.parametrize("note", HERE)
def test_what_a_machine_makes_of_a_setting_changes_no_number_and_is_said(data, note):
    stated, plain = HERE[note]
    computed, notes = plan._as_computed_here(stated, ranks=1, device="cpu")
    assert notes == [note] and computed == identity_document(plain) != identity_document(stated)
    assert tiny.equal(numbers(stated, data), numbers(plain, data))


def test_every_setting_that_a_machine_changes_has_a_case():
    """By what the plan's function writes into the document: one statement each, `key` standing for both networks."""
    tree = ast.walk(ast.parse(inspect.getsource(plan._as_computed_here)))
    written = {ast.unparse(node.targets[0]) for node in tree if isinstance(node, ast.Assign)
               and isinstance(node.targets[0], ast.Subscript)}  # fmt: skip
    assert written == {"document[key]", "document['compute']"}
    assert {note.split(".")[0] for note in HERE} == {"generator", "discriminator", "compute"}


FAMILIES = {"generator": GENERATORS, "discriminator": DISCRIMINATORS, "objective": OBJECTIVES, "data": LAYOUTS}
NEEDS = {name: dict.fromkeys(places(LAYOUTS.options(name)), "/d") for name in LAYOUTS.names()}


def foreign() -> list[tuple[str, str, str]]:
    """(Recipe key, member, option that only others of its family have)."""
    return [
        (key, name, option)
        for key, family in FAMILIES.items()
        for name in family.names()
        for option in sorted(family.known_options() - {field.name for field in fields(family.options(name))})
    ]


@pytest.mark.parametrize(("key", "name", "option"), foreign())
def test_an_option_that_only_others_of_the_family_have_leaves_the_recipe_as_it_is_and_is_said(key, name, option):
    """One recipe is one trial: equal numbers by construction."""
    family = FAMILIES[key]
    own = {family.key: name, **NEEDS.get(name, {}), **({} if key != "data" else {"tile": tiny.TILE})}
    own |= {at: BASE[key][at] for at in ("width", "layers", "norm") if at in BASE.get(key, {})}
    plain = resolve(BASE, {key: own})
    with_it = resolve(BASE, {key: {**own, option: "of another"}})
    assert with_it.recipe == plain.recipe and with_it.document == plain.document
    assert any(note.startswith(f"{option} is inert with") for note in with_it.notes)
    assert not any(note.startswith(f"{option} is inert with") for note in plain.notes)
