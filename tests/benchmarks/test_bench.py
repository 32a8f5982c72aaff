"""What `make bench` prints and keeps, and that each way it compares does the same work."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import full_step, goals, gpu, overhead, paired, penalty, rate
from benchmarks.baseline.step import networks
from tests.trainers import tiny
from tests.trainers.test_bare_environment import alone
from trainers.families import DISCRIMINATORS, GENERATORS
from trainers.recipe import Recipe
from trainers.tiles import Tiles


def row(*measured: float, goal: str = "C1", **given) -> paired.Row:
    return paired.Row(goal, "what", measured, **{"target": 10.0} | given)


def test_a_row_is_judged_by_the_median_of_its_pairs():
    assert row(9.0, 11.0, 30.0).met and not row(9.0, 9.9, 30.0).met
    assert row(4.0, at_most=True).met and not row(12.0, at_most=True).met
    assert row(4.0, target=None).met is None
    assert row(12.0, 10.5, floor=0.5).line() == "| C1 | what | 11.2 x (10.5 to 12), 50% of the floor | 10 x | met |"
    assert row(12.0, at_most=True, unit="ms").line() == "| C1 | what | 12 ms | at most 10 ms | unmet |"


def test_ways_take_turns_and_every_second_round_goes_backwards():
    called: list[str] = []
    ways = {name: lambda name=name: called.append(name) or float(len(called)) for name in "ab"}
    found = paired.take_turns(ways, 3)
    assert called == ["a", "b", "b", "a", "a", "b"] and found == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert paired.ratios(found["b"], found["a"]) == (2, 3 / 4, 6 / 5)


def test_what_is_kept_names_no_machine_and_leaves_other_goals_as_they_were(tmp_path):
    path = tmp_path / "kept.json"
    goals.keep([row(2.0, goal="C5"), row(1.0, goal="C1")], path)
    goals.keep([row(3.0, goal="C5")], path)
    kept = json.loads(path.read_text())["rows"]
    assert [(one["goal"], one["median"]) for one in kept] == [("C1", 1.0), ("C5", 3.0)]
    machine = kept[0]["machine"]
    assert machine["cores"] >= 1 and machine["versions"]["torch"]
    import socket

    assert socket.gethostname() not in path.read_text() and str(Path.home()) not in path.read_text()


def test_the_page_holds_the_table_of_what_is_kept(tmp_path):
    page = tmp_path / "speed.md"
    page.write_text(goals.PAGE.read_text())
    paired.insert(page, goals.OUT)
    paired.insert(page, goals.OUT.with_name("gpu.json"))
    assert page.read_text() == goals.PAGE.read_text() and "| C2 |" in page.read_text() and "| G6 |" in page.read_text()
    (tmp_path / "other.md").write_text("no place\n")
    with pytest.raises(ValueError, match="no place for the table"):
        paired.insert(tmp_path / "other.md", goals.OUT)


def test_a_goal_that_there_is_not_is_named(capsys):
    assert goals.main(["--only", "C1,C9"]) == 2 and goals.main(["--pairs", "0"]) == 2
    said = capsys.readouterr().err
    assert "C9; there are C1, C2, C3, C5, C6, C7, C8" in said and "--pairs: 0; at least 1" in said


def test_the_harness_runs_from_end_to_end(capsys, tmp_path):
    assert goals.main(["--only", "c6,c7", "--quick", "--out", str(tmp_path / "kept.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| C6 |") for line in lines) == 3
    assert sum(line.startswith("| C7 |") for line in lines) == 2
    assert not list(tmp_path.iterdir())  # quick figures are not kept


def test_both_ways_of_the_penalty_are_compared_to_the_bit():
    critic = penalty.Critic("none", 64, 4)
    assert critic.agrees()

    def spoilt() -> None:
        critic.plain()
        critic.network.towers[0][0].weight.grad.add_(1e-6)

    critic.constant = spoilt
    assert not critic.agrees()


def test_an_empty_trial_is_told_with_its_floor():
    (own,) = overhead.measure(pairs=1, quick=True)
    assert own.unit == "ms" and own.median > 0 and 0 < own.floor and own.facts["trials"] == 4


def test_the_baseline_trains_the_same_networks_as_the_study():
    of = full_step.recipe(64, 8)
    document = of.to_document()
    theirs = networks(document, 2, 3)
    ours = (
        GENERATORS.part("unet").build(of.generator, tile=64, bands_in=2, bands_out=3),
        DISCRIMINATORS.part("patchgan").build(of.discriminator, bands=5),
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert sum(map(torch.numel, mine.parameters())) == sum(map(torch.numel, other.parameters()))
    assert Recipe.from_document(document) == of


def test_a_step_that_is_wrong_is_told_and_not_timed(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "differences", lambda device, *, precision: 0.5)
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("timed"))
    assert gpu.main(["--dry"]) == 1 and "WRONG" in capsys.readouterr().out


def test_the_gpu_script_asks_for_torch_and_numpy_alone():
    """The step is the textbook's, the faster ways are the plain one."""
    code = "import torch; torch.set_num_threads(1)\nfrom benchmarks import gpu\n"
    alone(f"{code}assert gpu.main(['--dry', '--only', 'G6']) == 0")


