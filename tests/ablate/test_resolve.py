from __future__ import annotations

import json
import random
from dataclasses import is_dataclass
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.records import canonical
from ablate.resolve import Resolved, ResolveError, identity_document, resolve
from ablate.validate import describe, validate
from ablate.yamlfile import read_yaml, write_yaml
from trainers.families import LAYOUTS, TERMS
from trainers.options import options, places
from trainers.recipe import DEFAULTS, PARTS, PLAIN, Recipe

BASE = {
    **DEFAULTS,
    "generator": {"name": "unet", "width": 8, "norm": "instance"},
    "discriminator": {"name": "patchgan", "width": 8, "norm": "instance"},
    "batch": 4,
    "budget": {"generator_updates": 20},
    "evaluate": {"every": 10},
}
# Where a part needs more than its name.
NEEDS = {("data", name): dict.fromkeys(places(LAYOUTS.options(name)), "/d") for name in LAYOUTS.names()}
PART_NAMES = [(key, name) for key, family in PARTS.items() for name in family.names()]


def change(**patch) -> Resolved:
    return resolve(BASE, {path.replace("__", "."): value for path, value in patch.items()})


def errors(patch: dict, *, ranks: int = 1) -> dict[str, str]:
    with pytest.raises(ResolveError) as caught:
        resolve(BASE, patch, ranks=ranks)
    return {".".join(map(str, path)): message for path, message in caught.value.errors}


def whole_part(key: str, name: str) -> dict:
    return {key: {PARTS[key].key: name, **NEEDS.get((key, name), {})}}


def test_the_empty_patch_fills_in_every_default():
    document = resolve(BASE, {}).document
    assert document["optimizer"] == {
        "lr": 2e-4, "lr_ratio": 1.0, "betas": [0.5, 0.999], "warm_up": 0.0, "constant": 0.5, "decay": "linear",
    }  # fmt: skip
    assert document["terms"] == {"l1": {"weight": 100.0}}
    assert document["data"]["layout"] == "synthetic" and document["objective"]["smoothing"] == [1.0, 0.0]


@pytest.mark.parametrize(("key", "name"), PART_NAMES)
def test_every_part_resolves_and_its_document_resolves_to_itself(key, name):
    first = resolve(BASE, whole_part(key, name))
    again = resolve(first.document, {})
    assert first.recipe == again.recipe and first.document == again.document
    assert Recipe.from_document(json.loads(json.dumps(first.document))) == first.recipe


@pytest.mark.parametrize(("key", "name"), PART_NAMES)
def test_every_part_refuses_an_option_that_nobody_in_its_family_has(key, name):
    patch = whole_part(key, name)
    patch[key] = {**patch[key], "no_such_thing": 1}
    assert "no such option: 'no_such_thing'; there" in errors(patch)[f"{key}.no_such_thing"]


@pytest.mark.parametrize("name", TERMS.names())
def test_every_term_takes_a_weight_alone_or_as_an_option(name):
    big = {"data.tile": 256}
    short = resolve(BASE, {**big, "terms": {name: 3}})
    assert short.recipe == resolve(BASE, {**big, "terms": {name: {"weight": 3}}}).recipe
    assert short.recipe == resolve(BASE, {**big, "terms": {name: 9}, f"terms.{name}.weight": 3}).recipe
    assert "expected a number of at least 0, found -1" in errors({**big, "terms": {name: -1}})[f"terms.{name}.weight"]


def test_terms_do_not_depend_on_their_order_in_the_file():
    names = [name for name in TERMS.names() if name != "ms_ssim"]
    orders = [change(terms={name: 1 for name in order}) for order in (names, names[::-1])]
    assert list(orders[0].recipe.terms) == list(orders[1].recipe.terms)


def test_null_takes_a_term_away_in_either_form():
    assert change(terms__l1=None, terms__ssim=1).recipe.terms.keys() == {"ssim"}
    assert change(terms={"l1": None, "ssim": 1}).recipe.terms.keys() == {"ssim"}


def test_an_inert_setting_is_dropped_and_said():
    resolved = resolve({**BASE, "objective": {"name": "vanilla", "smoothing": [0.9, 0.0]}}, {"objective.name": "hinge"})
    assert resolved.notes == ("smoothing is inert with objective hinge: dropped",)
    assert "smoothing" not in resolved.document["objective"]


