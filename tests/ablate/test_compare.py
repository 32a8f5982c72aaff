"""`ablate compare`: what changed between two studies, and what may be said of their numbers."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import reports
from ablate.cli import app
from tests.reports.factory import REFERENCES, study, table

ARMS = {"base": 17.0, "spectral": 18.0, "hinge": 17.1, "wgan_gp": 16.0}
BASE = {"data": {"tile": 64}, "generator": {"width": 8}, "batch": 4}
PROVENANCE = {"host": "one", "cores": 8, "versions": {"torch": "2.13", "numpy": "2.4"}, "core_hours": 1.0}
FORBIDDEN = [r"\btrends?\b", r"marginal", r"\bsignifican", r"no effect", r"±", r"\+/-", r"\bbecause\b", r"due to",
             r"\bcaus", r"\bnan\b", r"\bNone\b"]  # fmt: skip


def make(tmp_path, name: str, scores=None, data=None, **plan):
    """A study's folder; `data` are the facts of its data in the plan."""
    root = study(tmp_path / "runs", scores or table(ARMS, 4), name=name,
                 **{"base": BASE, "provenance": PROVENANCE} | plan)  # fmt: skip
    if data:
        edit(root, lambda document: document.update(data=data))
    return root


def edit(root, change) -> None:
    document = json.loads((root / "plan.json").read_text())
    change(document)
    (root / "plan.json").write_text(json.dumps(document))


def compare(tmp_path, a="one", b="two", *more: str, code: int = 0):
    done = CliRunner().invoke(app, ["compare", a, b, "--runs", str(tmp_path / "runs"), *more])
    assert done.exit_code == code, (done.output, done.exception)
    text = done.stderr if code else done.stdout
    assert not [pattern for pattern in FORBIDDEN if re.search(pattern, text)]
    return json.loads(text) if "--json" in more and not code else text


def test_a_study_and_its_copy_differ_in_nothing(tmp_path):
    make(tmp_path, "one"), make(tmp_path, "two")
    text = compare(tmp_path)
    for said in ("recipe: the same", "data: the same", "code: the same", "plan: the same", "machine: the same"):
        assert said in text
    assert "Reproduced: the 16 trials that both share ended with identical values." in text
    assert "No verdict changed." in text and "same difference from the baseline in both" in text


def test_changes_of_the_recipe_are_told_by_their_paths_and_arms_by_name(tmp_path):
    make(tmp_path, "one")
    two = make(tmp_path, "two", table({"base": 17.0, "spectral": 18.0, "hinge": 17.1, "r1": 17.2}, 4))

    def change(plan):
        plan["base"]["generator"]["width"] = 16
        plan["arms"][1]["differences"] = {"discriminator.norm": ["instance", "spectral"]}

    edit(two, change)
    found = compare(tmp_path, "one", "two", "--json")["recipe"]
    assert found["base"] == {"generator.width": [8, 16]} and found["same"] is False
    assert (found["arms"]["added"], found["arms"]["removed"]) == (["r1"], ["wgan_gp"])
    assert found["arms"]["changed"]["spectral"]["discriminator.norm"] == [None, "spectral"]
    text = compare(tmp_path)
    assert "base generator.width: 8 -> 16" in text and "arm added: r1" in text and "arm removed: wgan_gp" in text
    assert "arm spectral: discriminator.norm: as the base -> spectral" in text


def test_an_arm_that_runs_the_same_trials_under_another_name_is_renamed(tmp_path):
    make(tmp_path, "one")
    two = make(tmp_path, "two")

    def rename(plan):
        for entry in (*plan["arms"], *plan["cells"]):
            key = "name" if "name" in entry else "arm"
            entry[key] = "wasserstein" if entry[key] == "wgan_gp" else entry[key]

    edit(two, rename)
    arms = compare(tmp_path, "one", "two", "--json")["recipe"]["arms"]
    assert arms["renamed"] == {"wgan_gp": "wasserstein"} and arms["added"] == arms["removed"] == []


def test_data_plan_code_and_machine_are_told_apart(tmp_path):
    make(tmp_path, "one")
    two = make(tmp_path, "two", data={"fingerprint": "aaaa11", "layout": "scenes"}, design="list",
               provenance=PROVENANCE | {"host": "two", "versions": {"torch": "2.14", "numpy": "2.4"}})  # fmt: skip
    edit(two, lambda plan: plan["metric"].update(smallest_effect=0.2))
    (two / "data.json").write_text(json.dumps({"tiles": "9 train", "cautions": ["data: few tiles"]}))
    found = compare(tmp_path, "one", "two", "--json")
    assert found["data"]["same"] is False and found["data"]["changed"]["fingerprint"] == ["5f2a9c", "aaaa11"]
    assert found["data"]["cautions"]["b"] == ["data: few tiles"]
    assert found["plan"]["changed"] == {"design": ["one_at_a_time", "list"], "metric.smallest_effect": [0.1, 0.2]}
    assert found["code"]["versions"] == {"torch": ["2.13", "2.14"]}
    assert found["machine"]["changed"] == {"host": ["one", "two"]}
    assert found["numbers"]["paired"] is False
    text = compare(tmp_path)
    assert "layout: synthetic -> scenes" in text and "only B has the caution: data: few tiles" in text


