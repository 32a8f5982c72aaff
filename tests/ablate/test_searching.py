"""A whole search, driven without machinery: what it draws, and that a kill changes nothing."""

from __future__ import annotations

import json
import math

import pytest

from ablate.plan import make_plan
from ablate.planfile import StudyChanged, check_plan
from ablate.problems import StudyError
from ablate.records import Status, StudyFolder, TrialResult, write_atomically
from ablate.searchdraw import State
from ablate.searching import tried, value_of
from ablate.searchplan import base_values, restored
from ablate.searchspace import Parameter
from ablate.stored import Damaged
from tests.ablate import studies
from tests.ablate.commands import ablate
from tests.ablate.fakes import InstantExecutor, Killed, drive, gmsd
from tests.ablate.test_searchfile import STUDY, study

SAMPLERS = {
    "random": [], "tpe": [], "qmc": [], "nsga2": ["design.search.objectives=[gmsd, mae]"],
}  # fmt: skip


def plan_of(folder, *sets: str, sampler: str = "tpe"):
    asked = [f"design.search.sampler={sampler}", "design.search.trials=8", *SAMPLERS[sampler], *sets]
    return make_plan(study(folder, *asked))


def written(runs) -> dict:
    return json.loads(StudyFolder(runs, "found").plan.read_text())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_draws_its_arms_and_runs_each_on_every_seed_beside_the_base(tmp_path, sampler):
    driver = drive(plan_of(tmp_path, sampler=sampler), tmp_path / "runs", InstantExecutor())
    plan = driver.plan
    assert [arm.name for arm in plan.arms] == ["base", *(f"s00{index}" for index in range(1, 9))]
    assert [(cell.arm, cell.seed) for cell in plan.cells] == [(arm.name, s) for arm in plan.arms for s in (1, 2)]
    assert {result.status for result in driver.results.values()} == {Status.done} and plan.undrawn == 0
    assert set(driver.results) == {cell.trial for cell in plan.cells}
    document = written(tmp_path / "runs")
    assert document == json.loads(json.dumps(plan.to_json()))
    assert document["arms"][1]["differences"] and document["search"]["seeds_per_arm"] == 2


@pytest.mark.parametrize("sampler", [
    name if name in ("tpe", "random") else pytest.param(name, marks=pytest.mark.slow) for name in SAMPLERS
])  # fmt: skip
def test_killed_at_any_trial_and_resumed_a_search_draws_the_same_arms_and_runs_nothing_twice(tmp_path, sampler):
    whole = InstantExecutor()
    drive(plan_of(tmp_path, sampler=sampler), tmp_path / "whole", whole)
    for lives in (0, 1, 2, 3, 4, 7, 12):
        runs = tmp_path / f"killed-{lives}"
        first, second = InstantExecutor(lives=lives), InstantExecutor()
        with pytest.raises(Killed):
            drive(plan_of(tmp_path, sampler=sampler), runs, first)
        drive(plan_of(tmp_path, sampler=sampler), runs, second)
        assert written(runs) == written(tmp_path / "whole")
        assert first.started + second.started == whole.started


def test_an_arm_is_on_disk_before_its_first_trial_starts(tmp_path):
    class Watching(InstantExecutor):
        def start(self, kind, folder, **options):
            if kind == "run":
                assert folder.name in {cell["trial"] for cell in written(tmp_path / "runs")["cells"]}
            return super().start(kind, folder, **options)

    drive(plan_of(tmp_path), tmp_path / "runs", Watching())


def test_arms_that_are_drawn_twice_share_their_trials(tmp_path):
    space = "design.search.space={objective.name: [vanilla, hinge], norm: [base, spectral]}"
    executor = InstantExecutor()
    driver = drive(plan_of(tmp_path, space, sampler="random"), tmp_path / "runs", executor)
    assert len(driver.plan.cells) == 18 and len(set(executor.started)) == len(executor.started) <= 8
    assert len(driver.plan.arms) == 9


def test_combinations_that_cannot_run_are_named_and_drawn_again(tmp_path):
    space = "design.search.space={updates.generator: [1, 2], updates.discriminator: [1, 3]}"
    driver = drive(plan_of(tmp_path, space, sampler="random"), tmp_path / "runs", InstantExecutor())
    refused = written(tmp_path / "runs")["properties"]["refused"]
    assert refused and len(driver.plan.arms) == 9
    assert all(one["combination"] == {"updates.generator": 2, "updates.discriminator": 3} for one in refused)
    assert all("one of the two must be 1" in one["why"] for one in refused)


def test_what_never_declares_is_not_drawn(tmp_path):
    never = "never=[{norm: spectral}]"
    driver = drive(plan_of(tmp_path, never, sampler="random"), tmp_path / "runs", InstantExecutor())
    assert {arm.sampled["norm"] for arm in driver.plan.arms[1:]} == {"base"}
    assert all("never" in one["why"] for one in driver.plan.refused) and driver.plan.refused


