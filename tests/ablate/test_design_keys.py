"""What a study says of its design: read, checked, and every mistake located."""

from __future__ import annotations

import re

import pytest

from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.study import load

STUDY = """\
name: keys
question: Which?
base:
  data: {layout: synthetic, tile: 64, scenes: 8}
  generator: {name: unet, width: 8, norm: instance}
  discriminator: {name: patchgan, width: 8, norm: instance}
  batch: 4
  budget: {generator_updates: 20}
  evaluate: {every: 10}
factors:
  lr: {half: {optimizer.lr_ratio: 0.5}}
  loss: {ssim: {terms.ssim: 10}}
  objective: {wgan: {objective.name: wgan_gp}}
  norm: {batch: {discriminator.norm: batch}}
metric: {name: gmsd}
"""
FULL = "full: {norm: base}\n"


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def reading(more="", *, text=STUDY, sets=()):
        (tmp_path / "keys.yaml").write_text(text + more)
        return load("keys.yaml", sets=sets)

    return reading


@pytest.fixture
def refusals(read):
    def reading(more="", **options):
        with pytest.raises(StudyError) as caught:
            make_plan(read(more, **options))
        return str(caught.value).splitlines()

    return reading


def names(study):
    return [arm.name for arm in make_plan(study).arms]


def test_without_a_full_recipe_the_default_adds_one_at_a_time(read):
    assert names(read()) == ["base", "lr=half", "loss=ssim", "objective=wgan", "norm=batch"]


def test_a_declared_feasible_full_recipe_of_three_factors_makes_both_the_default(read):
    study = read(FULL)
    assert study.design.name == "both"
    assert dict(study.design.full) == {"lr": "half", "loss": "ssim", "objective": "wgan"}
    assert len(make_plan(study).arms) == 8 and study.design.factors == ()


def test_a_full_recipe_that_cannot_be_trained_leaves_the_default_and_says_why(read):
    study = read("full: {}\n")
    assert study.design.name == "one_at_a_time"
    assert any(text.startswith("full: can't be trained: discriminator.norm: batch") for text in study.warnings)


@pytest.mark.parametrize("sets", [["factors.lr.tenth={optimizer.lr_ratio: 0.1}"], ["design=one_at_a_time"]])
def test_both_is_the_default_of_single_levels_alone_and_never_against_a_word(read, sets):
    assert read(FULL, sets=sets).design.name == "one_at_a_time"


def test_a_factor_with_one_level_takes_it_in_the_full_recipe_and_others_must_be_named(read, refusals):
    more = "factors.lr.tenth={optimizer.lr_ratio: 0.1}"
    wrong = refusals("design: leave_one_out\n" + FULL, sets=[more])
    assert len(wrong) == 1
    assert "full: names no level of lr; there are base, half, tenth (base leaves it out)" in wrong[0]
    study = read("design: leave_one_out\nfull: {norm: base, lr: tenth}\n", sets=[more])
    assert dict(study.design.full) == {"lr": "tenth", "loss": "ssim", "objective": "wgan"}
    assert make_plan(study).to_json()["properties"]["not_run"] == ["lr=half", "norm=batch"]


WRONG = [
    ("design: both\n", "16:1: full: can't be trained", False),
    ("full: [lr]\n", "full: expected the level of each factor: {factor: level}, found [lr]", True),
    ("full: {speed: x}\n", "full.speed: no such factor: 'speed'", True),
    ("full: {lr: quarter}\n", "full.lr: no such level of lr: 'quarter'; there are base, half", True),
    ("design: both\nfull: {lr: base, loss: base, objective: base, norm: base}\n", "full: changes nothing", True),
    ("design: {fractional: {resolution: 6}}\n", "design.fractional.resolution: expected 5", True),
    ("design: {fractional: {resolution: 4.0}}\n", "design.fractional.resolution: expected 5", True),
    ("design: {fractional: {size: 4}}\n", "design.fractional.size: no such key: 'size'", True),
    ("design: {fractional: 4}\n", "design.fractional: expected {resolution: 5, factors: [...]}", True),
    ("design: {fractional: {factors: [lr, speed]}}\n", "design.fractional.factors[1]: no such factor: 'speed'", True),
    ("aa: 1\n", "16:1: aa: expected true or false, found 1", True),
    ("design: {list: {aa: {lr: half}}}\n", "design.list.aa: 'aa' is taken", True),
    ("when: [lr]\n", "when: expected {factor: {other factor: its levels}}, found [lr]", True),
    ("when: {speed: {lr: half}}\n", "when.speed: no such factor: 'speed'", True),
    ("when: {lr: {speed: half}}\n", "when.lr.speed: no such factor: 'speed'", True),
    ("when: {lr: {lr: half}}\n", "when.lr.lr: a factor can't depend on itself", True),
    ("when: {lr: {loss: []}}\n", "when.lr.loss: expected a level or a list of levels, found an empty list", True),
    ("when: {lr: half}\n", "when.lr: expected what it needs", True),
]


@pytest.mark.parametrize(("more", "says", "located"), WRONG, ids=[more.strip()[:45] for more, *_ in WRONG])
def test_a_mistake_is_refused_where_it_stands(refusals, more, says, located):
    found = refusals(more)
    assert any(says in line or (not located and says.partition(": ")[2] in line) for line in found), found
    assert all(re.match(r"keys\.yaml:\d+:\d+: ", line) for line in found)


def test_fractional_refuses_a_factor_of_several_levels_and_says_what_to_write(refusals):
    found = refusals("design: fractional\n", sets=["factors.lr.tenth={optimizer.lr_ratio: 0.1}"])
    assert len(found) == 1 and "one level beside the base, and lr has 2 (half, tenth)" in found[0]


