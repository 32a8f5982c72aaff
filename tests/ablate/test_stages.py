"""Reading stages: each is a patch of the one before, and what is wrong is said where it stands."""

from __future__ import annotations

import pytest

from ablate.problems import StudyError
from ablate.resolve import ResolveError, resolve
from ablate.study import load
from trainers.recipe import DEFAULTS, Plateau, Recipe

BASE = {
    **DEFAULTS,
    "generator": {"name": "unet", "width": 8, "norm": "instance"},
    "discriminator": {"name": "patchgan", "width": 8, "norm": "instance"},
    "batch": 4,
    "budget": {"generator_updates": 100},
    "evaluate": {"every": 10},
}
TWO = [{"until": 0.6}, {"terms": {"l1": 30, "ssim": 10}}]


def read(stages, **patch) -> Recipe:
    return resolve(BASE, {"stages": stages, **patch}).recipe


def errors(stages, **patch) -> dict[str, str]:
    with pytest.raises(ResolveError) as caught:
        resolve(BASE, {"stages": stages, **patch})
    return {".".join(map(str, path)): message for path, message in caught.value.errors}


def test_nothing_and_an_empty_list_are_one_stage_of_the_recipe_itself():
    plain = resolve(BASE, {}).recipe
    assert read([]) == read(None) == plain and plain.stages == ()
    (only,) = plain.course
    assert only.terms == plain.terms and only.optimizer == plain.optimizer


def test_a_stage_says_only_what_differs_from_the_one_before():
    first, second, third = read(
        [{"until": 0.3}, {"until": 0.6, "terms.ssim": 10, "optimizer.lr": 1e-4},
         {"terms": {"ssim": 5}, "objective.adv_weight": 0.5, "ramp": 0.1}]
    ).stages  # fmt: skip
    assert {name: term.weight for name, term in first.terms.items()} == {"l1": 100}
    assert {name: term.weight for name, term in second.terms.items()} == {"l1": 100, "ssim": 10}
    assert {name: term.weight for name, term in third.terms.items()} == {"ssim": 5}
    assert [stage.optimizer.lr for stage in (first, second, third)] == [2e-4, 1e-4, 1e-4]
    assert [stage.adv_weight for stage in (first, second, third)] == [1, 1, 0.5]
    assert [stage.timing.until for stage in (first, second, third)] == [0.3, 0.6, None]
    assert third.timing.ramp == 0.1 and second.timing.ramp == 0


def test_a_term_is_taken_away_by_none_and_kept_options_are_kept():
    _, second = read([{"until": 0.5}, {"terms.l1": None, "terms.gradient.weight": 3}],
                     terms={"l1": 100, "gradient": {"weight": 9, "operator": "laplacian"}}).stages  # fmt: skip
    (term,) = second.terms.values()
    assert (term.weight, term.operator) == (3, "laplacian")


def test_a_level_that_changes_the_base_reaches_every_stage_that_does_not_say_otherwise():
    first, second = read(TWO, **{"optimizer.lr": 5e-5, "objective.adv_weight": 2.0}).stages
    assert first.optimizer.lr == second.optimizer.lr == 5e-5
    assert first.adv_weight == second.adv_weight == 2.0


def test_a_plateau_is_read_with_its_maximum():
    first, _ = read([{"until": {"plateau": 5, "at_most": 0.7}}, TWO[1]]).stages
    assert first.timing.until == Plateau(plateau=5, at_most=0.7)


def test_a_recipe_of_stages_is_read_back_from_its_document():
    resolved = resolve(BASE, {"stages": [{"until": {"plateau": 5, "at_most": 0.7}}, {**TWO[1], "moments": "reset"}]})
    assert Recipe.from_document(resolved.document) == resolved.recipe


@pytest.mark.parametrize(
    ("stages", "path", "says"),
    [
        ({"until": 0.5}, "stages", "expected a list of stages such as [{until: 0.6}, {terms.l1: 30}], found"),
        ("two", "stages", "expected a list of stages"),
        ([{"until": 0.5}, 3], "stages.1", "expected a mapping such as {until: 0.6}, found 3"),
        ([{"until": 0.5}, {"terms.l2": 3}], "stages.1.terms.l2", "no such loss term: 'l2'; "),
        ([{"until": 0.5}, {"terms.l1": -3}], "stages.1.terms.l1.weight", "expected a number of at least 0, found -3"),
        ([{"until": 0.5}, {"optimizer.lr": 0}], "stages.1.optimizer.lr", "found 0"),
        ([{"until": 0.5}, {"optimizer.rate": 1}], "stages.1.optimizer.rate", "rate"),
        ([{"until": 0.5}, {"objective.adv_weight": -1}], "stages.1.objective.adv_weight", "at least 0, found -1"),
        ([{"until": 0.5}, {"objective.name": "hinge"}], "stages.1.objective.name", "a stage may change terms,"),
        ([{"until": 0.5}, {"batch": 8}], "stages.1.batch", "no such option of a stage: 'batch'; "),
        ([{"untill": 0.5}, TWO[1]], "stages.0.untill", "until"),
        ([{"until": 0}, TWO[1]], "stages.0.until", "found 0"),
        ([{"until": 1.5}, TWO[1]], "stages.0.until", "found 1.5"),
        ([{"until": {"plateau": 5}}, TWO[1]], "stages.0.until.at_most", "is missing"),
        ([{"until": {"plateau": 0, "at_most": 0.5}}, TWO[1]], "stages.0.until.plateau", "found 0"),
        ([{"until": 0.5}, {**TWO[1], "moments": "forget"}], "stages.1.moments", "keep, reset"),
        ([{"until": 0.5}, {**TWO[1], "ramp": 2}], "stages.1.ramp", "found 2"),
    ],
)
def test_what_is_wrong_in_a_stage_is_located_there(stages, path, says):
    found = errors(stages)
    assert set(found) == {path} and says in found[path]


