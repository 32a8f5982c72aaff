"""A runs folder that moves to another place and host: everything is found there, and new things land there."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from ablate.mlflow_moved import bring_along
from ablate.mlflow_store import locked
from ablate.records import StudyFolder
from tests.ablate import studies
from tests.ablate.commands import ablate
from tests.ablate.live import every_row
from tests.ablate.stores import CELLS, SPECS, WHOLE, connected, pictures_of, result_of, runs_of, trained, write_trial

ELSEWHERE = "another place/Größe #2 100%"


def client_of(folder: StudyFolder):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder.mlflow}")


def moved(folder: StudyFolder, to: Path) -> StudyFolder:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder.runs, to)
    return StudyFolder(to, folder.name)


def says(database: Path, place: Path) -> list[str]:
    """Rows that name a place, as a path or as an address."""
    names = (str(place), place.as_uri())
    return [row for rows in every_row(database).values() for row in rows if any(name in row for name in names)]


def told(folder: StudyFolder) -> StudyFolder:
    """One cell ended, one begun, a report."""
    runs = connected(folder)
    runs.mirror(CELLS[0], SPECS[CELLS[0].trial], trained(folder, CELLS[0]))
    write_trial(folder, CELLS[1])
    runs.mirror(CELLS[1], SPECS[CELLS[1].trial])
    folder.report.mkdir(parents=True)
    (folder.report / "report.md").write_text("the report")
    runs.finish_study(folder.report, "the answer")
    return folder


def test_pictures_and_report_are_found_at_the_new_place_and_new_ones_land_there(folder, tmp_path):
    before = {cell: run.info.run_id for cell, run in runs_of(client_of(told(folder))).items()}
    here = moved(folder, tmp_path / ELSEWHERE)
    runs = connected(here)
    runs.mirror(CELLS[1], SPECS[CELLS[1].trial], result_of(here, CELLS[1]))
    runs.mirror(CELLS[2], SPECS[CELLS[2].trial], trained(here, CELLS[2]))
    client = client_of(here)
    found = runs_of(client)
    assert {cell: found[cell].info.run_id for cell in before} == before and len(found) == 4
    assert all(pictures_of(client, run) == WHOLE for cell, run in found.items() if cell)
    got = client.download_artifacts(found[""].info.run_id, "report/report.md", str(tmp_path))
    assert Path(got).read_text() == "the report"
    assert not folder.runs.exists() and not says(here.mlflow, folder.runs)
    with locked(here):
        assert bring_along(here) == 0, "the addresses are as MLflow itself would write them"


def test_a_new_store_names_no_folder_outside_of_its_own(tmp_path, monkeypatch):
    """MLflow would have its experiment 0 where the command was typed."""
    (tmp_path / "typed").mkdir()
    monkeypatch.chdir(tmp_path / "typed")
    folder = StudyFolder(tmp_path / "runs", "quick")
    connected(folder)
    assert not says(folder.mlflow, tmp_path / "typed")
    assert client_of(folder).get_experiment("0").artifact_location == f"{folder.artifacts.as_uri()}/0"


def test_a_copy_writes_into_itself_and_leaves_the_original_alone(folder, tmp_path):
    told(folder)
    before, files = every_row(folder.mlflow), sorted(folder.artifacts.rglob("*"))
    copy = StudyFolder(tmp_path / "copy", folder.name)
    shutil.copytree(folder.runs, copy.runs)
    connected(copy).mirror(CELLS[2], SPECS[CELLS[2].trial], trained(copy, CELLS[2]))
    assert every_row(folder.mlflow) == before and sorted(folder.artifacts.rglob("*")) == files
    assert not says(copy.mlflow, folder.runs)
    assert pictures_of(client_of(copy), runs_of(client_of(copy))["base/2"]) == WHOLE


def test_runs_of_others_in_the_same_store_keep_their_addresses(folder, colleague, tmp_path):
    told(folder)
    other = StudyFolder(colleague.runs, "theirs")
    connected(other, folder.mlflow).mirror(CELLS[0], SPECS[CELLS[0].trial], trained(other, CELLS[0]))
    here = moved(folder, tmp_path / "elsewhere")
    connected(here)
    client = client_of(here)
    theirs = runs_of(client, "theirs")
    assert {run.info.artifact_uri.startswith(other.artifacts.as_uri()) for run in theirs.values()} == {True}
    assert client.get_experiment_by_name("theirs").artifact_location == other.artifacts.as_uri()
    assert pictures_of(client, theirs["base/1"]) == WHOLE


def test_the_ui_finds_them_before_anything_has_run_there(folder, tmp_path, monkeypatch):
    """The server itself is not started: what it would serve is looked at."""
    told(folder)
    here = moved(folder, tmp_path / "elsewhere")
    served = []

    class Server:
        pid = 0

        def wait(self, *_):
            served.append(says(here.mlflow, folder.runs))
            return 0

    monkeypatch.setattr("ablate.start.subprocess.Popen", lambda *_, **__: Server())
    monkeypatch.setattr("ablate.start.os.killpg", lambda *_: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert ablate("ui", "--runs", str(here.runs), "--port", "5999").code == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert served[0] == []
    here.mlflow.write_bytes(b"no database at all " * 100)
    broken = ablate("ui", "--runs", str(here.runs), "--port", "5999")
    assert broken.code == 4 and "mlflow.db: MLflow's store cannot be used" in broken.err


def test_the_change_is_made_whole_or_not_at_all(folder, tmp_path):
    told(folder)
    here = moved(folder, tmp_path / "elsewhere")
    with sqlite3.connect(here.mlflow) as store:  # the last of the updates is refused
        store.execute("create trigger refuse before update of artifact_uri on runs when new.name like '%half%'"
                      " begin select raise(abort, 'not this one'); end")  # fmt: skip
    before = every_row(here.mlflow)
    with pytest.raises(sqlite3.Error, match="not this one"), locked(here):
        bring_along(here)
    assert every_row(here.mlflow) == before


# What the code sees of the host's name, put before every Python process.
OTHER_HOST = """
import platform, socket
socket.gethostname = platform.node = lambda: "another-host"
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_study_goes_on_elsewhere_on_another_host_as_if_nothing_had_happened(tmp_path):
    import json

    undisturbed, start = tmp_path / "undisturbed", tmp_path / "start"
    for place in (undisturbed, start):
        studies.write(place)
    assert studies.ablate("run", "tiny.yaml", cwd=undisturbed).returncode == 0
    reference = StudyFolder(undisturbed / "runs", "tiny")

    there = StudyFolder(start / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=start)
    studies.wait_until(lambda: studies.measured(there) >= 10, seconds=120, what="the second trial measures")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 5, said
    runs_before = {cell: run.info.run_id for cell, run in runs_of(client_of(there), "tiny").items()}

    place = tmp_path / ELSEWHERE
    place.mkdir(parents=True)
    shutil.move(start, place / "study")
    (place / "sitecustomize.py").write_text(OTHER_HOST)
    here = StudyFolder(place / "study" / "runs", "tiny")
    more = {"PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", str(Path(__file__).parents[2]))])}
    done = studies.ablate("run", "tiny", cwd=here.runs.parent, more=more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(here.provenance.read_text())["host"] == "another-host"

    assert studies.plan(here)["cells"] == studies.plan(reference)["cells"]
    assert studies.scores(here) == studies.scores(reference)
    for trial in reference.root.glob("trials/*"):
        weights = Path("checkpoints") / "generator.pt"
        assert (here.root / "trials" / trial.name / weights).read_bytes() == (trial / weights).read_bytes()
    assert report_of(here) == report_of(reference)

    client = client_of(here)
    found = runs_of(client, "tiny")
    assert {run.info.status for run in found.values()} == {"FINISHED"} and len(found) == 1 + studies.CELLS
    assert {cell: found[cell].info.run_id for cell in runs_before} == runs_before
    for cell, run in found.items():
        folder = "images" if cell else "report"
        listed = [file.path for file in client.list_artifacts(run.info.run_id, folder) if not file.is_dir]
        assert listed, cell
        for path in listed:
            assert Path(client.download_artifacts(run.info.run_id, path, str(tmp_path))).stat().st_size
    for database in (here.mlflow, here.optuna):
        assert not says(database, start) and not says(database, tmp_path / "start" / "runs")
    left = [path for path in here.runs.rglob("*") if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml")
            and str(start) in path.read_text(errors="ignore")]  # fmt: skip
    assert not left


def report_of(folder: StudyFolder) -> dict[str, bytes]:
    """The report's files, without what depends on time and place."""
    import json

    found = {path.relative_to(folder.report).as_posix(): path.read_bytes()
             for path in folder.report.rglob("*") if path.is_file()}  # fmt: skip
    document = json.loads(found.pop("report.json"))
    document.pop("provenance")
    found["report.json"] = json.dumps(document).encode()
    found["report.md"] = found["report.md"].partition(b"## Provenance")[0]
    for varying in ("report.html", "figures/hours.png"):
        found.pop(varying)
    return found
