"""A race over a plan, driven without machinery: looks at whole seeds, decided once, before anything follows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import racing
from ablate.plan import make_plan
from ablate.planfile import StudyChanged, check_plan
from ablate.race import ALPHA, Race, decide, halved, looks_of
from ablate.records import Status, StudyFolder
from ablate.study import load
from tests.ablate.fakes import InstantExecutor, Killed, drive

STUDY = """\
name: raced
question: Which learning rate?
base:
  data: {layout: synthetic, tile: 32, scenes: 4, size: 64}
  generator: {name: unet, width: 4, norm: instance}
  discriminator: {name: patchgan, width: 4, layers: 2, norm: instance}
  optimizer: {lr: 1e-3}
  batch: 4
  budget: {generator_updates: 6}
  evaluate: {every: 3}
factors:
  lr:
    lower: {optimizer.lr: 8e-4}
    low: {optimizer.lr: 1e-5}
    high: {optimizer.lr: 1e-1}
    nothing: {optimizer.lr: 9e-4}
seeds: 6
race: true
metric: {name: gmsd}
also: [mae]
"""


def plan_of(folder, *sets: str):
    path = folder / "raced.yaml"
    path.write_text(STUDY)
    return make_plan(load(path, sets=sets))


def race_file(runs) -> dict:
    return json.loads(StudyFolder(runs, "raced").race.read_text())


def statuses(driver) -> dict[str, list[Status]]:
    found: dict[str, list[Status]] = {}
    for cell in driver.plan.cells:
        found.setdefault(cell.arm, []).append(driver.results[cell.trial].status)
    return found


def test_arms_out_of_the_best_set_stop_after_whole_seeds_and_the_base_goes_on(tmp_path):
    executor = InstantExecutor()
    driver = drive(plan_of(tmp_path), tmp_path / "runs", executor)
    found = statuses(driver)
    assert found["base"] == [Status.done] * 6
    for arm in ("lr=low", "lr=high"):
        assert found[arm] == [Status.done] * 3 + [Status.stopped] * 3
    looks = race_file(tmp_path / "runs")["looks"]
    assert [look["after"] for look in looks] == [3, 4, 5]
    assert sum(look["alpha"] for look in looks) == pytest.approx(ALPHA)
    assert set(looks[0]["stopped"]) == {"lr=low", "lr=high"} and "base" in looks[0]["kept"]
    assert looks[0]["stopped"]["lr=low"] == "race: left the best set after 3 seeds (look 1 of 3)"
    stopped = [driver.results[cell.trial] for cell in driver.plan.cells if cell.arm == "lr=low" and cell.seed > 3]
    assert all(result.steps == 0 and result.why.startswith("race: left") for result in stopped)
    saved = sum(len(look["stopped"]) * (6 - look["after"]) for look in looks)
    assert saved >= 6 and len(executor.started) == 30 - saved


def test_killed_at_any_trial_a_race_decides_as_if_nothing_had_happened(tmp_path):
    whole = InstantExecutor()
    drive(plan_of(tmp_path), tmp_path / "whole", whole)
    for lives in (0, 14, 15, 16, 18, 20):
        runs = tmp_path / f"killed-{lives}"
        first, second = InstantExecutor(lives=lives), InstantExecutor()
        with pytest.raises(Killed):
            drive(plan_of(tmp_path), runs, first)
        drive(plan_of(tmp_path), runs, second)
        assert race_file(runs) == race_file(tmp_path / "whole")
        assert first.started + second.started == whole.started


def test_a_decision_is_on_disk_before_it_is_acted_upon_and_never_taken_twice(tmp_path, monkeypatch):
    runs, calls = tmp_path / "runs", []

    def dying(*arguments):
        raise Killed

    def judge(scores, **options):
        calls.append(len(next(iter(scores.values()))))
        return {"lr=low": "did so"} if len(calls) == 1 else {}

    with monkeypatch.context() as patched:
        patched.setattr("ablate.outcome.record_stop", dying)
        with pytest.raises(Killed):
            drive(plan_of(tmp_path), runs, InstantExecutor(), judge)
    assert race_file(runs)["looks"][0]["stopped"] == {"lr=low": "race: did so after 3 seeds (look 1 of 3)"}
    driver = drive(plan_of(tmp_path), runs, InstantExecutor(), judge)
    assert calls == [3, 4, 5] and statuses(driver)["lr=low"][3:] == [Status.stopped] * 3


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_no_trial_starts_before_the_look_that_comes_before_it_is_decided(tmp_path, slots):
    plan, runs = plan_of(tmp_path), tmp_path / f"runs-{slots}"
    seeds = {cell.trial: cell.seed for cell in plan.cells}

    class Watching(InstantExecutor):
        def start(self, kind, folder, **options):
            if kind == "run":
                decided = {look.after for look in looks_of(StudyFolder(runs, "raced"))}
                assert {after for after in plan.study.race.looks if after < seeds[folder.name]} <= decided
            return super().start(kind, folder, **options)

    drive(plan, runs, Watching(slots=slots))
    reference = drive(plan, tmp_path / "one", InstantExecutor())
    assert reference.looks == tuple(looks_of(StudyFolder(runs, "raced")))


def test_a_judge_that_would_stop_the_base_is_not_heard(tmp_path):
    driver = drive(plan_of(tmp_path), tmp_path / "runs", InstantExecutor(),
                   lambda scores, **options: dict.fromkeys(scores, "hates all"))  # fmt: skip
    assert statuses(driver)["base"] == [Status.done] * 6
    assert all(row[3:] == [Status.stopped] * 3 for arm, row in statuses(driver).items() if arm != "base")


def test_names_of_one_recipe_stop_together(tmp_path):
    plan = plan_of(tmp_path, "factors.lr.lowest={optimizer.lr: 1e-5}")
    driver = drive(plan, tmp_path / "runs", InstantExecutor())
    assert statuses(driver)["lr=lowest"] == statuses(driver)["lr=low"] == [Status.done] * 3 + [Status.stopped] * 3
    assert {"lr=low", "lr=lowest"} <= set(race_file(tmp_path / "runs")["looks"][0]["stopped"])


def test_nothing_is_added_to_a_study_whose_race_has_been_decided(tmp_path):
    runs = tmp_path / "runs"
    drive(plan_of(tmp_path), runs, InstantExecutor())
    folder = StudyFolder(runs, "raced")
    with pytest.raises(StudyChanged, match="race"):
        check_plan(plan_of(tmp_path, "factors.lr.more={optimizer.lr: 2e-3}"), folder, extend=True)
    with pytest.raises(StudyChanged):
        check_plan(plan_of(tmp_path, "seeds=7"), folder, extend=True)


def test_halving_keeps_the_better_half_and_always_one():
    worth = {"base": [9.0], "a": [1.0], "b": [2.0], "c": [3.0], "d": [float("nan")]}
    assert set(halved(worth, goal="max", keep=0.5)) == {"a", "d"}
    assert set(halved(worth, goal="min", keep=0.5)) == {"c", "d"}
    assert set(halved(worth, goal="min", keep=0.01)) == {"b", "c", "d"}
    assert halved({"base": [1.0], "a": [2.0]}, goal="max", keep=0.5) == {}


@given(st.integers(3, 40), st.integers(1, 37))
def test_the_level_of_a_race_is_split_over_its_looks(first, more):
    race = Race(tuple(range(first, first + more)))
    assert sum([race.alpha] * len(race.looks)) == pytest.approx(ALPHA)


def test_a_look_says_nothing_of_arms_that_left_before(tmp_path):
    plan = plan_of(tmp_path)
    driver = drive(plan, tmp_path / "runs", InstantExecutor())
    later = [arm for look in driver.looks[1:] for arm in (*look.stopped, *look.kept)]
    assert "lr=low" not in later
    fallen = racing.stops(plan, driver.looks)
    assert all(cell.arm != "base" for trial in fallen for cell in plan.cells_of(trial))


def test_a_decision_depends_on_nothing_but_the_outcomes():
    race = Race((3, 4))
    table = {"base": [1.0, 2.0, 3.0], "a": [0.0, 1.0, 2.0]}
    asked = []

    def judge(scores, **options):
        asked.append((dict(scores), options))
        return {}

    look = decide(race, 3, table, table, goal="max", metric="psnr", judge=judge)
    assert asked == [(table, {"goal": "max", "metric": "psnr", "alpha": 0.025})] and look.kept == ("base", "a")