def test_a_space_of_nothing_but_impossible_combinations_ends_in_a_sentence(tmp_path):
    with pytest.raises(StudyError, match="100 draws in a row can't run"):
        space = "design.search.space={updates.generator: [2, 3], updates.discriminator: [2, 3]}"
        drive(plan_of(tmp_path, space, sampler="random"), tmp_path / "runs", InstantExecutor())


def test_more_trials_go_on_where_the_search_ended(tmp_path):
    runs, folder = tmp_path / "runs", StudyFolder(tmp_path / "runs", "found")
    first, second = InstantExecutor(), InstantExecutor()
    drive(plan_of(tmp_path), runs, first)
    more = restored(plan_of(tmp_path, "design.search.trials=11"), folder)
    with pytest.raises(StudyChanged, match="search.trials: 8 -> 11"):
        check_plan(more, folder, extend=False)
    check_plan(more, folder, extend=True)
    drive(plan_of(tmp_path, "design.search.trials=11"), runs, second)
    assert len(second.started) == 6 and not set(first.started) & set(second.started)


@pytest.mark.parametrize(
    "change", ["design.search.trials=6", "design.search.seed=3", "design.search.space.optimizer.lr.high=2e-2"]
)
def test_another_search_under_the_same_name_is_refused(tmp_path, change):
    runs, folder = tmp_path / "runs", StudyFolder(tmp_path / "runs", "found")
    drive(plan_of(tmp_path), runs, InstantExecutor())
    with pytest.raises(StudyChanged):
        check_plan(restored(plan_of(tmp_path, change), folder), folder, extend=True)


