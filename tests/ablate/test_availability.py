"""Metrics that can't be computed here: said before anything runs, left out, never replaced."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ablate.plan import make_plan
from ablate.problems import StudyError
from ablate.study import load
from ablate.studydata import check_metrics
from tests.ablate import studies
from trainers import weightfiles
from trainers.availability import unavailable, without_package
from trainers.families import METRICS
from trainers.pairs import DataError

WHOLE = b"weights"


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch) -> Path:
    """The folder in which weights are looked for; empty."""
    monkeypatch.setenv(weightfiles.VARIABLE, str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(weightfiles, "_digest", _digest)
    return tmp_path / "weights"


def _digest(path: Path, stamp: tuple) -> str:
    """`put` stands for the published files, which are not at hand: their hash is what it should be."""
    content = path.read_bytes()
    published = {file.name: file.sha256 for file in (weightfiles.ALEXNET, weightfiles.INCEPTION)}
    return published[path.name] if content == WHOLE else hashlib.sha256(content).hexdigest()


def put(folder: Path, *files: weightfiles.WeightsFile) -> None:
    for file in files:
        (folder / file.name).write_bytes(WHOLE)


def test_a_damaged_file_makes_a_metric_unavailable_with_both_hashes(weights):
    (weights / weightfiles.ALEXNET.name).write_bytes(b"half a download")
    why = unavailable("lpips", tile=256, bands=3)
    assert hashlib.sha256(b"half a download").hexdigest() in why and weightfiles.ALEXNET.sha256 in why


def study(tmp_path: Path, *sets: str, text: str = studies.STUDY):
    return load(studies.write(tmp_path, text), sets=sets, cwd=tmp_path)


def test_a_ranking_metric_without_its_weights_is_refused_where_it_is_named(tmp_path, weights):
    path = studies.write(tmp_path, studies.STUDY.replace("name: gmsd", "name: lpips"))
    with pytest.raises(StudyError) as caught:
        load(path, cwd=tmp_path)
    (problem,) = caught.value.problems
    line = path.read_text().splitlines()[problem.line - 1]
    assert (problem.path, line[problem.column - 1 :].startswith(("name", "lpips"))) == ("metric.name", True)
    file = weightfiles.ALEXNET
    for text in ("lpips is unavailable", file.name, file.sha256, str(weights), file.url, "not downloaded"):
        assert text in problem.message
    done = studies.ablate("check", path.name, cwd=tmp_path)
    assert done.returncode == 2 and "metric.name: lpips is unavailable" in done.stderr


def test_a_further_metric_without_its_weights_is_left_out_aloud(tmp_path, weights):
    asked = study(tmp_path, "also=[psnr, lpips, mae]")
    plan = make_plan(asked)
    assert plan.metrics == ("gmsd", "psnr", "mae")
    (caution,) = [text for text in plan.warnings if "lpips" in text]
    assert caution.startswith("also: lpips is unavailable and left out: the weights alexnet-owt-7be5be79.pth")
    document = plan.to_json()
    assert [(entry["name"], entry["label"]) for entry in document["unavailable"]] == [("lpips", "LPIPS")]
    assert str(weights) in document["unavailable"][0]["why"]
    assert not any("lpips" in text for text in document["warnings"])  # the report says it once
    assert document["hash"] == make_plan(study(tmp_path, "also=[psnr, mae]")).to_json()["hash"]
    put(weights, weightfiles.ALEXNET)
    again = make_plan(study(tmp_path, "also=[psnr, lpips, mae]"))
    assert again.metrics == ("gmsd", "psnr", "lpips", "mae") and again.to_json()["unavailable"] == []
    assert again.to_json()["hash"] != document["hash"]


def test_a_metric_with_its_weights_may_rank(tmp_path, weights):
    put(weights, weightfiles.INCEPTION)
    assert make_plan(study(tmp_path, "metric.name=kid", "also=[fid]")).metrics == ("kid", "fid")


def test_tiles_that_are_too_small_are_named_with_both_numbers(tmp_path):
    found = study(tmp_path, "also=[ms_ssim]").unavailable
    assert found == {"ms_ssim": "it needs tiles of at least 161 px; the tile is 32 px"}
    with pytest.raises(StudyError, match="ms_ssim is unavailable: it needs tiles of at least 161 px"):
        study(tmp_path, "metric.name=ms_ssim")


def test_a_level_with_smaller_tiles_counts(tmp_path):
    large = studies.STUDY.replace("tile: 32, scenes: 4, size: 64", "tile: 256, scenes: 4")
    assert study(tmp_path, "also=[ms_ssim]", text=large).unavailable == {}
    small = large.replace("factors:\n", "factors:\n  tile:\n    small: {data.tile: 128}\n")
    assert study(tmp_path, "also=[ms_ssim]", text=small).unavailable["ms_ssim"].endswith("the tile is 128 px")


def test_two_optical_bands_are_no_colours(tmp_path, weights):
    put(weights, weightfiles.ALEXNET, weightfiles.INCEPTION)
    found = study(tmp_path, "also=[lpips, fid, kid, psnr]", "base.data.optical.bands=[1, 2]").unavailable
    assert set(found) == {"lpips", "fid", "kid"}
    assert all("three optical bands" in why for why in found.values())


@pytest.mark.parametrize(("bands", "refused"), [(1, False), (2, True), (3, False), (4, False)])
def test_bands_that_only_the_files_tell_are_judged_before_training(tmp_path, weights, bands, refused):
    put(weights, weightfiles.ALEXNET)
    plan = make_plan(study(tmp_path, "also=[lpips]"))
    (tmp_path / "data").mkdir()
    shape = list(np.zeros((5, bands, 32, 32)).shape)
    (tmp_path / "data" / "meta.json").write_text(json.dumps({"arrays": {"optical": {"shape": shape}}}))
    if not refused:
        return check_metrics(plan, {"data": tmp_path / "data"})
    with pytest.raises(DataError, match="metric lpips is unavailable: it reads three optical bands"):
        check_metrics(plan, {"data": tmp_path / "data"})


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    assert without_package("json", "json") is None
    found = without_package("a_module_that_nobody_has", "some-package")
    assert found == "the package some-package is not installed: pip install some-package"


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_is_available_where_what_it_needs_is_there(name, weights):
    put(weights, weightfiles.ALEXNET, weightfiles.INCEPTION)
    assert unavailable(name, tile=256, bands=3) is None


@pytest.mark.parametrize("home", ["TORCH_HOME", "XDG_CACHE_HOME", None])
def test_weights_are_looked_for_where_torch_keeps_its_own(home, monkeypatch, tmp_path):
    import torch

    for name in ("TORCH_HOME", "XDG_CACHE_HOME", weightfiles.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    if home:
        monkeypatch.setenv(home, str(tmp_path / "elsewhere"))
    assert weightfiles.folders() == [Path(torch.hub.get_dir()) / "checkpoints"]


def test_a_reason_does_not_tell_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path) not in weightfiles.missing(weightfiles.ALEXNET)
    assert "put that file into ~/weights or ~/torch/hub/checkpoints" in weightfiles.missing(weightfiles.ALEXNET)