def test_numbers_of_other_seeds_are_compared_with_the_errors_of_both(tmp_path):
    make(tmp_path, "one", data={"fingerprint": "a", "layout": "synthetic"})
    make(tmp_path, "two", table(ARMS | {"hinge": 19.5}, 4, draw=3), data={"fingerprint": "b", "layout": "synthetic"})
    found = compare(tmp_path, "one", "two", "--json")["numbers"]
    rows = {row["arm"]: row for row in found["arms"]}
    assert rows["hinge"]["verdict"] == "differs" and rows["hinge"]["low"] > 0
    assert {rows[arm]["verdict"] for arm in ("spectral", "wgan_gp")} == {"not told apart"}
    assert found["verdicts_changed"] == ["hinge"]
    text = compare(tmp_path)
    assert "beyond the errors of both studies" in text and "in 1 of 3 arms: hinge by +" in text
    assert f"hinge: {rows['hinge']['a']['verdict']} -> {rows['hinge']['b']['verdict']}" in text


def test_where_nothing_is_told_apart_that_is_not_called_equal(tmp_path):
    make(tmp_path, "one"), make(tmp_path, "two", table(ARMS, 4, draw=3))
    text = compare(tmp_path)
    assert "do not allow to say that any of the 3 arms' differences" in text
    assert "does not show that they are equal" in text


def test_equal_recipes_with_other_values_are_said_not_to_be_reproduced(tmp_path):
    scores = table(ARMS, 4)
    make(tmp_path, "one", scores)
    make(tmp_path, "two", scores | {"hinge": tuple(value + 0.001 for value in scores["hinge"])})
    text = compare(tmp_path)
    assert "Not reproduced: 4 of the 16 trials that both share (same recipe, seed, data and ranks)" in text
    assert "though recipe, data and code are the same" in text


def test_two_seeds_support_no_claim(tmp_path):
    make(tmp_path, "one", table(ARMS, 2)), make(tmp_path, "two", table(ARMS | {"hinge": 25.0}, 2, draw=3))
    text = compare(tmp_path)
    assert "estimates only, without a claim" in text and "beyond the errors" not in text


def test_a_report_alone_is_compared_by_its_numbers(tmp_path):
    """What a report.json does not hold is unknown; beside its study the facts are found."""
    one, two = make(tmp_path, "one"), make(tmp_path, "two", table(ARMS, 4, draw=3))
    beside = reports.write(two).parent
    alone = tmp_path / "alone.json"
    alone.write_bytes((beside / "report.json").read_bytes())
    by_folder, by_file, by_copy = (
        compare(tmp_path, str(one), str(place), "--json") for place in (two, beside / "report.json", alone)
    )
    assert by_file["recipe"] == by_folder["recipe"] and by_copy["recipe"] == {"known": False, "same": None}
    assert by_file["numbers"] == by_folder["numbers"]
    assert by_copy["numbers"]["paired"] is False
    assert [row["b"] for row in by_copy["numbers"]["arms"]] == [row["b"] for row in by_folder["numbers"]["arms"]]
    assert "recipe: unknown: one of the two does not say" in compare(tmp_path, str(one), str(alone))


def test_studies_on_two_metrics_need_one_that_both_have(tmp_path):
    gmsd = {"name": "gmsd", "label": "GMSD", "unit": "", "goal": "min", "split": "validation"}
    make(tmp_path, "one")
    make(tmp_path, "two", {arm: [0.3 + x / 100 for x in row] for arm, row in table(ARMS, 4).items()}, metric=gmsd,
         also=(), references={"mean_colour": {"gmsd": REFERENCES["mean_colour"]["gmsd"]}})  # fmt: skip
    assert "The numbers are not compared: A ranks by PSNR and B by GMSD" in compare(tmp_path)
    assert compare(tmp_path, "one", "two", "--metric", "gmsd", "--json")["numbers"]["compared"] is True
    assert "--metric: there is no 'psnr'; there are gmsd" in compare(tmp_path, "one", "two", "--metric", "psnr", code=2)


@pytest.mark.parametrize(
    ("what", "words"),
    [("nothing", "no such study, folder or report.json"), ("empty", "neither a study"), ("x.json", "not a report")],
)
def test_what_is_no_study_is_refused_with_a_sentence(tmp_path, what, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "one")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.json").write_text('{"a": 1}')
    said = compare(tmp_path, "one", what, code=2)
    assert words in said and "Traceback" not in said
