"""What hostile files, names and addresses must not do: run, lead out of a folder, command a terminal, be told on."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import events
from ablate.display import Display
from ablate.logs import Plain
from ablate.mlflow_facts import shown_as_text
from ablate.pictures import read_strip
from ablate.problems import Problem, printable, redacted, safe, without_password
from ablate.records import Cell, Status, StudyFolder, TrialFolder, TrialResult
from tests.ablate import studies
from tests.ablate.commands import ablate
from tests.reports import factory
from tests.trainers.images import folders, refuses
from trainers.layouts.csv import Options as Csv
from trainers.layouts.folders import Options as Folders
from trainers.pairs import DataError
from trainers.prepare import prepare

ESCAPE = "\x1b[31mred\x1b]0;title\x07"
SPELLED = r"\x1b[31mred\x1b]0;title\x07"
MARKUP = "<script>alert(1)</script> ![x](http://evil.org/x.png) [y](javascript:alert(1)) | `z` <img src=x onerror=y>"


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.fixture
def owned(tmp_path) -> Path:
    """What must not exist at the end."""
    place = tmp_path / "owned"
    yield place
    assert not place.exists(), "code from a file has run"


# Nothing in a file is run


def test_a_pickle_in_this_test_would_run(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "owned")))
    assert (tmp_path / "owned").exists()


def zipped(path: Path, owned: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Evil(owned)))
        archive.writestr("a/version", "3\n")


def bare(path: Path, owned: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(owned)))


@pytest.mark.parametrize("make", [zipped, bare])
def test_no_reader_of_weights_runs_a_pickle(tmp_path, owned, make):
    from trainers import checkpoint, start, tensorfile
    from trainers.apply import load_generator

    path = tmp_path / "w.pth"
    make(path, owned)
    for read in (tensorfile.read, start.read, load_generator):
        with pytest.raises(DataError, match=r"w\.pth"):
            read(path)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.read(path)


def test_a_checkpoint_that_is_not_what_its_manifest_says_is_not_even_opened(tmp_path, owned):
    from trainers import checkpoint

    bare(tmp_path / "step.pt", owned)
    assert checkpoint.read(tmp_path / "step.pt", "0" * 64) is None


def objects(path: Path, owned: Path) -> None:
    """An .npz whose arrays are pickles."""
    held = np.empty(1, object)
    held[0] = Evil(owned)
    np.savez(path, sar=held, fake=held, real=held, names=held)


def test_no_reader_of_pictures_runs_an_object_array(tmp_path, owned, caplog):
    objects(tmp_path / "s.npz", owned)
    assert read_strip(tmp_path / "s.npz") is None and "no sample picture" in caplog.text


def test_a_report_leaves_a_hostile_picture_out(tmp_path, owned):
    from reports import write

    folder = factory.study(tmp_path / "runs", factory.table({"base": 20.0, "x": 21.0}, 3), pictures=True)
    for path in folder.glob("trials/*/samples/*.npz"):
        objects(path, owned)
    text = write(folder).read_text()
    assert "pictures.png" not in text


def test_a_prepared_data_set_is_memory_mapped_and_never_unpickled(tmp_path, owned):
    from trainers.tiles import Tiles, damage

    folder = prepare(Folders(root=str(folders(tmp_path / "data"))), tmp_path / "cache")
    held = np.empty(1, object)
    held[0] = Evil(owned)
    np.save(folder / "sar.npy", held, allow_pickle=True)
    assert damage(folder)
    with pytest.raises(DataError):
        Tiles.open(folder)


# Paths stay where they belong


def test_a_table_may_name_files_elsewhere_but_nothing_is_written_there(tmp_path):
    folders(tmp_path / "data")
    rows = [f"../data/sar/p{n}.tif,../data/optical/p{n}.tif,../../g{n}" for n in range(3)]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/pairs.csv").write_text("\n".join(["sar,optical,group", *rows]))
    before = set(tmp_path.rglob("*"))
    made = prepare(Csv(table=str(tmp_path / "tables/pairs.csv")), tmp_path / "cache")
    assert made.is_relative_to(tmp_path / "cache")
    assert all(path.is_relative_to(tmp_path / "cache") for path in set(tmp_path.rglob("*")) - before)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../../../etc/passwd", "link.tif"])
def test_a_table_that_names_a_file_of_secrets_gets_no_more_than_its_first_bytes(tmp_path, name):
    folders(tmp_path / "data")
    (tmp_path / "data/link.tif").symlink_to("/etc/passwd")
    rows = [f"{name if n == 1 else f'sar/p{n}.tif'},optical/p{n}.tif,g{n}" for n in range(3)]
    (tmp_path / "data/pairs.csv").write_text("\n".join(["sar,optical,group", *rows]))
    said = refuses(Csv(table=str(tmp_path / "data/pairs.csv")), tmp_path)
    assert "is not one of GTiff, JPEG, PNG" in said or "don't exist" in said
    assert "/bin/" not in said and ":0:" not in said


@pytest.mark.parametrize("path", ["/vsicurl/http://127.0.0.1:9/x.tif", "/vsizip/x.zip/y.tif", "http://127.0.0.1:9/x.tif",
                                  "/vsis3/bucket/x.tif", "/vsimem/x.tif", "file:///etc/passwd"])  # fmt: skip
def test_remote_and_virtual_files_are_refused_before_gdal_sees_them(path, monkeypatch):
    import rasterio

    from trainers.raster import head

    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(DataError, match="remote and virtual files are not read"):
        head(path)


@pytest.mark.parametrize("content", [b"<VRTDataset/>", b"PK\3\4", b"GIF89a", b"\x1f\x8b", b"%PDF-1.7", b"\x89HDF\r\n",
                                     b"BM\0\0", b"#!/bin/sh", b"{}", b"RIFF"])  # fmt: skip
def test_what_calls_itself_tif_is_opened_by_none_of_the_other_hundred_drivers(tmp_path, content, monkeypatch):
    import rasterio

    from trainers.raster import head

    (tmp_path / "x.tif").write_bytes(content + b"\0" * 100)
    monkeypatch.setattr(rasterio, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(DataError, match="is not one of GTiff, JPEG, PNG"):
        head(str(tmp_path / "x.tif"))


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "samples/../../x", "link/x"])
def test_a_file_that_an_event_names_lies_in_the_trials_folder(tmp_path, path):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial/link").symlink_to(tmp_path)
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(ValueError, match=r"leads out of the trial's folder"):
        folder.inside(path)
    assert folder.inside("samples/a.npz") == (tmp_path / "trial/samples/a.npz").resolve()


NAMES = st.text(st.sampled_from("ab./\\-_ ~$;|&*?'\"\n\0é\u202e"), min_size=1, max_size=12)


@given(NAMES)
def test_a_name_that_is_accepted_is_one_part_of_a_path(name):
    from ablate.records import SLUG

    if SLUG.fullmatch(name) and ".." not in name:
        root = StudyFolder(Path("/runs"), name).root
        assert root.parent == Path("/runs") and os.path.normpath(root) == str(root)
        assert not name.startswith(("-", ".")) and name == json.loads(json.dumps(name)).strip()


# Text from files and people


def test_a_problem_is_one_line_that_commands_no_terminal():
    said = str(Problem(f"a\nb{ESCAPE}.yaml", 1, 1, f"k{ESCAPE}", f"found {ESCAPE}\r\n\u202e"))
    assert printable(said) == said and "\n" not in said and SPELLED in said


def test_the_display_spells_out_what_a_reason_holds():
    stream = io.StringIO()
    with Display(1, metric="psnr", stream=stream, live=False) as display:
        cell = Cell("base", 1, "0" * 12)
        display.note(f"note {ESCAPE}")
        display.started(cell, 10)
        display.ended(cell, TrialResult("0" * 12, Status.failed, why=f"why {ESCAPE}"))
    assert "\x1b" not in stream.getvalue() and stream.getvalue().count(SPELLED) == 2


def test_a_password_that_an_exception_tells_is_in_no_traceback_of_the_log(tmp_path):
    code = f"""if True:
        import contextlib, pathlib, typer
        from ablate import logs, terminal
        logs.log_into(pathlib.Path({str(tmp_path / "driver.log")!r}))
        with contextlib.suppress(typer.Exit), terminal.plain_errors():
            raise RuntimeError("no answer from postgresql://user:C4nary@127.0.0.1/db?password=C4nary")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    log = (tmp_path / "driver.log").read_text()
    assert "Traceback" in log and "no answer from postgresql://***@127.0.0.1/db?password=***" in log + done.stderr
    assert "C4nary" not in log + done.stdout + done.stderr


