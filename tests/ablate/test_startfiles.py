"""Files to start from in a study: what they hold decides which trials there are, where they lie does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ablate import startfiles
from ablate.plan import Plan, make_plan
from ablate.planfile import write_plan
from ablate.problems import StudyError
from ablate.records import StudyFolder
from ablate.resolve import identity_document
from ablate.study import load
from ablate.studydata import check_bands, specs_of_arms
from tests.ablate import studies
from tests.trainers import pix2pix
from trainers.pairs import DataError

BASE = "  evaluate: {every: 3}\n"


def generator(path: Path, *, seed: int = 0, bands: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    network = pix2pix.UnetGenerator(bands, 3, 5, width=4, norm="instance")
    torch.save(pix2pix.stir(network, seed).state_dict(), path)
    return path


def discriminator(path: Path) -> Path:
    torch.save(pix2pix.stir(pix2pix.NLayerDiscriminator(5, width=4, layers=2, norm="instance")).state_dict(), path)
    return path


def planned(folder: Path, start: str | None, *, factor: str | None = None, sets: tuple[str, ...] = ()) -> Plan:
    text = studies.STUDY
    text = text.replace(BASE, f"{BASE}  start: {start}\n") if start else text
    text = text.replace("half: {optimizer.lr_ratio: 0.5}", f"other: {factor}") if factor else text
    return make_plan(load(studies.write(folder, text), sets=sets, cwd=folder))


def ids(plan: Plan) -> list[str]:
    return list(plan.specs)


def test_a_file_that_is_moved_gives_the_same_trials_and_one_that_is_changed_gives_others(tmp_path):
    path = generator(tmp_path / "g.pth")
    here = planned(tmp_path, "g.pth")
    before = here.to_json()
    (tmp_path / "far").mkdir()
    path.rename(tmp_path / "far" / "other.pth")
    there = planned(tmp_path, "far/other.pth")
    assert ids(here) == ids(there) and before["hash"] == there.to_json()["hash"]
    assert not set(ids(here)) & set(ids(planned(tmp_path, None)))
    generator(tmp_path / "g.pth", seed=1)
    assert not set(ids(here)) & set(ids(planned(tmp_path, "g.pth")))


def test_a_trial_states_the_hash_and_no_path(tmp_path):
    path = generator(tmp_path / "g.pth")
    plan = planned(tmp_path, "{generator: g.pth}")
    for spec in plan.specs.values():
        assert spec.recipe["start"] == {"generator": startfiles.digest(path), "discriminator": ""}
        assert str(tmp_path) not in json.dumps(spec.to_json())


def test_an_arm_may_start_from_scratch_from_another_file_or_from_a_discriminator_too(tmp_path):
    generator(tmp_path / "g.pth"), generator(tmp_path / "new" / "g.pth", seed=1), discriminator(tmp_path / "d.pth")
    for factor, path, end in (
        ("{start: {}}", "start.generator", None),
        ("{start: new/g.pth}", "start.generator", "g.pth"),
        ("{start.generator: new/g.pth}", "start.generator", "g.pth"),
        ("{start.discriminator: d.pth}", "start.discriminator", "d.pth"),
    ):
        plan = planned(tmp_path, "g.pth", factor=factor)
        ((found, (_, new)),) = plan.arms[1].differences.items()
        assert found == path
        assert new is None if end is None else re.fullmatch(rf"{end} \([0-9a-f]{{8}}\)", new)
        assert len(plan.specs) == 4


def test_what_an_arm_changes_reads_alike_wherever_the_study_lies(tmp_path):
    for place in ("a", "b"):
        generator(tmp_path / place / "g.pth")
    said = [planned(tmp_path / place, None, factor="{start: g.pth}").arms[1].differences for place in ("a", "b")]
    assert said[0] == said[1] != {}


def test_paths_start_from_the_study_and_in_a_setting_from_the_current_folder(tmp_path):
    path = generator(tmp_path / "here" / "g.pth")
    inside = planned(tmp_path / "here", "g.pth")
    file = studies.write(tmp_path / "study")
    outside = make_plan(load(file, sets=("base.start=here/g.pth",), cwd=tmp_path))
    assert ids(inside) == ids(outside)
    assert inside.study.base["start"] == {"generator": str(path)} == outside.study.base["start"]


@pytest.mark.parametrize(
    "start, said",
    [
        ("gone.pth", r"tiny.yaml:10:3: base.start.generator: \S+/gone.pth: no such file"),
        (".", r"base.start.generator: \S+: is a folder; expected a file of weights"),
        ("tiny.yaml", "tiny.yaml: not a file that torch.save wrote"),
        ("d.pth", r"it holds a discriminator \(a PatchGAN\), not a generator \(a U-Net\)"),
        ("{discriminator: g.pth}", r"base.start.discriminator: \S+ it holds a generator"),
        ("{generator: g.pth, optimizer: a.pt}", "base.start.optimizer: no such option"),
        ("[g.pth]", "base.start: expected"),
    ],
)
def test_a_file_that_cant_be_started_from_is_refused_at_check_with_its_place(tmp_path, start, said):
    generator(tmp_path / "g.pth"), discriminator(tmp_path / "d.pth")
    with pytest.raises(StudyError, match=said):
        planned(tmp_path, start)


def test_an_arm_whose_network_the_file_does_not_fit_is_refused_with_what_differs(tmp_path):
    generator(tmp_path / "g.pth")
    with pytest.raises(StudyError, match=r"factors.lr_ratio.other.*it has width 4, the recipe asks for width 8"):
        planned(tmp_path, "g.pth", factor="{generator.width: 8}")
    assert planned(tmp_path, "g.pth", factor="{generator.width: 8, start: {}}")


def test_a_network_that_is_wrong_itself_does_not_bring_up_the_file(tmp_path):
    generator(tmp_path / "g.pth")
    with pytest.raises(StudyError) as caught:
        planned(tmp_path, "g.pth", sets=("base.generator.width=none",))
    assert len(caught.value.problems) == 1


def test_checking_a_file_does_not_load_torch(tmp_path):
    generator(tmp_path / "g.pth")
    file = studies.write(tmp_path, studies.STUDY.replace(BASE, f"{BASE}  start: g.pth\n"))
    code = ("import sys; from ablate.plan import make_plan; from ablate.study import load; "
            f"make_plan(load({str(file)!r})); assert 'torch' not in sys.modules")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_study_keeps_a_copy_that_later_changes_do_not_reach(tmp_path):
    path = generator(tmp_path / "g.pth")
    plan, before = planned(tmp_path, "g.pth"), path.read_bytes()
    cache = tmp_path / "runs" / "cache"
    for arm, spec in specs_of_arms(plan):
        startfiles.keep(arm.resolved.recipe, spec.recipe, cache)
    (kept,) = (cache / place for place in startfiles.for_worker(plan.specs[ids(plan)[0]].recipe).values())
    with open(path, "r+b") as file:
        file.write(b"other")
    assert kept.read_bytes() == before
    assert [entry.name for entry in (cache / "start").iterdir()] == [kept.name]


def test_a_copy_that_was_damaged_is_made_anew_and_half_a_copy_is_removed(tmp_path):
    generator(tmp_path / "g.pth")
    recipe = planned(tmp_path, "g.pth").arms[0].resolved.recipe
    identity = identity_document(recipe)
    startfiles.keep(recipe, identity, tmp_path)
    (kept,) = (tmp_path / "start").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    kept.with_name(f".{kept.name}.99999999.partial").touch()  # of a driver that was killed while it copied
    startfiles.keep(recipe, identity, tmp_path)
    assert kept.read_bytes() == whole and [*kept.parent.iterdir()] == [kept]


def test_a_file_that_changes_between_plan_and_copy_is_refused(tmp_path):
    path = generator(tmp_path / "g.pth")
    recipe = planned(tmp_path, "g.pth").arms[0].resolved.recipe
    identity = identity_document(recipe)
    generator(path, seed=1)
    with pytest.raises(DataError, match="g.pth: has changed since the study was read"):
        startfiles.keep(recipe, identity, tmp_path)
    assert not list((tmp_path / "start").iterdir())


def test_bands_are_checked_once_the_data_is_there_and_said_once(tmp_path):
    generator(tmp_path / "rgb.pth", bands=3)
    plan = planned(tmp_path, "rgb.pth")
    (fingerprint,) = plan.data
    arrays = {"sar": {"shape": [9, 2, 32, 32]}, "optical": {"shape": [9, 3, 32, 32]}}
    (tmp_path / "meta.json").write_text(json.dumps({"arrays": arrays}))
    with pytest.raises(StudyError) as caught:
        check_bands(plan, {fingerprint: tmp_path})
    (problem,) = caught.value.problems
    assert problem.path == "arm base"
    assert problem.message.endswith("its first convolution reads 3 bands, the data has 2 SAR bands")


@pytest.mark.slow
def test_trials_start_from_the_file_and_run_on_without_it(tmp_path):
    path = generator(tmp_path / "g.pth")
    text = studies.STUDY.replace(BASE, f"{BASE}  start: g.pth\n  optimizer: {{lr: 1e-12}}\n")
    studies.write(tmp_path, text.replace("half: {optimizer.lr_ratio: 0.5}", "scratch: {start: {}}"))
    done = studies.ablate("run", "tiny.yaml", "--set", "seeds=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(tmp_path / "runs", "tiny")
    arms = {cell["arm"]: folder.trial(cell["trial"]) for cell in studies.plan(folder)["cells"]}
    theirs = torch.load(path, weights_only=True)["model.model.0.weight"]
    for arm, same in (("base", True), ("lr_ratio=scratch", False)):
        ours = torch.load(arms[arm].checkpoints / "generator.pt", weights_only=True)["generator"]["downs.0.0.weight"]
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-9) is same
    path.unlink()
    assert studies.ablate("report", "tiny", cwd=tmp_path).returncode == 0
    assert "no such file" in studies.ablate("check", "tiny.yaml", cwd=tmp_path).stderr


def test_a_study_that_has_begun_is_run_by_its_name_when_its_files_have_moved(tmp_path):
    path, other = generator(tmp_path / "g.pth"), generator(tmp_path / "h.pth", seed=1)
    plan = planned(tmp_path, "g.pth", factor="{start: h.pth}")
    folder = StudyFolder(tmp_path / "runs", "tiny")
    for arm, spec in specs_of_arms(plan):
        startfiles.keep(arm.resolved.recipe, spec.recipe, folder.cache)
    write_plan(plan, folder)
    before = plan.to_json()["hash"]
    for file in (path, other):
        file.unlink()
    again = make_plan(load(folder.study))
    assert ids(again) == ids(plan) and again.to_json()["hash"] == before
