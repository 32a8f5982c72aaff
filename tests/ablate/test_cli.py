"""The command line: what people type, and what they read when they mistype."""

from __future__ import annotations

import json

import pytest

from tests.ablate import studies

TEN_MISTAKES = """\
name: my/study
trainer: pix3pix
base:
  generator: {name: unet, width: -8}
  objective: {name: hinge2}
  terms: {l1: "100"}
  batch: 0
  budget: {generator_updates: 10}
  evaluate: {every: 20}
factors:
  lr_ratio:
    half: {optimiser.lr_ratio: 0.5}
    same: {optimizer.lr_ratio: 1.0}
seeds: [1, 1]
metric: {name: fidelity}
colour: blue
"""


def test_ten_mistakes_give_ten_located_sentences_exit_2_and_nothing_is_written(tmp_path):
    path = studies.write(tmp_path, TEN_MISTAKES)
    for command in ("check", "plan", "run"):
        done = studies.ablate(command, path.name, cwd=tmp_path)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and done.stdout == "", done.stderr
        assert len(lines) >= 10 and all(line.startswith("tiny.yaml:") for line in lines), done.stderr
        assert any("did you mean hinge?" in line for line in lines)
        assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.yaml"]


def test_plan_answers_in_json_with_the_agreed_keys(tmp_path):
    studies.write(tmp_path)
    done = studies.ablate("plan", "tiny.yaml", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert {"name", "arms", "trials", "num_trials", "shared", "detectable", "cost"} <= set(found)
    assert [set(trial) for trial in found["trials"]] == [{"id", "arm", "seed"}] * studies.CELLS
    assert all({"name", "changes"} <= set(arm) for arm in found["arms"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.yaml"]


def test_plan_shows_arms_budgets_and_what_could_be_detected(tmp_path):
    studies.write(tmp_path)
    said = studies.ablate("plan", "tiny.yaml", "--set", "seeds=3", cwd=tmp_path).stdout
    assert "lr_ratio=half  optimizer.lr_ratio: 1.0 -> 0.5" in said
    assert "2 arms x 3 seeds (1, 2, 3) = 6 trials" in said
    assert "exploratory" in said and "detectable" in said


def test_identical_recipes_share_their_trials_and_the_plan_says_so(tmp_path):
    twice = "  lr_ratio:\n    half: {optimizer.lr_ratio: 0.5}\n  again:\n    half: {optimizer.lr_ratio: 0.5}\n"
    studies.write(tmp_path, studies.STUDY.replace("  lr_ratio:\n    half: {optimizer.lr_ratio: 0.5}\n", twice))
    found = json.loads(studies.ablate("plan", "tiny.yaml", "--json", cwd=tmp_path).stdout)
    assert (found["num_trials"], found["shared"]) == (6, 2)
    assert len({trial["id"] for trial in found["trials"]}) == 4
    assert "2 of them share a trial" in studies.ablate("plan", "tiny.yaml", cwd=tmp_path).stdout


def test_the_id_of_a_trial_does_not_depend_on_name_place_or_wording(tmp_path):
    studies.write(tmp_path / "a")
    studies.write(tmp_path / "b", studies.STUDY.replace("batch: 4", "batch: 0004").replace("0004", " 4  # four"))
    plans = [
        json.loads(studies.ablate("plan", "tiny.yaml", "--json", *more, cwd=tmp_path / place).stdout)
        for place, more in (("a", ()), ("b", ("--set", "name=other")))
    ]
    assert [trial["id"] for trial in plans[0]["trials"]] == [trial["id"] for trial in plans[1]["trials"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", "absent.yaml"), "absent.yaml: no such file"),
        (("run", "."), ".: is a folder"),
        (("report", "absent"), "absent: no study of this name has run under runs/"),
        (("show", "abc"), "no trial whose id starts so"),
        (("show", "../x"), "no trial whose id starts so"),
        (("ui",), "there is no MLflow store yet"),
        (("init", ".", "--example", "quik"), "did you mean quick?"),
        (("plan", "tiny.yaml", "--set", "resources={device: cuda, ranks: 64}", "--set", "base.batch=4"), "ranks"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_sentence(tmp_path, arguments, says):
    studies.write(tmp_path)
    done = studies.ablate(*arguments, cwd=tmp_path)
    assert done.returncode in (2, 4) and says in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_more_ranks_than_gpus_is_the_machines_fault_and_says_both_numbers(tmp_path):
    studies.write(tmp_path)
    done = studies.ablate("run", "tiny.yaml", "--set", "resources={ranks: 4, device: cuda}", cwd=tmp_path)
    if done.returncode == 0:
        pytest.skip("this machine has four GPUs")
    assert done.returncode == 4 and "a trial with 4 ranks needs 4 GPUs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_runs_folder_that_cannot_be_made_is_the_machines_fault(tmp_path):
    studies.write(tmp_path)
    (tmp_path / "file").write_text("")
    done = studies.ablate("run", "tiny.yaml", "--runs", "file/runs", cwd=tmp_path)
    assert done.returncode == 4 and "file/runs" in done.stderr and "Traceback" not in done.stderr


def test_init_writes_a_starter_that_checks_and_never_overwrites(tmp_path):
    assert studies.ablate("init", "here", cwd=tmp_path).returncode == 0
    assert studies.ablate("check", "here/quick.yaml", cwd=tmp_path).returncode == 0
    again = studies.ablate("init", "here", cwd=tmp_path)
    assert again.returncode == 2 and "is there already" in again.stderr


def test_init_brings_along_what_an_example_extends(tmp_path):
    assert studies.ablate("init", ".", "--example", "stabilizer-256", cwd=tmp_path).returncode == 0
    assert studies.ablate("check", "stabilizer-256.yaml", cwd=tmp_path).returncode == 0


def test_doctor_finds_this_machine_fit(tmp_path):
    found = json.loads(studies.ablate("doctor", "--json", cwd=tmp_path).stdout)
    assert found["ok"] and found["torch"]["gloo"] and not found["problems"]


def test_a_factorial_names_each_refused_combination_once_and_points_to_never(tmp_path):
    more = "  objective:\n    wgan: {objective.name: wgan_gp}\n  norm:\n    batch: {discriminator.norm: batch}\n"
    text = studies.STUDY.replace("design: one_at_a_time", "design: factorial").replace("design:", "design:", 1)
    studies.write(
        tmp_path, text.replace("    half: {optimizer.lr_ratio: 0.5}\n", "    half: {optimizer.lr_ratio: 0.5}\n" + more)
    )
    done = studies.ablate("plan", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "objective=wgan+norm=batch" in done.stderr and "`never`" in done.stderr
    never = "never=[{objective: wgan, norm: batch}]"
    assert "6 arms x 2 seeds" in studies.ablate("plan", "tiny.yaml", "--set", never, cwd=tmp_path).stdout


def test_on_one_rank_sync_batch_is_batch_norm_and_shares_its_trials(tmp_path):
    more = "  norm:\n    batch: {discriminator.norm: batch}\n    sync: {discriminator.norm: sync_batch}\n"
    text = studies.STUDY.replace(
        "    half: {optimizer.lr_ratio: 0.5}\n", "    half: {optimizer.lr_ratio: 0.5}\n" + more
    )
    studies.write(tmp_path, text)
    shared = {}
    for ranks in (1, 2):
        said = studies.ablate("plan", "tiny.yaml", "--json", "--set", f"resources.ranks={ranks}", cwd=tmp_path).stdout
        shared[ranks] = json.loads(said)["shared"]
    assert shared == {1: 2, 2: 0}


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    done = studies.ablate("init", "file/new", cwd=tmp_path)
    assert done.returncode == 4 and "file/new" in done.stderr and "Traceback" not in done.stderr


def test_data_that_is_refused_leaves_the_name_of_the_study_free(tmp_path):
    studies.write(tmp_path)
    (tmp_path / "data" / "sar").mkdir(parents=True)
    (tmp_path / "data" / "optical").mkdir()
    setting = "base.data={layout: folders, root: data, tile: 32}"
    refused = studies.ablate("run", "tiny.yaml", "--set", setting, cwd=tmp_path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "no study has run" in studies.ablate("status", cwd=tmp_path).stdout