def test_a_log_line_spells_out_names_and_holds_no_password():
    record = logging.LogRecord("ablate", logging.WARNING, "", 0, "%s of %s", (ESCAPE, "http://u:pw@host/x"), None)
    assert Plain("%(message)s").format(record) == f"{SPELLED} of http://***@host/x"


def test_status_and_show_spell_out_what_a_worker_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell = {"arm": "base", "seed": 1, "trial": "0123456789ab"}
    root = tmp_path / "runs/tiny"
    folder = TrialFolder(root / "trials" / cell["trial"])
    writer = events.EventWriter(folder.events)
    writer.append(events.Ended, step=1, images=4, status="failed", why=f"arm: {ESCAPE}")
    writer.close()
    spec = {"id": cell["trial"], "seed": 1, "ranks": 1, "threads": 1, "device": "cpu", "data": "d"}
    folder.spec.write_text(json.dumps({"spec": spec | {"recipe": {"data": {"tile": 32}}}}))
    plan = {"name": "tiny", "hash": "x", "metric": {}, "arms": [{"name": "base"}], "seeds": [1], "data": {}}
    (root / "plan.json").write_text(json.dumps(plan | {"cells": [cell]}))
    for command in (("status",), ("status", "tiny"), ("show", "0123")):
        ended = ablate(*command)
        assert ended.code == 0 and "\x1b" not in ended.out + ended.err and SPELLED in ended.out, ended