@pytest.mark.slow
def test_all_of_the_gpu_script_runs_with_torch_and_numpy_alone(tmp_path):
    """At its smallest: the step is the textbook's, the faster ways are the plain one, and every part has its rows."""
    out = tmp_path / "gpu.json"
    alone(f"import torch; torch.set_num_threads(1)\nfrom benchmarks import gpu\n"
          f"assert gpu.main(['--dry', '--out', {str(out)!r}]) == 0")  # fmt: skip
    kept = json.loads(out.read_text())
    assert kept["failed"] == [] and {row["goal"] for row in kept["rows"]} == {"G1", "G2", "G5", "G6", "G7"}
    assert all(np.isfinite(row["median"]) and row["median"] > 0 for row in kept["rows"])


def test_a_part_of_the_gpu_script_that_fails_costs_no_other_its_figures(tmp_path, monkeypatch, capsys):
    def broken(device, scale):
        yield paired.Row("G1", "before", (2.0,))
        raise RuntimeError("out of memory")

    def whole(device, scale):
        yield paired.Row("G2", "after", (3.0,))

    monkeypatch.setattr(gpu, "PARTS", {"broken": ("G1", broken), "whole": ("G2", whole)})
    monkeypatch.setattr(gpu, "right_ways", lambda _: gpu.WAYS)
    monkeypatch.setattr(gpu, "check", lambda _: True)
    out = tmp_path / "gpu.json"
    assert gpu.main(["--dry", "--out", str(out)]) == 1
    kept = json.loads(out.read_text())
    assert [row["what"] for row in kept["rows"]] == ["before", "after"]
    assert kept["failed"] == ["broken: RuntimeError: out of memory"]
    assert "after" in capsys.readouterr().out


def test_a_faster_way_that_is_wrong_is_told_and_left(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "ways_apart", lambda device, *, precision, ways: 0.0 if ways == ("resident",) else 1.0)
    assert gpu.right_ways(torch.device("cpu")) == ("resident",)
    assert capsys.readouterr().out.count("WRONG") == 2


def test_the_faster_ways_are_compared_to_the_plain_one():
    assert gpu.ways_apart(torch.device("cpu"), precision="fp32", updates=2) == 0.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_without_cuda_the_gpu_script_says_so(capsys):
    assert gpu.main([]) == 0 and "sees no CUDA device" in capsys.readouterr().out


def test_pictures_of_a_prepared_set_are_its_tiles(tmp_path):
    folder = tiny.prepared(tmp_path / "tiles")
    rate.write_pictures(folder, tmp_path / "pictures")
    tiles = Tiles.open(folder)
    for split in ("train", "validation", "test"):
        files = sorted((tmp_path / "pictures" / split / "sar").iterdir())
        assert len(files) == len(tiles.split(split))
        sar, optical, _ = tiles.read(tiles.split(split)[:1])
        for side, image in (("sar", sar), ("optical", optical)):
            with Image.open(tmp_path / "pictures" / split / side / files[0].name) as picture:
                found = np.asarray(picture, np.float32).transpose(2, 0, 1) / 127.5 - 1
            assert np.abs(found - image[0]).max() <= 1 / 255 + 1e-6


@pytest.mark.slow
def test_the_baseline_trains_and_logs(tmp_path):
    import optuna
    from mlflow.tracking import MlflowClient

    rate.write_pictures(tiny.prepared(tmp_path / "tiles"), tmp_path / "pictures")
    recipes = {
        "base": tiny.recipe(steps=4, every=2, tile=32).to_document(),
        "wgan_gp": tiny.recipe(steps=4, every=2, tile=32, objective="wgan_gp", terms=("l1", "ssim")).to_document(),
    }
    study = {"arms": recipes, "seeds": [1], "metric": "gmsd", "goal": "min", "metrics": ["gmsd", "psnr"], "ranks": 2,
             "threads": 1, "data": str(tmp_path / "pictures"), "tracking": f"sqlite:///{tmp_path}/m.db"}  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(study))
    subprocess.run([sys.executable, "-m", "benchmarks.baseline.study", tmp_path / "study.json", tmp_path / "out"],
                   check=True, cwd=Path(__file__).parents[2], timeout=500)  # fmt: skip
    found = optuna.load_study(study_name="out", storage=f"sqlite:///{tmp_path}/out/optuna.db").trials
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 2 and all(math.isfinite(t.value) for t in found)
    client = MlflowClient(f"sqlite:///{tmp_path}/m.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "out"]
    for run in client.search_runs([experiment.experiment_id]):
        assert len(client.get_metric_history(run.info.run_id, "loss_g")) == 4
        assert len(client.get_metric_history(run.info.run_id, "gmsd")) == 2
