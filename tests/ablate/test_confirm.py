"""`ablate confirm`: the best arms again, on seeds and scenes that selected nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from ablate import confirm, testreads
from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.records import StudyFolder
from ablate.stored import Damaged
from ablate.study import load
from tests.ablate import commands, studies

HALF = "    half: {optimizer.lr_ratio: 0.5}\n"
THREE = studies.STUDY.replace(HALF, HALF + HALF.replace("half", "tenth").replace("0.5", "0.1"))


@dataclass(frozen=True)
class Chosen:
    arms: tuple[str, ...] = ("lr_ratio=tenth",)
    planned: int = 6
    open: int = 0


@pytest.fixture
def ran(tmp_path):
    """The folder of a study that has a plan; its trials need not be there."""
    folder = StudyFolder(tmp_path / "runs", "tiny")
    study = load(studies.write(folder.root, THREE))
    folder.plan.write_text(json.dumps(make_plan(study).to_json()))
    (folder.root / "tiny.yaml").rename(folder.study)
    return folder


def plan_of(folder, **options):
    return make_plan(load(folder.study, sets=confirm.settings(folder, Chosen(), **options)))


def test_a_confirmation_is_the_same_recipe_under_the_same_names_on_other_seeds_and_the_test_split(ran):
    plan, before = plan_of(ran), json.loads(ran.plan.read_text())
    assert [arm.name for arm in plan.arms] == ["base", "lr_ratio=tenth"]
    assert dict(plan.arm("lr_ratio=tenth").arm.changes) == {"lr_ratio": "tenth"}
    assert not set(plan.study.seeds) & set(before["seeds"]) and len(plan.study.seeds) == 5
    assert plan.study.metric.split == "test" and all(arm.resolved.recipe.evaluate.test for arm in plan.arms)
    told = plan.to_json()["confirms"]
    assert (told["study"], told["plan"], list(told["seeds"])) == ("tiny", before["hash"], before["seeds"])
    assert {arm["name"]: arm["differences"] for arm in before["arms"]}["lr_ratio=tenth"] == {
        path: list(pair) for path, pair in plan.arm("lr_ratio=tenth").differences.items()
    }


def test_arms_and_seeds_may_be_chosen(ran):
    plan = plan_of(ran, arms=["lr_ratio=half", "base"], seeds=7)
    assert [arm.name for arm in plan.arms] == ["base", "lr_ratio=half"] and len(plan.study.seeds) == 7


@pytest.mark.parametrize(
    ("chosen", "options", "said"),
    [
        (Chosen(open=2), {}, "2 of 6 trials have no outcome yet; finish it first: ablate run tiny"),
        (Chosen(), {"arms": ["lr_ratio=halve"]}, "did you mean lr_ratio=half?"),
        (Chosen(arms=()), {}, "name some with --arm"),
    ],
)
def test_what_can_not_be_confirmed_is_said(ran, chosen, options, said):
    with pytest.raises(StudyError, match="(?s)" + said.replace("?", r"\?")):
        confirm.settings(ran, chosen, **options)


def test_only_a_confirmation_ranks_by_the_test_split(ran):
    with pytest.raises(StudyError, match="ablate confirm"):
        load(ran.study, sets=["metric.split=test"])


def test_a_confirmation_refuses_the_seeds_that_selected(ran):
    settings = [*confirm.settings(ran, Chosen()), "seeds=[2, 30]"]
    with pytest.raises(StudyError, match="seed 2 selected"):
        load(ran.study, sets=settings)


def test_a_confirmation_by_hand_is_refused_unless_what_it_confirms_has_run(ran):
    """Else the test scenes could be looked at by anyone who writes `confirms`."""
    settings = confirm.settings(ran, Chosen())
    assert load(ran.study, sets=settings, runs=ran.runs).metric.split == "test"
    stated = json.loads(settings[-3].partition("=")[2])
    assert set(stated) == {"study", "plan", "arms", "seeds"}
    for key, value, says in (
        ("study", "absent", "confirms.study: no study 'absent' has run under"),
        ("study", "../tiny", "confirms.study: no study '../tiny' has run under"),
        ("study", "", "confirms.study: is missing; `confirms` is what `ablate confirm` writes"),
        ("plan", "0123456789ab", f"confirms.plan: the plan of tiny is {stated['plan']}, not '0123456789ab'"),
        ("arms", ["lr_ratio=halve"], "confirms.arms: no such arm: 'lr_ratio=halve'; .*did you mean lr_ratio=half?"),
        ("seeds", [1], "confirms.seeds: tiny selected on seed 2 too"),
    ):
        changed = f"confirms={json.dumps(stated | {key: value})}"
        with pytest.raises(StudyError, match=says.replace("?", r"\?")):
            load(ran.study, sets=[*settings, changed], runs=ran.runs)


def test_a_confirmation_that_has_begun_stands_when_its_study_has_gone(ran):
    settings = confirm.settings(ran, Chosen())
    study = load(ran.study, sets=settings)
    ran.confirmation.root.mkdir()
    ran.confirmation.plan.write_text(json.dumps(make_plan(study).to_json()))
    ran.plan.unlink()
    assert load(ran.study, sets=settings, runs=ran.runs).confirms == study.confirms
    with pytest.raises(StudyError, match="no study 'tiny' has run"):
        load(ran.study, sets=[*settings, "name=other"], runs=ran.runs)


def test_check_plan_and_run_refuse_a_confirmation_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_hand = "confirms: {study: tiny-before, plan: '0123456789ab', arms: [base], seeds: [9]}\n"
    studies.write(tmp_path, THREE + by_hand)
    for command in ("check", "plan", "run"):
        ended = commands.ablate(command, "tiny.yaml", "--set", "metric.split=test")
        said = "tiny.yaml:19:12: confirms.study: no study 'tiny-before' has run under runs/"
        assert ended.code == 2 and said in ended.err, ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_study_file_keeps_what_it_confirms(ran, tmp_path):
    """Under its own name a confirmation goes on after a stop."""
    from ablate.yamlfile import write_yaml

    study = load(ran.study, sets=confirm.settings(ran, Chosen()))
    path = tmp_path / "again.yaml"
    path.write_text(write_yaml(study.text))
    assert make_plan(load(path)).to_json() == make_plan(study).to_json()


def test_looks_at_test_scenes_are_counted_by_plan_and_data(ran):
    first, other = plan_of(ran), plan_of(ran, seeds=6)
    beside = ran.confirmation
    assert [testreads.count(plan, beside) for plan in (first, other, first, other)] == [1, 2, 1, 2]
    assert testreads.count(make_plan(load(ran.study)), ran) is None
    elsewhere = make_plan(load(ran.study, sets=[*confirm.settings(ran, Chosen()), "base.data.seed=9"]))
    assert testreads.count(elsewhere, beside) == 1


def test_every_prefix_of_the_looks_counts_all_complete_lines_and_a_damaged_one_is_named(ran):
    plans, beside = [plan_of(ran, seeds=seeds) for seeds in (5, 6)], ran.confirmation
    assert [testreads.count(plan, beside) for plan in plans] == [1, 2]
    whole = beside.test_reads.read_bytes()
    left = beside.runs / ".test-reads.jsonl.99999999.partial"  # of a driver that was killed while it wrote
    left.touch()
    assert testreads.count(plans[0], beside) == 1 and not left.exists()
    for length in range(len(whole) + 1):
        beside.test_reads.write_bytes(whole[:length])
        assert testreads.count(plans[1], beside) == (1 if b"\n" not in whole[:length] else 2)
        assert beside.test_reads.read_bytes().endswith(b"\n")
    for damaged in (b"{\n", b"[]\n", b"{}\n", b"\xff\n"):
        beside.test_reads.write_bytes(whole + damaged)
        with pytest.raises(Damaged, match="test-reads.jsonl: damaged: put it back from a copy"):
            testreads.count(plans[0], beside)


@pytest.mark.slow
def test_a_study_is_confirmed_from_end_to_end_and_its_report_takes_the_headline_from_there(tmp_path):
    studies.write(tmp_path, THREE)
    sets = ["--set", "seeds=3", "--set", "base.data.scenes=6", "--set", "resources.ranks=1"]
    assert studies.ablate("run", "tiny.yaml", *sets, cwd=tmp_path).returncode == 0
    before = (tmp_path / "runs/tiny/report/report.md").read_text()
    shown = studies.ablate("confirm", "tiny", "--arm", "lr_ratio=tenth", "--seeds", 3, "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0 and "seeds 4 to 6" in shown.stdout and not (tmp_path / "runs/tiny-confirm").exists()
    done = studies.ablate("confirm", "tiny", "--arm", "lr_ratio=tenth", "--seeds", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "runs/tiny-confirm/report/report.json").read_text())
    assert report["metric"]["split"] == "test" and [row["arm"] for row in report["table"]].count("base") == 1
    streams = [json.loads(line) for path in (tmp_path / "runs/tiny-confirm/trials").glob("*/events.jsonl")
               for line in path.read_text().splitlines()]  # fmt: skip
    tested = sorted(line["values"]["gmsd"] for line in streams if line.get("split") == "test")
    assert sorted(run["score"] for run in report["runs"]) == tested and len(tested) == 6
    assert report["references"]["mean_colour"]["gmsd"] > 0
    after = (tmp_path / "runs/tiny/report/report.md").read_text()
    assert "On fresh seeds and test scenes" in after and "On fresh seeds and test scenes" not in before
    again = studies.ablate("confirm", "tiny", cwd=tmp_path)
    assert again.returncode == 0 and len((tmp_path / "runs/test-reads.jsonl").read_text().splitlines()) == 1