def test_an_inert_setting_at_its_default_says_nothing():
    base = {**BASE, "objective": {"name": "vanilla", "smoothing": [1, 0]}}
    assert resolve(base, {"objective.name": "hinge"}).notes == ()


def test_an_option_of_another_family_is_a_mistake_not_inert():
    assert "no such option: 'layers'" in errors({"generator.layers": 3})["generator.layers"]


USUAL = {**PLAIN, **{key: family.options(DEFAULTS[key][family.key]) for key, family in PARTS.items()}}
NUMBERS = [
    (f"{key}.{name}", hint)
    for key, cls in USUAL.items()
    for name, hint in get_type_hints(cls).items()
    if hint in (int, float)
]


@pytest.mark.parametrize(("path", "kind"), NUMBERS)
@pytest.mark.parametrize("wrong", ["3", "1e-4", True, None, [1], {"a": 1}, "fast"])
def test_what_is_no_number_is_never_read_as_one(path, kind, wrong):
    word = "a whole number" if kind is int else "a number"
    found = errors({path: wrong})
    assert [text for where, text in found.items() if where == path and f"expected {word}" in text and "found" in text]


@pytest.mark.parametrize("wrong", [1.0, 0, -1, 1.5, "1", True, None])
def test_a_batch_is_a_whole_number_above_0(wrong):
    assert "expected a whole number of at least 1, found" in errors({"batch": wrong})["batch"]


