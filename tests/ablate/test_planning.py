"""`ablate plan`: where its numbers come from, what it says, and that it stays quick."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from ablate import events
from ablate.plan import make_plan
from ablate.plan_words import describe
from ablate.planning import document
from ablate.problems import StudyError
from ablate.records import StudyFolder
from ablate.study import load
from reports import foresight
from tests.ablate import studies
from tests.ablate.test_design_keys import STUDY

FULL = "full: {norm: base}\nseeds: 3\n"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """(plan, runs folder) of the study with more keys; `name` and other settings by `sets`."""
    monkeypatch.chdir(tmp_path)

    def making(more="seeds: 3\n", *, sets=()):
        (tmp_path / "keys.yaml").write_text(STUDY + more)
        return make_plan(load("keys.yaml", sets=sets))

    return making


def pretend(plan, runs, *, sd, seconds=10.0, seeds=None, metric="gmsd", spread=0.0):
    """Write ended trials with scores that differ by arm, by seed and by noise of that sd."""
    random = np.random.default_rng(5)
    folder = StudyFolder(runs, plan.study.name)
    folder.root.mkdir(parents=True)
    folder.plan.write_text(json.dumps(plan.to_json()))
    for at, cell in enumerate(plan.cells):
        if seeds is None or cell.seed in seeds:
            trial = folder.trial(cell.trial)
            trial.root.mkdir(parents=True, exist_ok=True)
            writer = events.EventWriter(trial.events)
            value = 1 + 0.1 * cell.seed + 0.01 * len(cell.arm) + random.normal(0, sd)
            writer.append(events.Measured, step=20, images=80, split="validation", values={metric: value})
            took = seconds * (1 + spread * (-1) ** at)
            writer.append(events.Ended, step=20, images=80, status="done", why="", seconds=took)
            writer.close()
            first, last = (json.loads(line) for line in trial.events.read_text().splitlines())
            last["time"] = first["time"] + took
            trial.events.write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")
            (trial.root / "weights").write_bytes(b"0" * 1000)


def facts(plan, runs, **options):
    return document(plan, runs, foresight, **options)


def test_with_nothing_known_a_plan_states_the_metrics_default_and_its_source(make, tmp_path):
    found = facts(make(), tmp_path / "runs")["detectable"]
    assert found["sd"]["source"].startswith("a default: 22 arms x 3 seeds") and found["sd"]["df"] == 0
    sizes, shown = found["by_seeds"], found["in_metric"]["by_seeds"]
    assert list(sizes) == list(shown) == [str(n) for n in range(3, 11)]
    assert all(shown[n] == pytest.approx(sizes[n] * found["sd"]["sd"]) for n in sizes)
    assert found["planned"] == sizes["3"]


def test_without_a_default_it_says_what_is_not_known(make, tmp_path):
    plan = make(sets=["metric.name=psnr"])
    found = facts(plan, tmp_path / "runs")
    assert found["detectable"]["sd"] is None and found["detectable"]["in_metric"] == {}
    said = describe(plan, found)
    assert "it is not known yet: give --pilot STUDY or --pilot NUMBER" in " ".join(said.split())
    assert "their time is known once the first has ended, or with --measure" in said


def test_trials_of_the_study_itself_come_before_anything_else(make, tmp_path):
    other, plan = make(sets=["name=other"]), make("seeds: 40\n")
    pretend(other, tmp_path, sd=5.0)
    pretend(plan, tmp_path, sd=0.02, seeds=range(1, 38))
    found = facts(plan, tmp_path)
    sd = found["detectable"]["sd"]
    assert sd["source"] == "finished trials of this study" and sd["sd"] == pytest.approx(0.02, rel=0.2)
    assert sd["df"] == 4 * 36 and sd["low"] < sd["sd"] < sd["high"]
    assert (found["cost"]["trials_left"], found["cost"]["measured_on"]) == (15, 185)


def test_one_seed_alone_says_nothing_of_the_spread(make, tmp_path):
    plan = make()
    pretend(plan, tmp_path, sd=0.02, seeds=[1])
    found = facts(plan, tmp_path)
    assert found["detectable"]["sd"]["source"].startswith("a default")
    assert found["cost"]["measured_on"] == 5


def test_a_study_on_the_same_data_is_named_and_one_on_other_data_comes_after_it(make, tmp_path):
    plan = make()
    pretend(make(sets=["name=elsewhere", "base.data.scenes=9", "seeds=30"]), tmp_path, sd=3.0)
    found = facts(plan, tmp_path)
    assert found["detectable"]["sd"]["source"] == "the study elsewhere (the same layout, metric and budget, other data)"
    assert "of the study elsewhere" in found["cost"]["source"]
    pretend(make(sets=["name=here", "seeds=4"]), tmp_path, sd=0.5)
    found = facts(plan, tmp_path)["detectable"]["sd"]
    assert found["source"] == "the study here (the same data, metric and budget)"


@pytest.mark.parametrize("change", ["metric.name=ssim", "base.budget.generator_updates=40"])
def test_a_study_with_another_metric_or_budget_says_nothing(make, tmp_path, change):
    pretend(make(sets=["name=other", change]), tmp_path, sd=3.0, metric="ssim")
    assert facts(make(), tmp_path)["detectable"]["sd"]["source"].startswith("a default")


def test_time_is_not_taken_from_a_study_whose_networks_or_resources_differ(make, tmp_path):
    pretend(make(sets=["name=wide", "base.generator.width=16"]), tmp_path, sd=0.1)
    found = facts(make(), tmp_path)
    assert found["detectable"]["sd"]["source"].startswith("the study wide") and found["cost"]["hours_left"] is None


def test_a_pilot_is_a_study_of_any_budget_or_a_number(make, tmp_path):
    plan = make()
    pretend(make(sets=["name=pilot", "base.budget.generator_updates=40", "seeds=30"]), tmp_path, sd=0.3)
    found = facts(plan, tmp_path, pilot="pilot")["detectable"]["sd"]
    assert found["source"] == "the pilot study pilot" and found["sd"] == pytest.approx(0.3, rel=0.2)
    assert facts(plan, tmp_path, pilot="0.07")["detectable"]["sd"] == {
        "sd": 0.07, "scale": "raw", "source": "the number given by --pilot", "df": 0
    }  # fmt: skip


@pytest.mark.parametrize("pilot", ["absent", "../x", "0", "-1", "nan", "inf", "keys"])
def test_a_pilot_that_says_nothing_is_refused(make, tmp_path, pilot):
    plan = make()
    pretend(plan, tmp_path, sd=0.1, seeds=[1])
    with pytest.raises(StudyError, match="--pilot"):
        facts(plan, tmp_path, pilot=pilot)


def test_cost_is_trials_times_seconds_over_slots_with_an_interval(make, tmp_path):
    plan = make(sets=["resources={ranks: 2, threads: 3, slots: 2}"])
    pretend(plan, tmp_path, sd=0.1, seconds=36.0, seeds=[1, 2], spread=0.1)
    found = facts(plan, tmp_path)["cost"]
    assert found["trials_left"] == 5 and found["unit"] == "core-hours"
    assert found["hours_left"] == pytest.approx(5 * 36 / 2 / 3600, rel=0.02)
    assert found["device_hours"] == pytest.approx(5 * 36 * 6 / 3600, rel=0.02)
    assert 0.5 < found["low"] < 0.99 and 1.01 < found["high"] < 1.5


def test_trials_of_one_job_take_their_time_one_after_the_other(make, tmp_path):
    plan = make(sets=["resources={ranks: 2, executor: slurm, slots: 4, trials_per_job: 2}"])
    pretend(plan, tmp_path, sd=0.1, seconds=36.0, seeds=[1, 2], spread=0.1)
    assert facts(plan, tmp_path)["cost"]["hours_left"] == pytest.approx(5 * 36 / 2 / 3600, rel=0.02)


def test_a_main_effect_is_found_at_a_smaller_size_than_an_arm_and_words_say_so(make, tmp_path):
    plan = make(FULL)
    found = facts(plan, tmp_path)
    main, interaction = found["detectable"]["effects"]
    assert main["kind"] == "main" and main["arms"] == 4
    assert main["planned"] < found["detectable"]["planned"] < interaction["planned"]
    said = " ".join(describe(plan, found).split())
    assert "each from 4 arms, standard error 0.71 times that of an arm against the base" in said
    assert "main effect, in GMSD" in said and "can't say: which other change it acts with" in said
    assert "full_without_lr loss=ssim, objective=wgan" in said


def test_all_pairs_need_larger_differences_than_pairs_with_the_base(make, tmp_path):
    pairs = facts(make(sets=["metric.family=all_pairs"]), tmp_path)["detectable"]
    assert pairs["compared"] == "any two arms"
    assert pairs["planned"] > facts(make(), tmp_path)["detectable"]["planned"]


def test_the_twin_counts_as_a_trial_and_not_as_a_comparison(make, tmp_path):
    plain, twin = make(), make("seeds: 3\naa: true\n")
    assert facts(twin, tmp_path)["num_trials"] == facts(plain, tmp_path)["num_trials"] + 3
    assert facts(twin, tmp_path)["detectable"] == facts(plain, tmp_path)["detectable"]
    assert "(base again, with other initial weights" in describe(twin, facts(twin, tmp_path))


def test_a_recipe_with_two_names_is_compared_once(make, tmp_path):
    plan = make(sets=["factors.again={half: {optimizer.lr_ratio: 0.5}}"])
    assert plan.shared == 3 and len(plan.compared) == 5
    assert facts(plan, tmp_path)["detectable"] == facts(make(), tmp_path)["detectable"]


def test_what_is_left_out_and_the_alias_table_are_printed(make, tmp_path):
    plan = make("design: factorial\nnever: [{objective: wgan, norm: batch}]\n")
    said = describe(plan, facts(plan, tmp_path))
    assert "left out: objective=wgan, norm=batch: never: objective: wgan, norm: batch (discriminator.norm" in said
    plan = make("design: {fractional: {resolution: 3, factors: [lr, loss, norm]}}\n")
    said = describe(plan, facts(plan, tmp_path))
    assert "resolution III: 1/2 of 8 combinations" in said and "    norm = lr:loss\n" in said
    assert "norm = -lr:loss" in said


def test_the_smallest_effect_of_interest_is_set_beside_what_shows(make, tmp_path):
    plan = make(sets=["metric.smallest_effect=0.0098"])
    assert "the smallest effect of interest, 0.0098, shows from 4 seeds on" in describe(plan, facts(plan, tmp_path))
    plan = make(sets=["metric.smallest_effect=0.0001"])
    assert "0.0001, needs more than 10 seeds to show" in describe(plan, facts(plan, tmp_path))


def test_facts_are_plain_json_and_the_same_each_time(make, tmp_path):
    plan = make(FULL)
    pretend(plan, tmp_path, sd=0.1)
    first, second = (facts(plan, tmp_path) for _ in range(2))
    assert first["disk"].pop("free") and second["disk"].pop("free"), "what others leave free"
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_are_said_to_give_no_verdicts(make, tmp_path, seeds):
    plan = make(sets=[f"seeds={seeds}"])
    found = facts(plan, tmp_path)
    assert found["detectable"]["planned"] is None and json.dumps(found, allow_nan=False)
    assert "estimates only, no verdicts" in describe(plan, found)


def test_a_plan_of_forty_arms_beside_a_finished_study_is_quick(make, tmp_path):
    levels = ", ".join(f"l{i}: {{optimizer.lr: {i + 1}e-6}}" for i in range(40))
    plan = make(sets=[f"factors={{lr: {{{levels}}}}}", "seeds=5"])
    pretend(plan, tmp_path, sd=0.1)
    began = time.process_time()
    facts(plan, tmp_path)
    assert time.process_time() - began < 3  # seconds of one core


def test_the_command_takes_a_pilot(tmp_path):
    studies.write(tmp_path)
    done = studies.ablate("plan", "tiny.yaml", "--pilot", "0.25", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["detectable"]["sd"]["sd"] == 0.25
    refused = studies.ablate("plan", "tiny.yaml", "--pilot", "absent", cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.startswith("--pilot absent: neither a number above 0 nor a study")