def test_names_of_images_are_spelled_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = folders(tmp_path / "data")
    for side in ("sar", "optical"):
        (root / side / "p1.tif").rename(root / side / f"{ESCAPE}.tif")
    (root / "sar" / f"{ESCAPE}.tif").write_bytes(b"II*\0")
    ended = ablate("data", "check", "data")
    assert ended.code in (1, 2) and "\x1b" not in ended.out + ended.err and r"\x1b[31mred" in ended.out + ended.err


def hostile_report(tmp_path: Path) -> Path:
    from reports import write

    folder = factory.study(tmp_path / "runs", factory.table({"base": 20.0, "x": 21.0}, 3), question=MARKUP)
    plan = json.loads((folder / "plan.json").read_text())
    plan["trainer"] = MARKUP
    plan["arms"][1]["changes"] = {MARKUP: MARKUP}
    plan["warnings"] = [MARKUP]
    (folder / "plan.json").write_text(json.dumps(plan))
    return write(folder).parent


def test_markup_in_a_study_stays_text_in_its_report(tmp_path):
    page = (hostile_report(tmp_path) / "report.html").read_text()
    assert "alert(1)" in page  # it is told
    for hostile in ("<script", "<img src=x", "http://evil.org/x.png\"", 'href="javascript', "onerror=y>"):
        assert hostile not in page.lower(), hostile
    assert 'src="http' not in page and "<link" not in page and "@import" not in page


def test_markup_in_a_study_stays_text_in_mlflow():
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark").render(shown_as_text(MARKUP))  # raw HTML would pass here
    assert "<script" not in shown and "<img" not in shown and "<a " not in shown and "alert(1)" in shown


# Passwords


SECRETS = st.text(st.sampled_from("abcXYZ0189%.~!$&'()*+,;=:@-_"), min_size=6, max_size=16).map("S3cret".__add__)


@given(SECRETS, st.sampled_from(["http", "https", "postgresql+psycopg2", "mysql"]))
def test_no_password_of_a_url_survives(secret, scheme):
    url = f"{scheme}://user:{secret}@host:5000/path?x=1"
    for said in (without_password(f"can't reach {url}: refused"), safe(f"'{url}'"), redacted(f"at {url}", url),
                 str(Problem("s.yaml", 1, 1, "tracking.mlflow", f"found {url}"))):  # fmt: skip
        assert "S3cret" not in said and "host:5000" in said


@pytest.mark.parametrize("name", ["password", "token", "key", "secret", "pwd"])
def test_no_secret_of_a_query_survives(name):
    url = f"http://host/x?a=1&{name}=S3cret&b=2"
    assert without_password(url) == f"http://host/x?a=1&{name}=***&b=2"
    assert "S3cret" not in redacted(url, url)


def test_a_study_that_holds_a_password_is_refused_without_telling_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path, studies.STUDY + "tracking: {mlflow: 'http://u:S3cret@host'}\n")
    for command in ("check", "plan", "run"):
        ended = ablate(command, "tiny.yaml")
        assert ended.code == 2 and "S3cret" not in ended.out + ended.err
    assert not (tmp_path / "runs").exists()


# Processes, ports, modes


def test_the_ui_listens_on_this_machine_alone_and_its_command_is_a_list(tmp_path, monkeypatch, empty_store):
    from ablate import start

    folder = StudyFolder(tmp_path, "")
    shutil.copy(empty_store, folder.mlflow)
    seen = []

    class Server:
        pid = 2**30

        def __init__(self, command, **options):
            seen.append((command, options))

        def wait(self, *_):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Server)
    monkeypatch.setattr(start, "_check_free", lambda port: None)
    assert start.mlflow_ui(folder, 5123) == 0
    (command, options), = seen
    assert isinstance(command, list) and command[command.index("--host") + 1] == "127.0.0.1"
    assert "shell" not in options and not any("0.0.0.0" in word for word in command)


def test_checking_planning_and_reporting_touch_no_network(tmp_path, monkeypatch):
    def refuse(*given, **_):
        pytest.fail(f"the network was asked: {given}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.chdir(tmp_path)
    studies.write(tmp_path)
    factory.study(tmp_path / "runs", factory.table({"base": 20.0, "x": 21.0}, 3), hash="x", name="old")
    folders(tmp_path / "data")
    for command in (("check", "tiny.yaml"), ("plan", "tiny.yaml"), ("status",), ("data", "check", "data"), ("schema",)):
        assert ablate(*command).code in (0, 1), command


def test_what_a_command_writes_under_runs_is_its_owners_alone(tmp_path, monkeypatch):
    from ablate.terminal import private

    before = os.umask(0o022)
    try:
        with private():
            (tmp_path / "mine").write_text("x")
            (tmp_path / "folder").mkdir()
            subprocess.run(["touch", "child"], cwd=tmp_path, check=True)
        (tmp_path / "public").write_text("x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"mine": 0o600, "folder": 0o700, "child": 0o600, "public": 0o644}