def test_claims_about_factors_need_a_design_that_estimates_them(read, refusals):
    found = refusals(sets=["metric.family=factor_effects"])
    assert len(found) == 1 and "metric.family: factor_effects needs one of the designs both, factorial" in found[0]
    assert read(FULL, sets=["metric.family=factor_effects"]).metric.family == "factor_effects"
    assert "expected one of vs_baseline, all_pairs, factor_effects" in refusals(sets=["metric.family=bonferroni"])[0]


def test_a_cell_that_both_needs_and_cannot_have_is_refused_with_what_to_do(refusals):
    found = refusals(FULL + "never: [{lr: half, loss: base, objective: wgan}]\n")
    assert len(found) == 1 and "arm full_without_loss: is declared away (never: lr: half, loss: base" in found[0]
    assert "both needs all of its arms: name another level under `full`" in found[0]


def test_a_cell_of_both_that_cannot_be_trained_is_refused_with_what_to_do(refusals):
    text = STUDY.replace("norm: {batch: {discriminator.norm: batch}}", "norm: {none: {discriminator.norm: none}}")
    text = text.replace("lr: {half: {optimizer.lr_ratio: 0.5}}", "lr: {batch: {discriminator.norm: batch}}")
    found = refusals("full: {norm: base}\ndesign: both\n", text=text)
    assert len(found) == 1 and "full: can't be trained: discriminator.norm" in found[0]
    assert "name other levels, or base for a factor to leave out" in found[0]


def test_an_undeclared_combination_that_cannot_be_trained_says_how_to_declare_it(refusals, read):
    found = refusals("design: factorial\n")
    assert len(found) == 1 and found[0].endswith("; name the combination under `never`")
    study = read("design: factorial\nnever: [{objective: wgan, norm: batch}]\n")
    refused = make_plan(study).to_json()["properties"]["refused"]
    assert len(refused) == 4 and all({"objective": "wgan", "norm": "batch"}.items() <= one["combination"].items()
                                     for one in refused)  # fmt: skip
    assert refused[0]["why"].startswith("never: objective: wgan, norm: batch (discriminator.norm: batch with")


CONDITIONAL = """\
  penalty: {five: {objective.penalty_weight: 5}}
when: {penalty: {objective: wgan}}
"""


def test_a_factor_that_exists_beside_others_is_judged_there_and_named_where_left_out(read, refusals):
    text = STUDY.replace("  norm: {batch: {discriminator.norm: batch}}\n", CONDITIONAL)
    alone = refusals(text=text.replace("when: {penalty: {objective: wgan}}\n", ""))
    assert any("factors.penalty.five" in line and "changes nothing" in line for line in alone)
    study = read("design: factorial\n", text=text)
    plan = make_plan(study)
    assert all(arm.arm.changes["objective"] == "wgan" for arm in plan.arms if "penalty" in arm.arm.changes)
    assert len(plan.arms) == 12 and len(plan.left_out) == 4
    assert {one.why for one in plan.left_out} == {"when: penalty only exists where objective is wgan"}
    single = make_plan(read(text=text))
    assert [one.name for one in single.left_out] == ["penalty=five"]
    assert single.to_json()["properties"]["not_run"] == ["penalty=five"]


def test_the_twin_has_every_seed_its_own_trials_and_no_place_in_the_design(read):
    plain, with_twin = make_plan(read()), make_plan(read("aa: true\n"))
    document = with_twin.to_json()
    assert document["arms"][-1] | {"notes": []} == plain.to_json()["arms"][0] | {
        "name": "aa", "twin_of": "base", "notes": [], "differences": {}
    }  # fmt: skip
    own = [cell for cell in with_twin.cells if cell.arm == "aa"]
    assert [cell.seed for cell in own] == [1, 2, 3, 4, 5] and len(with_twin.cells) == len(plain.cells) + 5
    assert all(with_twin.specs[cell.trial].replica == 1 for cell in own)
    assert {cell.trial for cell in own}.isdisjoint(cell.trial for cell in plain.cells) and with_twin.shared == 0
    assert set(plain.specs) < set(with_twin.specs) and "aa" not in [arm.name for arm in with_twin.compared]
    assert document["hash"] != plain.to_json()["hash"]


def test_the_hash_covers_the_family_and_not_the_words(read):
    more = "design: factorial\nnever: [{objective: wgan, norm: batch}]\n"
    changes = ([], ["metric.family=factor_effects"], ["question=Why?"])
    hashes = {make_plan(read(more, sets=sets)).to_json()["hash"] for sets in changes}
    assert len(hashes) == 2


def test_plan_json_holds_what_a_report_needs_of_the_design(read):
    document = make_plan(read("design: {fractional: {resolution: 3, factors: [lr, loss, norm]}}\n")).to_json()
    assert document["factors"]["lr"] == ["base", "half"] and document["full"] is None
    assert document["family"] == "vs_baseline" and len(document["arms"]) == 4
    found = document["properties"]
    assert (found["resolution"], found["generators"]) == (3, ["norm = -lr:loss"])
    assert found["aliases"] == [["lr", "loss:norm"], ["loss", "lr:norm"], ["norm", "lr:loss"]]
    assert {tuple(arm["changes"]) for arm in document["arms"]} == {(), ("lr", "norm"), ("loss", "norm"), ("lr", "loss")}


def test_too_many_arms_are_a_sentence(refusals):
    more = "\n".join(f"  f{i}: {{x: {{optimizer.lr: {i + 1}e-5}}}}" for i in range(12))
    found = refusals("design: factorial\n", text=STUDY.replace("metric:", f"{more}\nmetric:"))
    assert len(found) == 1 and "has more than 1000 arms; name fewer factors" in found[0]