@pytest.mark.parametrize(
    ("stages", "path", "says"),
    [
        ([{"until": 0.5}], "stages", "one stage is the recipe itself: give two or more, or none"),
        ([{}, TWO[1]], "stages.0.until", "is missing: only the last stage runs to the end of the budget"),
        ([{"until": 0.5}, {**TWO[1], "until": 0.9}], "stages.1.until", "the last stage runs to the end"),
        ([{"until": 0.5}, {"until": 0.4, "terms.l1": 3}, TWO[1]], "stages.1.until", "0.4 is not after 0.5"),
        ([{"until": {"plateau": 2, "at_most": 0.5}}, {"until": 0.5, "terms.l1": 3}, TWO[1]], "stages.1.until",
         "0.5 is not after 0.5"),
        ([{"until": 0.5, "ramp": 0.1}, TWO[1]], "stages.0.ramp", "the first stage has none before it"),
        ([{"until": 0.5, "moments": "reset"}, TWO[1]], "stages.0.moments", "the first stage has none before it"),
        ([{"until": 0.8}, {**TWO[1], "ramp": 0.3}], "stages.1.ramp", "0.3 of the budget is longer than the stage"),
        ([{"until": 0.5}, {"terms.gradient.operator": "laplacian", "terms.gradient.weight": 3, "ramp": 0.1}],
         "stages.1.terms", "gradient has other options than in the stage before: a ramp moves weights alone"),
        ([{"until": 0.5}, {}], "stages.1", "changes nothing: the stage before is like that already"),
        ([{"until": 0.5}, {"terms": {}, "objective.adv_weight": 0}], "stages.1", "the generator can't learn"),
        ([{"until": 0.5}, {"terms.ms_ssim": 3}], "stages.1.terms.ms_ssim", "161"),
        ([{"until": 0.5}, {"optimizer.warm_up": 0.9}], "stages.1", "warm_up 0.9 ends after constant 0.5"),
    ],
)  # fmt: skip
def test_stages_that_cannot_follow_one_another_are_refused_in_a_sentence(stages, path, says):
    found = errors(stages, terms={"l1": 100, "gradient": 2})
    assert set(found) == {path} and says in found[path]


def test_a_mistake_of_the_base_is_named_once_and_not_in_every_stage():
    found = errors(TWO, **{"optimizer.lr": -1.0})
    assert set(found) == {"optimizer.lr"}


def test_a_reset_alone_is_a_stage_of_its_own():
    _, second = read([{"until": 0.5}, {"moments": "reset"}]).stages
    assert second.timing.moments == "reset"


def test_all_mistakes_of_all_stages_come_at_once():
    found = errors([{"until": 2}, {"terms.l1": -1}, {"optimizer.lr": "fast"}])
    assert set(found) == {"stages.0.until", "stages.1.terms.l1.weight", "stages.2.optimizer.lr"}


STUDY = """\
name: stages
base:
  data: {layout: synthetic, tile: 32, scenes: 4, size: 64}
  generator: {width: 4, norm: instance}
  discriminator: {width: 4, layers: 2, norm: instance}
  batch: 4
  budget: {generator_updates: 10}
  evaluate: {every: 5}
factors:
  schedule:
    two:
      stages:
        - {until: 0.6}
        - {terms.l1: %s, terms.ssim: 10}
seeds: 2
metric: {name: psnr, smallest_effect: 0.1}
"""


def test_a_mistake_in_a_levels_stage_has_the_line_of_the_stage(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % "30")
    load(path)
    path.write_text(STUDY % "-30")
    with pytest.raises(StudyError) as caught:
        load(path)
    assert "study.yaml:14:" in str(caught.value) and "expected a number of at least 0, found -30" in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "path", "says"),
    [
        ([{"until": 0.001}, {"until": 0.002, "terms.l1": 3}, TWO[1]], "stages.1",
         "gets none of the 120 generator updates: the one before lasts to number 1"),
        ([{"until": {"plateau": 20, "at_most": 0.5}}, TWO[1]], "stages.0.until.plateau",
         "20 readings without progress can't come before at_most 0.5: the stage has 20 readings at most"),
    ],
)  # fmt: skip
def test_a_stage_that_can_never_be_as_it_says_is_refused(stages, path, says):
    found = errors(stages, budget={"generator_updates": 120})
    assert set(found) == {path} and says in found[path]


def test_a_ramp_as_long_as_its_stage_is_allowed():
    """1 - 0.7 is a little less than 0.3 in binary."""
    assert read([{"until": 0.7}, {**TWO[1], "ramp": 0.3}]).stages[1].timing.ramp == 0.3


def test_a_level_that_the_first_stage_replaces_changes_nothing():
    staged = [{"until": 0.5, "terms": {"l1": 50}}, TWO[1]]
    assert read(staged, **{"terms.l1": 10, "optimizer.lr": 1e-4}) != read(staged)
    assert read(staged, **{"terms.l1": 10}) == read(staged)