DAMAGES = {
    "": "not JSON (line 1, column 1)",
    "[1]": "expected a mapping, found [1]",
    "{}": "cells: expected a list, found nothing",
    "search": "search: expected a mapping, found text '?'",
    "search.space": "search.space: expected a mapping, found text '?'",
    "properties": "properties: expected a mapping, found text '?'",
    "properties.refused": "properties.refused: expected a list, found text '?'",
    "arms": "arms: expected a list, found text '?'",
    "arms.1": "arms[1]: expected a mapping, found text '?'",
    "arms.1.sampled": "arms[1].sampled: expected a mapping, found text '?'",
    "arms.1.marks": "arms[1].marks: expected a mapping, found text '?'",
    "arms.1.sampled.lambda": "arms[1].sampled: text 'lambda' is no parameter of the search",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The plan.json of a search that has run, as text."""
    place = tmp_path_factory.mktemp("drawn")
    drive(plan_of(place), place / "runs", InstantExecutor())
    return StudyFolder(place / "runs", "found").plan.read_text()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_plan_is_named_and_nothing_is_drawn_from_it(tmp_path, drawn, damage):
    folder = StudyFolder(tmp_path / "runs", "found")
    write_atomically(folder.plan, damage if damage in ("", "[1]", "{}") else spoilt(drawn, damage.split(".")))
    with pytest.raises(Damaged) as error:
        restored(plan_of(tmp_path), folder)
    assert f"{folder.plan}: damaged: {DAMAGES[damage]}; put it back from a copy" in str(error.value)


def spoilt(plan: str, path: list[str]) -> str:
    """The plan with a text in place of what is at a path."""
    document = found = json.loads(plan)
    for key in path[:-1]:
        found = found[int(key) if isinstance(found, list) else key]
    found[int(path[-1]) if isinstance(found, list) else path[-1]] = "?"
    return json.dumps(document)


def test_the_commands_end_at_a_damaged_plan_with_code_3(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path, STUDY)
    write_atomically(StudyFolder(tmp_path / "runs", "found").plan, "{")
    for command in ("check", "plan", "run"):
        ended = ablate(command, "tiny.yaml")
        assert ended.code == 3 and "Traceback" not in ended.err, ended.err
        assert ended.err.startswith("runs/found/plan.json: damaged: not JSON (line 1, column 2); put it back")


def test_the_arms_drawn_do_not_change_what_was_asked(tmp_path):
    plan = plan_of(tmp_path)
    driver = drive(plan, tmp_path / "runs", InstantExecutor())
    assert driver.plan.to_json()["hash"] == plan.to_json()["hash"]


def test_the_space_and_what_the_base_has_of_it_read_back_from_plan_json(tmp_path):
    plan = plan_of(tmp_path)
    document = json.loads(json.dumps(plan.to_json()))
    space = {name: Parameter.from_json(name, one) for name, one in document["search"]["space"].items()}
    assert space == dict(plan.study.search.space) and len(space) > 3
    assert base_values(space, document["base"]) == base_values(space, plan.arms[0].resolved.document)


def test_the_base_has_those_parameters_that_a_search_could_have_drawn(tmp_path):
    plan = plan_of(tmp_path)
    values = base_values(plan.study.search.space, plan.arms[0].resolved.document)
    assert values["norm"] == "base" and values["generator.width"] == 4 and values["objective.name"] == "vanilla"
    assert values["optimizer.lr"] == 2e-4 and values["objective.smoothing"] == [1.0, 0.0]


def diverges(spec, step):
    return "diverged" if spec.recipe["optimizer"]["lr"] > 1e-3 else gmsd(spec, step)


def test_a_run_that_fails_by_itself_is_worth_the_penalty_and_another_failure_nothing(tmp_path):
    driver = drive(plan_of(tmp_path, sampler="random"), tmp_path / "runs", InstantExecutor(diverges))
    known = tried(driver.plan, driver.results, driver.worth)
    high = [one for one in known if one.sampled["optimizer.lr"] > 1e-3]
    assert high and all(one.state is State.done and one.values == (0.9,) for one in high)
    assert value_of(TrialResult("x", Status.failed, why="arm: rank 0: out of memory"), "gmsd", {"gmsd": 0.9}) == 0.9
    assert math.isnan(value_of(TrialResult("x", Status.failed, why="machine: gone"), "gmsd", {"gmsd": 0.9}))
    assert [one.state for one in tried(driver.plan, {}, {})] == [State.running] * 8


def test_a_drawn_arm_is_confirmed_with_the_recipe_that_was_drawn(tmp_path):
    from types import SimpleNamespace

    from ablate import confirm

    driver = drive(plan_of(tmp_path), tmp_path / "runs", InstantExecutor())
    folder = StudyFolder(tmp_path / "runs", "found")
    chosen = SimpleNamespace(arms=("s003", "s001"), planned=18, open=0)
    confirmed = make_plan(study(tmp_path, *confirm.settings(folder, chosen)))
    assert [arm.name for arm in confirmed.arms] == ["base", "s003", "s001"] and confirmed.study.search is None
    for name in ("s003", "s001"):
        drawn, again = (dict(plan.arm(name).resolved.document) for plan in (driver.plan, confirmed))
        assert {**drawn, "evaluate": 0} == {**again, "evaluate": 0}


def test_halving_runs_more_seeds_for_fewer_arms_after_all_are_drawn(tmp_path):
    sets = ["design.search.seeds_per_arm=null", "design.search.halving={seeds: [1, 2, 4]}"]
    executor = InstantExecutor()
    driver = drive(plan_of(tmp_path, *sets, sampler="random"), tmp_path / "runs", executor)
    ran = {arm.name: sum(driver.results[cell.trial].status is Status.done for cell in driver.plan.cells
                         if cell.arm == arm.name) for arm in driver.plan.arms}  # fmt: skip
    assert ran.pop("base") == 4 and sorted(ran.values()) == [1, 1, 1, 1, 2, 2, 4, 4]
    means = {arm: driver.results[cell.trial].scores["gmsd"] for cell in driver.plan.cells
             if (arm := cell.arm) in ran and cell.seed == 1}  # fmt: skip
    assert {arm for arm, seeds in ran.items() if seeds == 1} == set(sorted(means, key=means.get)[4:])
    assert all(look.alpha is None for look in driver.looks)


def test_a_factor_that_only_exists_beside_another_is_drawn_beside_it_alone(tmp_path):
    sets = ["factors.objective={hinge: {objective.name: hinge}}", "when={norm: {objective: hinge}}",
            "design.search.space={objective: [base, hinge], norm: [base, spectral]}"]  # fmt: skip
    driver = drive(plan_of(tmp_path, *sets, sampler="random"), tmp_path / "runs", InstantExecutor())
    assert all(("norm" in arm.sampled) == (arm.sampled["objective"] == "hinge") for arm in driver.plan.drawn)
    assert not driver.plan.refused


def test_the_twin_of_the_base_is_no_arm_of_the_search(tmp_path):
    driver = drive(plan_of(tmp_path, "aa=true"), tmp_path / "runs", InstantExecutor())
    assert [arm.name for arm in driver.plan.arms][:3] == ["base", "aa", "s001"] and len(driver.plan.drawn) == 8
    assert driver.plan.num_trials == len(driver.plan.cells) == 20


@pytest.mark.parametrize("lives", [3, 7, None])
def test_a_plan_is_restored_from_what_is_on_disk_however_often(tmp_path, lives):
    folder = StudyFolder(tmp_path / "runs", "found")
    try:
        drive(plan_of(tmp_path), tmp_path / "runs", InstantExecutor(lives=lives))
    except Killed:
        pass
    once = restored(plan_of(tmp_path), folder)
    assert once.drawn and restored(once, folder) == once
    assert json.loads(json.dumps(once.to_json())) == written(tmp_path / "runs")
