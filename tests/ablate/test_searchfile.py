"""A search as a study file states it: what is read, and what is refused where it stands."""

from __future__ import annotations

import pytest

from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.study import Study, load

STUDY = """\
name: found
question: Which recipe is best?
base:
  data: {layout: synthetic, tile: 32, scenes: 4, size: 64}
  generator: {name: unet, width: 4, norm: instance}
  discriminator: {name: patchgan, width: 4, layers: 2, norm: instance}
  batch: 4
  budget: {generator_updates: 6}
  evaluate: {every: 3}
factors:
  norm:
    spectral: {discriminator.norm: spectral}
  scenes:
    more: {data.scenes: 6}
design:
  search:
    sampler: random
    trials: 4
    seeds_per_arm: 2
    space:
      objective.smoothing: {values: [[1.0, 0.0], [0.9, 0.0]], when: {objective.name: vanilla}}
      optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
      generator.width: {low: 4, high: 8, step: 4}
      objective.name: [vanilla, hinge]
      norm: [base, spectral]
metric: {name: gmsd}
also: [mae]
"""
SPACE = "design.search.space"


def study(folder, *sets: str, text: str = STUDY) -> Study:
    path = folder / "found.yaml"
    path.write_text(text)
    return load(path, sets=sets)


def said(folder, *sets: str, text: str = STUDY) -> list[str]:
    with pytest.raises(StudyError) as caught:
        study(folder, *sets, text=text)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_a_search_is_read_with_conditions_after_what_they_depend_on(tmp_path):
    found = study(tmp_path)
    search = found.search
    assert (search.sampler, search.trials, found.seeds, search.objectives) == ("random", 4, (1, 2), ("gmsd",))
    assert list(search.space)[-1] == "objective.smoothing"
    assert search.space["objective.smoothing"].when == {"objective.name": ("vanilla",)}
    assert search.space["optimizer.lr"].log and search.space["norm"].factor
    plan = make_plan(found)
    assert [arm.name for arm in plan.arms] == ["base"] and plan.num_trials == 10 and plan.undrawn == 8


def test_a_search_needs_no_factors(tmp_path):
    start, _, rest = STUDY.partition("factors:")
    text = start + rest[rest.index("design:") :].replace("      norm: [base, spectral]\n", "")
    assert study(tmp_path, text=text).factors == {}


REFUSED = [
    ("optimizer.lr.low=1", "optimizer.lr.low: 1 is above high, 0.01"),
    ("optimizer.lr.high=1e-4", "optimizer.lr.low: 0.0001 equals high"),
    ("optimizer.lr.low=0", "optimizer.lr.low: 0 has no logarithm"),
    ("optimizer.lr.low=-1", "optimizer.lr.low: -1 has no logarithm"),
    ("optimizer.lr={low: -1.0, high: 1.0}", "optimizer.lr.low: expected a number"),
    ("optimizer.lr={low: 1}", "optimizer.lr.high: is missing"),
    ("optimizer.lr={low: 1, hihg: 2, high: 3}", "optimizer.lr.hihg: no such option"),
    ("optimizer.lr=3", "optimizer.lr: expected {low: ..., high: ...} or a list of values, found 3"),
    ("optimizer.lr=[1e-3]", "optimizer.lr: expected 2 to 100 values, found 1"),
    ("optimizer.lr=[1e-3, 1e-4, 1e-3]", "optimizer.lr[2]: 0.001 stands twice"),
    ("optimizer.lr=[1e-3, fast]", "optimizer.lr[1]: expected a number"),
    ("optimizer.lrr={low: 1, high: 2}", "optimizer.lrr.low: no such option"),
    ("generator.width.step=9", "generator.width.step: expected a number above 0 and at most high - low, found 9"),
    ("generator.width={low: 4, high: 8, log: true, step: 4}", "generator.width.step: steps are equal, a log scale"),
    ("generator.width={low: 4, high: 8, step: 0.5}", "generator.width.step: 0.5 between whole numbers"),
    ("objective.name=[vanilla, hinge2]", "objective.name[1]: no such objective"),
    ("data.tile=[32, 64]", "data.tile: a search can't vary data"),
    ("scenes=[base, more]", "scenes: level more varies data, which a search can't"),
    ("norm=[base, spectrl]", "norm[1]: no such level of norm"),
    ("norm={low: 1, high: 2}", "norm: norm is a factor: expected a list of its levels"),
    ("objective={values: [{name: hinge}, {name: lsgan}]}", "objective.name: lies inside 'objective'"),
    ("norm={values: [base, spectral], when: {colour: red}}", "norm.when.colour: no such other parameter"),
    ("norm={values: [base, spectral], when: {objective.name: lsgan}}", "text 'lsgan' is no value that objective.name"),
    (
        "objective.name={values: [vanilla, hinge], when: {objective.smoothing: [[1.0, 0.0]]}}",
        "conditions go round in a circle",
    ),
]


