"""From a study's folder to the table of scores: factors, the A/A arm, arms that a race ended, scenes."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from ablate.records import StudyFolder, digest
from reports.load import load
from reports.scoring import analyse_results, factor_plan, scene_means, scene_scores, scores_of
from tests.reports.factory import study, table

ARMS = {"base": 17.0, "loss=ssim": 19.0, "norm=spectral": 17.1, "batch=8": 17.0}


def scores(seeds: int = 4) -> dict[str, list]:
    return {arm: list(row) for arm, row in table(ARMS, seeds).items()}


def test_the_twin_is_compared_and_in_no_table(tmp_path):
    given = scores() | {"aa": scores()["base"][1:] + [17.0]}
    folder = study(tmp_path, given)
    document = json.loads((folder / "plan.json").read_text())
    for arm in document["arms"]:
        arm |= {"twin_of": "base"} if arm["name"] == "aa" else {}
    (folder / "plan.json").write_text(json.dumps(document))
    found = analyse_results(load(folder))
    assert found.twin.pairs == 4 and "aa" not in found.arms
    assert found.twin.difference == pytest.approx(np.mean(given["aa"]) - np.mean(given["base"]))


def test_an_arm_that_a_race_ended_keeps_its_reason(tmp_path):
    given = scores(5)
    given["batch=8"][3:] = [None, None]  # never begun
    folder = study(tmp_path, given)
    looks = [{"after": 3, "alpha": 0.025, "stopped": {"batch=8": "race: left the best set"}, "kept": []}]
    StudyFolder(tmp_path, "remedies").race.write_text(json.dumps({"looks": looks}))
    found = analyse_results(load(folder))
    stopped = found.stopped["batch=8"]
    assert (stopped.after, stopped.why) == (3, "race: left the best set")
    assert stopped.mean == pytest.approx(np.mean(given["batch=8"][:3]))
    assert found.ranking[-1] == "batch=8" and found.effect("batch=8").low is None


def test_the_base_is_never_a_stopped_arm(tmp_path):
    given = scores()
    given["base"][3] = "stopped"
    found = analyse_results(load(study(tmp_path, given)))
    assert not found.stopped and found.effect("loss=ssim").pairs == 3


def test_levels_that_no_arm_has_are_not_part_of_the_plan(tmp_path):
    factors = {
        "loss": ["base", "ssim", "lpips"],
        "norm": ["base", "spectral"],
        "batch": ["base", "8"],
        "lr": ["base", "x"],
    }
    results = load(study(tmp_path, scores(), factors=factors, family="factor_effects"))
    plan = factor_plan(results)
    assert plan.levels == {"loss": ("base", "ssim"), "norm": ("base", "spectral"), "batch": ("base", "8")}
    found = analyse_results(results)
    assert {effect.kind for effect in found.factor_effects} == {"alone"}
    assert {effect.label: effect.verdict for effect in found.factor_effects}["loss=ssim"] == "better"
    for effect in found.factor_effects:
        arm = found.effect(effect.label)
        assert (effect.low, effect.high) == pytest.approx((arm.low, arm.high))


def test_a_further_name_of_an_arm_keeps_its_levels(tmp_path):
    factors = {"loss": ["base", "ssim"], "norm": ["base", "spectral"], "batch": ["base", "8"], "lr": ["base", "on"]}
    results = load(study(tmp_path, scores(), factors=factors, aliases={"lr=on": "base"}, design="factorial"))
    plan = factor_plan(results)
    assert plan.same_as == {"lr=on": "base"} and plan.combinations["lr=on"] == {"lr": "on"}
    assert any("lr=on: 0 by construction (main)" in note for note in analyse_results(results).notes)


@pytest.mark.parametrize("change", [{"design": "list"}, {"search": {"trials": 3}}, {"factors": {}}])
def test_a_list_a_search_or_a_study_without_factors_has_no_effects_of_factors(tmp_path, change):
    options = {"factors": {"loss": ["base", "ssim"]}} | change
    assert factor_plan(load(study(tmp_path, scores(), **options))) is None


# -- scenes -----------------------------------------------------------------------------------------


def write_tiles(folder, arm: str, seed: int, values: dict[str, list[float]]) -> None:
    trial = StudyFolder(folder.parent, folder.name).trial(digest([arm, seed]))
    lines = ["tile,scene,psnr,gmsd"]
    lines += [f"{scene}/tile,{place},{scene},{value!r},0.3" for scene, row in values.items()
              for place, value in enumerate(row)]  # fmt: skip
    trial.scores.write_text("\n".join(lines) + "\n")


def test_scenes_are_read_from_the_scores_of_tiles(tmp_path):
    given = scores(3)
    folder = study(tmp_path, given)
    for arm in given:
        for seed in (1, 2, 3):
            gain = 2.0 if arm == "loss=ssim" else 0.0
            write_tiles(folder, arm, seed, {f"s{i}": [17.0 + i + gain, 18.0 + i + gain + 0.1 * seed] for i in range(4)})
    found = analyse_results(load(folder))
    assert found.scenes["loss=ssim"].better_on == found.scenes["loss=ssim"].scenes == 4
    assert found.scenes["loss=ssim"].difference == pytest.approx(2.0)
    assert found.scenes["norm=spectral"].difference == pytest.approx(0.0)


def test_a_name_of_a_tile_may_hold_commas_and_a_tile_without_a_value_costs_its_scene(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("tile,scene,psnr,ssim\na,b/1,s1,20.0,0.5\na,b/2,s1,22.0,0.7\nc,s2,nan,0.1\n")
    assert scene_means(path, "psnr") == {"s1": 21.0}
    assert scene_means(path, "ssim") == {"s1": pytest.approx(0.6), "s2": 0.1}
    assert scene_means(path, "fid") == {}


def test_a_study_that_is_read_on_the_test_split_takes_no_scenes_of_another_split(tmp_path):
    for split, found in (("validation", True), ("test", False)):
        metric = {"name": "psnr", "goal": "max", "split": split}
        folder = study(tmp_path / split, scores(3), metric=metric)
        write_tiles(folder, "base", 1, {"s0": [1.0], "s1": [2.0]})
        results = load(folder)
        assert (scene_scores(results, "psnr") is not None) == found


def test_the_scores_of_a_thousand_tiles_are_read_in_milliseconds(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("tile,scene,psnr\n" + "".join(f"s{i % 20}/t{i},s{i % 20},{i / 7!r}\n" for i in range(1000)))
    began = time.process_time()
    for _ in range(50):
        scene_means(path, "psnr")
    assert (time.process_time() - began) / 50 < 0.02


def test_scores_of_another_metric_carry_no_scenes(tmp_path):
    results = load(study(tmp_path, scores(3)))
    assert scores_of(results, results.also[0]).scenes is None
