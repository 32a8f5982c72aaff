"""`ablate clean`: everything that can be rebuilt goes, nothing else, and never under a living driver."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ablate import disk, events, lock
from ablate.clean import CACHE, CHECKPOINTS, FAILED, LEFTOVERS, clean
from ablate.plan import make_plan
from ablate.records import StudyFolder, write_atomically
from ablate.study import load
from tests.ablate import commands, studies
from trainers import prepare


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A runs folder with a finished study `done`, one `begun` with work left, and what kills leave behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "_used", {})
    runs = tmp_path / "runs"
    study(runs, "done", ends=4)
    study(runs, "begun", ends=2, scenes=5)
    for name in ("0" * 12, "1" * 12):
        data_set(runs, name)  # of no study
    (runs / "cache" / f"{'2' * 12}.partial").mkdir()
    write_atomically(runs / "cache" / f"{'2' * 12}.partial" / "sar.npy", bytes(500))
    write_atomically(runs / "cache" / "start" / "a.pt", b"weights")
    left(runs / "cache" / "start" / ".b.pt.77.partial")
    left(runs / ".test-reads.jsonl.77.partial")
    return runs


def study(runs: Path, name: str, *, ends: int, scenes: int = 4) -> StudyFolder:
    """A study's folder with four trials, of which the first `ends` have ended."""
    path = studies.write(runs.parent)
    plan = make_plan(load(path, sets=[f"name={name}", f"base.data.scenes={scenes}"]))
    folder = StudyFolder(runs, name)
    write_atomically(folder.plan, json.dumps(plan.to_json()))
    for at, (id, spec) in enumerate(plan.specs.items()):
        trial(folder, id, ended=at < ends)
        write_atomically(folder.trial(id).spec, json.dumps({"spec": spec.to_json()}))
    for fingerprint in plan.data:
        data_set(runs, fingerprint)
    return folder


def trial(folder: StudyFolder, id: str, *, ended: bool, status: str = "done") -> None:
    """A trial's folder with checkpoints in it, weights, and a half file."""
    place = folder.trial(id)
    writer = events.EventWriter(place.events)
    writer.append(events.Started, world_size=1, threads=1, device="cpu")
    if ended:
        writer.append(events.Ended, step=6, images=24, status=status)
    writer.close()
    for name in ("manifest.json", "step-00000003.pt", "step-00000006.pt", "generator.pt"):
        write_atomically(place.checkpoints / name, bytes(1000))
    write_atomically(place.samples / "000006.npz", bytes(100))
    write_atomically(place.log, "")
    left(place.root / ".scores.csv.77.partial")


def left(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(10))


def data_set(runs: Path, name: str) -> None:
    write_atomically(runs / "cache" / name / "sar.npy", bytes(2000))