@pytest.mark.parametrize("change, message", REFUSED, ids=[change for change, _ in REFUSED])
def test_a_wrong_space_is_refused_at_its_place(tmp_path, change, message):
    found = said(tmp_path, f"{SPACE}.{change}")
    assert any(line.startswith(SPACE) and message in line for line in found), found


@pytest.mark.parametrize(
    "sets, message",
    [
        (["design.search.trials=0"], "trials: expected a whole number from 1 to 1000, found 0"),
        (["design.search.trials=null"], "trials: expected a whole number"),
        (["design.search.sampler=grid"], "sampler: expected one of tpe, random, qmc, nsga2"),
        (["design.search.space={}"], "space: expected 1 to 50 parameters"),
        (["design.search.space=null"], "space: expected a mapping"),
        (["design={search: null}"], "expected what to search"),
        (["design={search: 3}"], "design.search: expected a mapping"),
        (["design.search.sampler=nsga2"], "objectives: expected two or more metrics"),
        (["design.search.objectives=[gmsd, mae]"], "objectives: sampler random looks for the best gmsd alone"),
        (["design.search.sampler=nsga2", "design.search.objectives=[gmsd, psnr]"], "objectives[1]: no such metric"),
        (["design.search.pruner=median"], "pruner: a pruner stops single runs and would leave arms"),
        (
            ["design.search.sampler=nsga2", "design.search.objectives=[gmsd, mae]", "design.search.pruner=median",
             "design.search.seeds_per_arm=1"],
            "pruner: a pruner judges runs by one metric",
        ),
        (["design.search.halving={seeds: [4, 2]}"], "halving.seeds: expected rising numbers of seeds"),
        (["design.search.halving={seeds: [2, 4]}"], "seeds_per_arm: 2, but halving ends at 4 seeds"),
        (["design.search.halving={seeds: [2, 4], keep: 1.5}"], "halving.keep: expected a number above 0 and below 1"),
        (["seeds=3"], "seeds: the search runs each arm on 2"),
        (["race=true"], "race: the first look comes after 3 seeds, and the study ends at 2"),
        (["design.search.seeds_per_arm=5", "race={from: 2}"], "race.from: expected a whole number of seeds from 3 on"),
        (["design.search.seeds_per_arm=5", "race={looks: [3, 5]}"], "race.looks: expected rising numbers of seeds"),
        (["design.search.seeds_per_arm=5", "race={look: [3]}"], "race.look: no such option of a race"),
        (["race=maybe"], "race: expected true"),
        (
            ["design.search.seeds_per_arm=null", "design.search.halving={seeds: [2, 4]}", "race=true"],
            "race: the search halves its arms already",
        ),
    ],
)  # fmt: skip
def test_a_wrong_search_is_refused_at_its_place(tmp_path, sets, message):
    assert any(message in line for line in said(tmp_path, *sets)), said(tmp_path, *sets)


def test_all_mistakes_of_a_search_are_told_at_once(tmp_path):
    found = said(tmp_path, f"{SPACE}.optimizer.lr.low=1", f"{SPACE}.norm=[base, none]", "design.search.trials=0")
    assert len(found) >= 3


def test_a_race_has_looks_from_its_first_to_the_last_seed_but_one(tmp_path):
    found = study(tmp_path, "design.search.seeds_per_arm=6", "race=true")
    assert found.race.looks == (3, 4, 5) and found.race.keep is None
    halving = study(tmp_path, "design.search.seeds_per_arm=null", "design.search.halving={seeds: [2, 4, 8]}")
    assert halving.race.looks == (2, 4) and halving.seeds == tuple(range(1, 9)) and halving.race.alpha is None


def test_a_search_keeps_its_words_through_its_own_file(tmp_path):
    from ablate.yamlfile import write_yaml

    found = study(tmp_path)
    assert study(tmp_path, text=write_yaml(found.text)).search == found.search