@pytest.mark.parametrize(
    ("patch", "path", "says"),
    [
        ({"optimizer.lr": "1e-4"}, "optimizer.lr", "text '1e-4'; write 1e-4 without quotes"),
        ({"generator.width": 8.0}, "generator.width", "found 8.0; write 8"),
        ({"generator.norm": "instanc"}, "generator.norm", "did you mean instance?"),
        ({"optimizer.betas": [0.5]}, "optimizer.betas", "expected a list of 2"),
        ({"optimizer.betas": [0.5, 1]}, "optimizer.betas.1", "below 1, found 1"),
        ({"optimizer.betas": 0.5}, "optimizer.betas", "expected a list of 2"),
        ({"optimizer": 3}, "optimizer", "expected a mapping of lr"),
        ({"optimiser.lr": 1e-4}, "optimiser", "did you mean optimizer?"),
        (
            {"objective.name": "hinge2"},
            "objective.name",
            "there are hinge, lsgan, vanilla, wgan_gp; did you mean hinge?",
        ),
        ({"objective.name": 3}, "objective.name", "no such objective: '3'"),
        ({"objective": "hinge"}, "objective", "expected a mapping such as {name: vanilla}, found text 'hinge'"),
        ({"objective": {"adv_weight": 2}}, "objective.name", "is missing; a mapping replaces the whole objective"),
        ({"terms.l1": "much"}, "terms.l1", "expected a weight"),
        ({"terms.ssimm": 1}, "terms.ssimm", "did you mean ssim?"),
        ({"terms": [1]}, "terms", "expected a mapping such as {l1: 100}"),
        ({"terms.l1.eps": 1}, "terms.l1.eps", "no such option: 'eps'; there is weight"),
        ({"data.sar.hue": 3}, "data.sar.hue", "there are bands, despeckle, domain, high, "),
        ({"data.sar.domain": "dB"}, "data.sar.domain", "did you mean db?"),
        ({"data.split": {"validation": 0.6, "test": 0.5}}, "data.split", "leave no scene for training"),
        ({"data": {"layout": "folders"}}, "data.root", "is missing; expected text"),
        ({"budget": None}, "budget", "is missing; expected a mapping such as"),
        ({"budget": {}}, "budget", "neither is set"),
        ({"budget.generator_updates": 0}, "budget.generator_updates", "of at least 1"),
        ({"evaluate": {}}, "evaluate.every", "is missing; expected a whole number of at least 1"),
        ({"evaluate.every": 21}, "evaluate.every", "21 is over the budget of 20 generator updates"),
        ({"batch.size": 3}, "batch.size", "leads through batch"),
        ({"resources.ranks": 0}, "resources.ranks", "expected a whole number of at least 1, found 0"),
        ({"resources.ranks": 3}, "batch", "can't be divided among 3 ranks"),
        ({"objective.name": "wgan_gp", "discriminator.norm": "batch"}, "discriminator.norm", "gradient penalty"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_study(patch, path, says):
    found = errors(patch)
    assert list(found) == [path] and says in found[path]
    assert "pydantic" not in found[path] and "Input" not in found[path] and "<" not in found[path]


def test_all_mistakes_are_told_at_once_also_those_that_need_the_rest():
    by_itself = {"optimizer.lr": "x", "generator.width": 0, "terms.zzz": 1}
    by_rule = {
        "updates": {"generator": 2, "discriminator": 2},
        "discriminator.norm": "batch",
        "evaluate.every": 40,
        "batch": 3,
    }
    found = errors({**by_itself, **by_rule, "objective.name": "wgan_gp"}, ranks=2)
    assert set(found) == {*by_itself, *by_rule}


def test_what_stands_in_for_a_mistake_causes_no_second_one():
    assert set(errors({"data.tile": "256", "terms.ms_ssim": 1, "generator.depth": 8})) == {"data.tile"}
    assert set(errors({"budget": {"generator_updates": "100"}, "evaluate.every": 50})) == {"budget.generator_updates"}
    assert set(errors({"data": {"layout": "folders", "tile": 256}, "generator.depth": 8})) == {"data.root"}


def test_ranks_are_part_of_a_patch():
    assert change(resources__ranks=2).ranks == 2
    assert resolve(BASE, {}, ranks=4).ranks == 4


@pytest.mark.parametrize(("key", "name"), [pair for pair in PART_NAMES if places(PARTS[pair[0]].options(pair[1]))])
def test_files_and_folders_do_not_enter_the_identity(key, name):
    identities = []
    for folder in ("/here", "/there"):
        part = {PARTS[key].key: name, **{place: folder for place in places(PARTS[key].options(name))}}
        identities.append(canonical(identity_document(resolve(BASE, {key: part}).recipe)))
    assert identities[0] == identities[1] and "/here" not in identities[0]
    assert Recipe.from_document(json.loads(identities[0])).batch == BASE["batch"]


def test_everything_else_enters_the_identity():
    base = identity_document(resolve(BASE, {}).recipe)
    for patch in (
        {"optimizer.lr": 1e-4},
        {"terms.l1": 99},
        {"data.split.seed": 1},
        {"evaluate.every": 20},
        {"batch": 8},
    ):
        assert identity_document(resolve(BASE, patch).recipe) != base


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_and_a_round_trip_through_yaml_keep_the_resolved_document(rng: random.Random):
    def shuffled(node):
        if not isinstance(node, dict):
            return node
        keys = list(node)
        rng.shuffle(keys)
        return {key: shuffled(node[key]) for key in keys}

    document = resolve(BASE, {"terms.ssim": 10}).document
    again = read_yaml(write_yaml(shuffled(document)), name="s").data
    assert canonical(resolve(again, {}).document) == canonical(document)


@given(st.floats(0, 1, exclude_min=True), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(1, 10**9))
def test_numbers_arrive_in_the_recipe_exactly(lr, beta1, beta2, batch):
    patch = {"optimizer": {"lr": lr, "betas": [beta1, beta2]}, "batch": batch}
    recipe = resolve(BASE, read_yaml(write_yaml(patch), name="s").data).recipe
    assert (recipe.optimizer.lr, recipe.optimizer.betas, recipe.batch) == (lr, (beta1, beta2), batch)


@options
class Colour:
    hue: int | None = None
    kind: str = "red"


def test_validate_gives_the_dataclass_itself():
    assert validate(Colour, {"hue": 3}) == (Colour(hue=3), [])
    assert validate(Colour, {"hue": "3"})[1] == [
        (("hue",), "expected a whole number or null, found text '3'; write 3 without quotes")
    ]


def test_every_type_of_every_option_has_words():
    def hints(cls):
        for hint in get_type_hints(cls, include_extras=True).values():
            yield hint
            yield from (inner for part in (hint, *get_args(hint)) if is_dataclass(part) for inner in hints(part))

    classes = [
        *PLAIN.values(),
        *(PARTS[key].options(name) for key, name in PART_NAMES),
        *map(TERMS.options, TERMS.names()),
    ]
    words = {describe(hint) for cls in classes for hint in hints(cls)}
    assert len(words) > 10 and not [text for text in words if "typing" in text or "class" in text or "None" in text]