def tree(folder: Path) -> set[str]:
    """Files below, but for the lock files of prepared sets."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("cache/.")}


def gone(runs: Path, **options) -> set[str]:
    """Files that a call removes, after a dry run that removed none and foresaw what the call then says."""
    before = tree(runs)
    foreseen = clean(runs, **options, dry_run=True)
    assert tree(runs) == before, "a dry run removes nothing"
    done = clean(runs, **options)
    assert done.items == foreseen.items and done.spared == foreseen.spared
    removed = before - tree(runs)
    listed = {path for item in done.items for path in before
              if (runs / path) == item.path or item.path in (runs / path).parents}  # fmt: skip
    assert removed == listed, "what goes is listed, and what is listed goes"
    again = clean(runs, **options)
    assert not again.items, "a second call finds nothing"
    return removed


def trials(runs: Path, name: str) -> list[str]:
    return [cell["trial"] for cell in studies.plan(StudyFolder(runs, name))["cells"]]


def test_what_can_be_rebuilt_goes_and_no_result(runs):
    removed = gone(runs)
    over = [("done", id) for id in trials(runs, "done")] + [("begun", id) for id in trials(runs, "begun")[:2]]
    checkpoints = {f"{name}/trials/{id}/checkpoints/{file}" for name, id in over
                   for file in ("manifest.json", "step-00000003.pt", "step-00000006.pt")}  # fmt: skip
    halves = {f"{name}/trials/{id}/.scores.csv.77.partial" for name in ("done", "begun") for id in trials(runs, name)}
    halves |= {"cache/start/.b.pt.77.partial", ".test-reads.jsonl.77.partial", f"cache/{'2' * 12}.partial/sar.npy"}
    used = studies.plan(StudyFolder(runs, "done"))["data"]["fingerprint"]
    sets = {f"cache/{name}/sar.npy" for name in ("0" * 12, "1" * 12, used)}
    assert removed == checkpoints | halves | sets


def test_one_study_takes_its_own_prepared_data_along_and_no_other(runs):
    removed = gone(runs, study="done")
    used = studies.plan(StudyFolder(runs, "done"))["data"]["fingerprint"]
    assert {name for name in removed if name.startswith("cache")} == {
        f"cache/{used}/sar.npy", f"cache/{'2' * 12}.partial/sar.npy"
    }  # fmt: skip
    assert not any(name.startswith("begun") for name in removed)


def test_data_that_an_unfinished_study_needs_stay_also_for_arms_that_have_not_begun(runs):
    plan = StudyFolder(runs, "begun").plan
    document = json.loads(plan.read_text())
    plan.write_text(json.dumps(document | {"data_sets": [*document["data_sets"], "0" * 12]}))
    removed = gone(runs)
    assert f"cache/{'0' * 12}/sar.npy" not in removed and f"cache/{'1' * 12}/sar.npy" in removed
    assert f"cache/{document['data']['fingerprint']}/sar.npy" not in removed
    assert not gone(runs, study="begun"), "its own are still needed"


def test_data_in_use_by_another_process_stay_and_that_is_said(runs):
    name = "0" * 12
    with open(runs / "cache" / f".{name}.used", "w") as file:
        disk.fcntl.flock(file, disk.fcntl.LOCK_SH)
        found = clean(runs)
        assert (runs / "cache" / name).exists() and f"{name}: in use by another process" in found.spared[0]
    assert [item.path.name for item in clean(runs).items] == [name]


def test_a_half_file_of_a_living_writer_stays(runs):
    with disk.replacing(runs / "done" / "data.json") as file:
        file.write(b"{}")
        clean(runs)
    assert (runs / "done" / "data.json").read_bytes() == b"{}"


def test_failed_trials_that_were_put_aside_go_on_request_only(runs):
    folder = StudyFolder(runs, "done")
    id = trials(runs, "done")[0]
    for number in (1, 2, 10):
        trial(folder, f"{id}.failed-{number}", ended=True, status="failed")
    clean(runs)
    aside = sorted(path.name for path in (folder.root / "trials").glob("*.failed-*"))
    assert len(aside) == 3 and not list(folder.root.glob("trials/*.failed-*/checkpoints/step-*"))
    assert len(list(folder.root.glob("trials/*.failed-*/events.jsonl"))) == 3
    removed = clean(runs, "done", failed=True).items
    assert [item.path.name for item in removed] == [f"{id}.failed-{number}" for number in (10, 2, 1)]
    assert {item.kind for item in removed} == {FAILED}
    assert sorted(path.name for path in (folder.root / "trials").iterdir()) == sorted(trials(runs, "done"))


def test_a_living_driver_is_left_alone_by_name_and_otherwise(runs):
    before = tree(runs / "done")
    with lock.hold(StudyFolder(runs, "done").lock):
        for options in ({}, {"dry_run": True}):
            with pytest.raises(lock.Busy, match="another driver runs this study: pid"):
                clean(runs, "done", **options)
            found = clean(runs, **options)
            assert found.spared[0].startswith("done: another driver runs this study")
            assert not any((runs / "done") in item.path.parents for item in found.items)
        ended = commands.ablate("clean", "done")
        assert ended.code == 75 and "another driver runs this study" in ended.err
        assert commands.ablate("clean").code == 0
    assert tree(runs / "done") - {"driver.lock"} == before


def test_a_driver_elsewhere_that_has_not_said_that_it_ended_is_left_alone(runs):
    folder = StudyFolder(runs, "begun")
    with lock.hold(folder.lock):
        document = json.loads(folder.lock.read_text()) | {"host": "node7", "boot": "another"}
    folder.lock.write_text(json.dumps(document))
    with pytest.raises(lock.Busy, match="a driver on node7 .* has not said that it ended"):
        clean(runs, "begun")
    assert "begun: a driver on node7" in clean(runs).spared[0]


def test_the_record_of_the_last_driver_stays(runs):
    folder = StudyFolder(runs, "done")
    with lock.hold(folder.lock):
        pass
    before = folder.lock.read_bytes()
    clean(runs, "done")
    assert folder.lock.read_bytes() == before


def test_with_a_damaged_plan_nothing_of_that_study_goes_and_no_prepared_data(runs):
    sets = {path.name for path in (runs / "cache").iterdir() if path.is_dir()}
    write_atomically(StudyFolder(runs, "begun").plan, "{")
    before = tree(runs / "begun")
    found = clean(runs)
    assert len(found.spared) == 2 and all("runs/begun/plan.json: damaged" in said for said in found.spared)
    assert tree(runs / "begun") == before and {item.kind for item in found.items} == {CHECKPOINTS, LEFTOVERS}
    assert {path.name for path in (runs / "cache").iterdir() if path.is_dir()} == sets
    assert commands.ablate("clean", "begun").code == 3


def test_checkpoints_beside_a_damaged_stream_stay(runs):
    id = trials(runs, "done")[0]
    stream = StudyFolder(runs, "done").trial(id).events
    stream.write_text("garbage\n" + stream.read_text())
    found = clean(runs, "done")
    assert f"{stream}:1: damaged" in found.spared[0]
    assert len(list(stream.parent.glob("checkpoints/step-*"))) == 2
    assert CACHE not in {item.kind for item in found.items}, "the study is not known to be finished"


def test_it_says_each_kind_with_its_bytes(runs):
    for arguments, verb in ((("--dry-run",), "would be removed"), ((), "removed")):
        ended = commands.ablate("clean", *arguments)
        assert ended.code == 0, ended.err
        lines = ended.out.splitlines()
        assert "5.86 KiB  3 prepared data that no unfinished study needs" in lines[0].strip()
        assert "17.6 KiB  18 checkpoints of trials that have ended" in lines[1].strip()
        assert "11 half files of writers that were killed" in lines[2] and lines[3].endswith(f"KiB  {verb}")
    assert commands.ablate("clean").out == "nothing to remove under runs/\n"
    found = json.loads(commands.ablate("clean", "--json").out)
    assert found["bytes"] == 0 and set(found["kinds"]) == {CACHE, CHECKPOINTS, LEFTOVERS, FAILED}


@pytest.mark.slow
def test_a_real_study_is_reported_shown_run_and_extended_after_it(tmp_path):
    studies.write(tmp_path)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    report = {path.name: path.read_bytes() for path in folder.report.rglob("*") if path.is_file()}
    id = trials(folder.runs, "tiny")[0]
    shown = studies.ablate("show", id, cwd=tmp_path).stdout
    cleaned = studies.ablate("clean", "tiny", cwd=tmp_path)
    assert cleaned.returncode == 0 and "1 prepared data" in cleaned.stdout, cleaned.stdout + cleaned.stderr
    assert not [path for path in folder.cache.iterdir() if path.is_dir()]
    shutil.rmtree(folder.report)
    assert studies.ablate("report", "tiny", cwd=tmp_path).returncode == 0
    assert {path.name: path.read_bytes() for path in folder.report.rglob("*") if path.is_file()} == report
    assert studies.ablate("show", id, cwd=tmp_path).stdout == shown
    assert studies.ablate("run", "tiny", cwd=tmp_path).returncode == 0
    assert studies.ablate("clean", "tiny", cwd=tmp_path).returncode == 0
    scores = studies.scores(folder)
    grown = studies.ablate("run", "tiny.yaml", "--set", "seeds=3", "--extend", cwd=tmp_path)
    assert grown.returncode == 0 and "6 trials: 6 done" in grown.stdout, grown.stdout + grown.stderr
    assert scores.items() <= studies.scores(folder).items()
