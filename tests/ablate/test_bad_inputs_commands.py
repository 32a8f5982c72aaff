"""Bad command lines, logs, data, weights, runs folders and stores: a sentence, the right exit code, nothing written."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.ablate import studies
from tests.ablate.commands import Bad, ablate, bad, refused
from tests.trainers.images import decibels, folders, picture
from tests.trainers.images import write as write_image

USAGE, STORAGE, ENVIRONMENT = 2, 3, 4
LOG = "(epoch: {0}, iters: 100, time: 0.1, data: 0.2) G_GAN: 1.000 G_L1: 20.000 D_real: 0.500 D_fake: 0.500\n"
CELL = {"arm": "base", "seed": 1, "trial": "0123456789ab"}
PLAN = {"name": "tiny", "hash": "x", "metric": {"name": "gmsd"}, "arms": [{"name": "base"}], "seeds": [1], "data": {},
        "cells": [CELL]}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """The first command loads what the others find loaded."""
    ablate("check", "absent.yaml")
    ablate("report", "absent")


def pipe(name: str):
    return lambda folder: os.mkfifo(folder / name)


COMMANDS = [
    bad("chek", "tiny.yaml", says=("No such command 'chek'", "check")),
    bad("check", says="Missing argument 'STUDY'"),
    bad("check", "tiny.yaml", "other.yaml", says="unexpected extra argument"),
    bad("check", "tiny.yaml", "--st", "a=1", says=("No such option", "--set")),
    bad("check", "tiny.yaml", "--set", says="requires an argument"),
    bad("check", "", says="STUDY: is empty; expected a study file"),
    bad("check", "absent.yaml", says="absent.yaml: no such file; expected a study file"),
    bad("check", ".", says=".: is a folder; expected a study file"),
    bad("check", "../../..", says="../../..: is a folder"),
    bad("check", "pipe", says="pipe: is not a regular file", prepare=pipe("pipe")),
    bad("check", "/dev/zero", says="/dev/zero: is not a regular file"),
    bad("check", "a" * 5000, says="File name too long"),
    bad("check", "\x1b[31mred.yaml", says=r"\x1b[31mred.yaml: an argument holds a control character"),
    bad("check", "right\u202eleft.yaml", says=r"right\u202eleft.yaml: an argument holds a control character"),
    bad("check", "\udcff.yaml", says=r"\udcff.yaml: an argument holds a control character, or is not UTF-8"),
    bad("check", "link.yaml", says="Too many levels of symbolic links",
        prepare=lambda folder: (folder / "link.yaml").symlink_to("link.yaml")),
    bad("check", "link.yaml", says="link.yaml: no such file",
        prepare=lambda folder: (folder / "link.yaml").symlink_to("nowhere")),
    bad("check", "tiny.yaml", "--runs", "tiny.yaml", says=("--runs", "tiny.yaml is a file; expected the folder")),
    bad("run", "tiny.yaml", "--runs", "/dev/null", says="/dev/null is a file; expected the folder of results"),
    bad("plan", "absent.yaml", "--json", says="absent.yaml: no such file"),
    bad("plan", "tiny.yaml", "--json", "--set", "seeds=0", says="seeds: expected a number of seeds from 1"),
    bad("run", "absent.yaml", says="absent.yaml: no such file"),
    bad("run", "../tiny", says="../tiny: no such file"),
    bad("status", "absent", says="absent: no study of this name has run under runs/"),
    bad("status", "..", says="..: no study of this name has run"),
    bad("status", "../../etc", says="../../etc: no study of this name has run"),
    bad("clean", "absent", says="absent: no study of this name has run under runs/"),
    bad("clean", "../../etc", "--failed", says="../../etc: no study of this name has run"),
    bad("clean", "--runs", "tiny.yaml", says="tiny.yaml is a file; expected the folder"),
    bad("check", "tiny.yaml", "--set", "keep=all", says="keep: no such choice: 'all'; there are generator, nothing"),
    bad("check", "tiny.yaml", "--set", "confirms={study: x}", says="confirms.study: no study 'x' has run under runs/"),
    bad("check", "tiny.yaml", "--set", "confirms={seeds: [9]}", says="confirms.study: is missing"),
    bad("report", "/etc", says="/etc: no study of this name has run"),
    bad("report", "", says="STUDY: no study of this name has run"),
    bad("confirm", "absent", says="absent: no study of this name has run"),
    bad("confirm", "absent", "--seeds", "0", says="Invalid value for '--seeds'"),
    bad("show", "", says="TRIAL: no trial whose id starts so under runs/"),
    bad("show", "/etc/passwd", says="/etc/passwd: no trial whose id starts so"),
    bad("show", "../x/y", says="../x/y: no trial whose id starts so"),
    bad("show", "**/a", says="**/a: no trial whose id starts so"),
    bad("show", "a**/b", says="a**/b: no trial whose id starts so"),
    bad("init", ".", "--example", "quik", says=("no such study: 'quik'; there are batch", "did you mean quick?")),
    bad("init", ".", "--example", "../../etc/passwd", says="no such study: '../../etc/passwd'"),
    bad("init", ".", "--data", "absent", says="absent: no such folder"),
    bad("init", ".", "--data", "tiny.yaml", says="tiny.yaml: not a folder"),
    bad("init", "tiny.yaml", says="tiny.yaml: File exists", code=ENVIRONMENT),
    bad("init", ".", says="quick.yaml: is there already; it is left as it is", files={"quick.yaml": "mine"}),
    bad("data", "check", "absent", says="absent: no such file"),
    bad("data", "check", ".", "--set", "a=1", says="--set: belongs to a study"),
    bad("data", "check", ".", says=".: no layout is recognised. Known are bigearthnet"),
    bad("data", "check", "pipe", says="pipe: is not a regular file", prepare=pipe("pipe")),
    bad("data", "preview", "tiny.yaml", "--out", ".", says="--out: . is a folder; expected a file for the picture"),
    bad("data", "synth", ".", says=".: is there already and not empty; it is left as it is"),
    bad("data", "synth", "new", "--scenes", "1", says="Invalid value for '--scenes'"),
    bad("data", "synth", "new", "--layout", "zip", says=("Invalid value for '--layout'", "folders")),
    bad("ui", says="there is no MLflow store yet: runs/mlflow.db; run a study first", code=ENVIRONMENT),
    bad("ui", "--port", "99999999", says="Invalid value for '--port'"),
]  # fmt: skip


LOGS = [
    bad("diagnose", "absent.txt", says="absent.txt: no such file; expected pix2pix's loss_log.txt"),
    bad("diagnose", ".", says=".: is a folder; the log in it is loss_log.txt", files={"loss_log.txt": LOG}),
    bad("diagnose", "pipe", says="pipe: is not a regular file", prepare=pipe("pipe")),
    bad("diagnose", "log", says="log: no loss log of pix2pix: found 0 other lines", files={"log": ""}),
    bad("diagnose", "log", says="log: no loss log of pix2pix", files={"log": os.urandom(4096)}),
    bad("diagnose", "log", says="found 1 other line", files={"log": b"\0" * 10**6}),
    bad("diagnose", "log", says="found 3 other lines", files={"log": "Epoch 1\nloss 0.3\nEpoch 2\n"}),
    bad("diagnose", "log", says="found 1 loss line, all torn", files={"log": LOG.format(1)[:60]}),
    bad("diagnose", "log", says="losses A; a diagnosis reads pix2pix's: D_real, D_fake, G_GAN, G_L1",
        files={"log": "(epoch: 1, iters: 100, time: 0.1, data: 0.2) A: 1.000\n"}),
    bad("diagnose", "log", says="all torn",
        files={"log": "(epoch: 1, iters: 100, time: 0.1, data: 0.1) " + " ,\t" * 10**5 + "x\n"}),
    bad("diagnose", "log", says="all torn", files={"log": "(epoch: 1, iters: 1, " + "1." * 10**5 + "\n"}),
    bad("diagnose", "log", says="all torn",
        files={"log": "(epoch: 1, iters: 100, time: 0.1, data: 0.2) \x1b]0;owned\x07G_L1: 1.000\n"}),
    bad("diagnose", "log", "--objective", "hinge", says="no such objective: 'hinge'; there are lsgan, vanilla",
        files={"log": LOG}),
    bad("diagnose", "log", "--lambda-l1", "nan", says="--lambda-l1: found nan; expected a number above 0",
        files={"log": LOG.format(1)}),
    bad("diagnose", "log", "--lambda-l1", "ten", says="Invalid value for '--lambda-l1'", files={"log": LOG}),
    bad("diagnose", "log", "--smoothing", "0", "1", says="--smoothing: found 0.0 1.0; expected the targets",
        files={"log": LOG.format(1)}),
]  # fmt: skip


def images(folder: Path) -> None:
    folders(folder / "good")


def table(*rows: str, head: str = "sar,optical,group", says: str | tuple[str, ...], encoding: str = "utf-8") -> Bad:
    """A table of pairs beside three good ones."""
    content = "\n".join([head, *rows, ""]).encode(encoding)
    setting = "base.data={layout: csv, table: pairs.csv, tile: 32}"
    return bad("check", "tiny.yaml", "--set", setting, says=says, files={"pairs.csv": content}, prepare=images)


def layout(options: str, says: str | tuple[str, ...], prepare=images, **files: bytes) -> Bad:
    setting = f"base.data={{tile: 32, {options}}}"
    return bad("check", "tiny.yaml", "--set", setting, says=says, files=files, prepare=prepare)


ROW = "good/sar/p0.tif,good/optical/p0.tif,a"


def without_partner(folder: Path) -> None:
    images(folder)
    for path in (folder / "good/optical").iterdir():
        path.rename(path.with_name(f"other-{path.name}"))


DATA = [
    table(says="pairs.csv: holds no pair below its header"),
    table(ROW, head="sar,optic,group", says="pairs.csv: no column optical; it has sar, optic, group"),
    table(ROW, head="sar;optical;group", says="pairs.csv: no column sar, optical, group"),
    table(ROW, head="sar,sar,optical,group", says="pairs.csv: two columns sar; one of a name"),
    table(ROW, "good/sar/p1.tif,,b", says="pairs.csv:3: optical is empty"),
    table(ROW, "good/sar/p1.tif,x,b,c", says="pairs.csv:3: more cells than columns: c"),
    table(ROW, ROW, says="stands in two rows; one row a SAR image"),
    table(ROW, "good/sar/p9.tif,good/optical/p1.tif,b", says=("1 of its files don't exist", "good/sar/p9.tif")),
    table(ROW, "../../../etc,good/optical/p1.tif,b", says="1 of its files don't exist"),
    table(ROW, "/vsicurl/http://h/x.tif,good/optical/p1.tif,b", says="1 of its files don't exist"),
    table(ROW, "http://u:pw@h/x.tif,good/optical/p1.tif,b", says=("1 of its files don't exist", "http:/***@h/x.tif")),
    table(ROW, "good/sar/p1.tif\x1b[2J,good/optical/p1.tif,b", says=r"p1.tif\x1b[2J"),
    table(ROW, says="pairs.csv: not a UTF-8 CSV table", encoding="utf-16"),
    table(ROW, "good/sar/stra\xdfe.tif,x,b", says="not a UTF-8 CSV table", encoding="latin-1"),
    layout("layout: csv, table: absent.csv", "absent.csv: No such file or directory"),
    layout("layout: csv, table: good", "good: Is a directory"),
    layout("layout: folders, root: absent", "absent/sar: no such folder"),
    layout("layout: folders, root: tiny.yaml", "tiny.yaml/sar: no such folder"),
    layout("layout: folders, root: good, sar_folder: SAR", "good/SAR: no such folder"),
    layout("layout: folders, root: good", "no image has a partner of the same name", without_partner),
    layout("layout: folders, root: good, scene_pattern: '(x)'", "scene_pattern '(x)' finds nothing in the name"),
]  # fmt: skip

CHECKED = [
    ("sar/p1.tif: begins with b'<VRT'", lambda root: (root / "sar/p1.tif").write_text("<VRTDataset/>")),
    ("sar/p1.tif: can't be read as GTiff", lambda root: cut(root / "sar/p1.tif")),
    ("sar/p1.tif: 64 x 64 px", lambda root: write_image(root / "optical/p1.tif", picture(1, size=80))),
    ("sar/p1.tif: no valid pixel", lambda root: write_image(root / "sar/p1.tif", decibels() * np.nan)),
    ("complex64", lambda root: write_image(root / "sar/p1.tif", np.ones((1, 64, 64), np.complex64))),
    ("a pipe or device, not a file", lambda root: ((root / "sar/p1.tif").unlink(), os.mkfifo(root / "sar/p1.tif"))),
]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


def archive(**members: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            written.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return held.getvalue()


def saved(content: object) -> bytes:
    import torch

    held = io.BytesIO()
    torch.save(content, held)
    return held.getvalue()


def weights(content: bytes, *says: str) -> Bad:
    return bad("check", "tiny.yaml", "--set", "base.start=w.pth", says=("base.start.generator: ", "w.pth: ", *says),
               files={"w.pth": content})  # fmt: skip


NOT_TORCHS, FOREIGN = "not a file that torch.save wrote", "which only running code from the file could rebuild"
WEIGHTS = [
    weights(b"", NOT_TORCHS),
    weights(b"PK\x03\x04", NOT_TORCHS),
    weights(b"hello", NOT_TORCHS),
    weights(os.urandom(1000), NOT_TORCHS),
    weights(archive(readme=b"x"), NOT_TORCHS),
    weights(archive(a__data_pkl=b"\x80\x02."), NOT_TORCHS),
    weights(archive(a__data_pkl=pickle.dumps(Evil())), "it names posix.system", FOREIGN),
    weights(pickle.dumps(Evil()), "it names posix.system", FOREIGN),
    weights(archive(a__data_pkl=b"cbuiltins\neval\n(S'1'\ntR."), "it names builtins.eval", FOREIGN),
    weights(archive(a__data_pkl=b"cnumpy\nload\n(S'x'\ntR."), "it names numpy.load", FOREIGN),
    weights(archive(a__data_pkl=b"ctorch\nload\n(S'x'\ntR."), "it names torch.load", FOREIGN),
    weights(archive(a__data_pkl=b"\x80\x02Nr\xff\xff\xff\x7f."), "holds a NoneType"),  # room for 2^31 memo entries
    weights(archive(a__data_pkl=b"\0" * (65 * 2**20)), NOT_TORCHS),  # 65 MiB of index in 66 kB
    weights(saved({"x": 1})[:200], NOT_TORCHS),
    weights(saved([1, 2]), "holds a list; expected a checkpoint of ablate's, or a state dict"),
    weights(saved({"weight": 3}), "holds a mapping of weight"),
    bad("check", "tiny.yaml", "--set", "base.start=absent.pth", says="absent.pth: no such file"),
    bad("check", "tiny.yaml", "--set", "base.start=.", says="is a folder; expected a file of weights"),
    bad("check", "tiny.yaml", "--set", "base.start=/dev/zero", says="/dev/zero: is a pipe or device"),
    bad("check", "tiny.yaml", "--set", "base.start=pipe", says="is a pipe or device", prepare=pipe("pipe")),
]  # fmt: skip


def stored(command: str, plan: object, *says: str, code: int = STORAGE, **files: str) -> Bad:
    """A study's folder under runs/ with this plan.json (text as it is, else as JSON)."""
    text = plan if isinstance(plan, str) else json.dumps(plan)
    beside = {f"runs/tiny/{name}": content for name, content in files.items()}
    return bad(command, "tiny", says=says, code=code, files={"runs/tiny/plan.json": text, **beside})


def trial(spec: str, *says: str, events: str = "", code: int = STORAGE) -> Bad:
    """A trial's folder with this spec.json."""
    folder = f"runs/tiny/trials/{CELL['trial']}"
    files = {"runs/tiny/plan.json": json.dumps(PLAN), f"{folder}/spec.json": spec, f"{folder}/events.jsonl": events}
    return bad("show", "0123", says=says, code=code, files=files)


DAMAGED = "runs/tiny/plan.json: damaged: "
RUNS = [
    *(stored(command, "{", f"{DAMAGED}not JSON (line 1, column 2)", "put it back from a copy")
      for command in ("status", "report", "confirm")),
    stored("status", "", f"{DAMAGED}not JSON"),
    stored("status", "\0\0\0", f"{DAMAGED}not JSON"),
    stored("status", "[" * 10**5, f"{DAMAGED}not JSON"),
    stored("status", [], f"{DAMAGED}expected a mapping, found []"),
    stored("status", None, f"{DAMAGED}expected a mapping, found nothing"),
    stored("status", {}, f"{DAMAGED}cells: expected a list, found nothing"),
    stored("status", PLAN | {"cells": 3}, f"{DAMAGED}cells: expected a list, found 3"),
    stored("status", PLAN | {"cells": [1]}, f"{DAMAGED}cells[0]: expected a mapping, found 1"),
    stored("status", PLAN | {"cells": [CELL | {"trial": 3}]}, f"{DAMAGED}cells[0].trial: expected text, found 3"),
    stored("status", PLAN | {"cells": [CELL | {"trial": "../../../etc"}]}, "'../../../etc' is no id of a trial"),
    stored("clean", PLAN | {"cells": [CELL | {"trial": "../x"}]}, "'../x' is no id of a trial"),
    stored("report", PLAN | {"cells": [CELL | {"trial": "/etc"}]}, "'/etc' is no id of a trial"),
    stored("report", PLAN | {"metric": "gmsd"}, f"{DAMAGED}metric: expected a mapping, found text 'gmsd'"),
    stored("report", PLAN | {"arms": {}}, f"{DAMAGED}arms: expected a list, found an empty mapping"),
    stored("report", PLAN | {"arms": [{}]}, f"{DAMAGED}arms[0].name: expected text, found nothing"),
    stored("report", PLAN, "runs/tiny/data.json: damaged: not JSON", **{"data.json": "{"}),
    stored("report", PLAN, "runs/tiny/provenance.json: damaged: expected a mapping", **{"provenance.json": "[1]"}),
    trial("{", "spec.json: damaged: not JSON"),
    trial("{}", "spec.json: damaged: spec: expected a mapping, found nothing"),
    trial('{"spec": {"id": 3}}', "spec.json: damaged: spec.id: expected text, found 3"),
    bad("data", "cache", says="runs/a/plan.json: damaged, so which data sets its study uses is not known",
        files={"runs/a/plan.json": "[" * 10**5}),
    bad("check", "tiny", says="runs/tiny/study.yaml:2:1: not YAML", files={"runs/tiny/study.yaml": "a: [\n"}),
]  # fmt: skip

STORES = [
    bad("run", "tiny.yaml", says="MLFLOW_TRACKING_URI: no such kind of MLflow store: 'htp'; there are databricks, http",
        code=ENVIRONMENT, environment={"MLFLOW_TRACKING_URI": "htp://u:pw@host/x"}),
    bad("run", "tiny.yaml", says="MLFLOW_TRACKING_URI: 'http://***@' names no host", code=ENVIRONMENT,
        environment={"MLFLOW_TRACKING_URI": "http://u:pw@"}),
    bad("run", "tiny.yaml", says="'http://***@host:http' is not an address", code=ENVIRONMENT,
        environment={"MLFLOW_TRACKING_URI": "http://u:pw@host:http"}),
    bad("run", "tiny.yaml", "--set", "resources={ranks: 4, slots: 16, device: cuda}", code=ENVIRONMENT,
        says="with 4 ranks each need 16 GPUs"),  # four trials: no more slots
]  # fmt: skip


@pytest.mark.parametrize("case", [*COMMANDS, *LOGS, *DATA, *WEIGHTS, *RUNS, *STORES], ids=str)
def test_a_bad_input_is_answered_with_a_sentence(case, tmp_path):
    lines = refused(case, tmp_path)
    assert "pw" not in "".join(lines) and not (tmp_path / "owned").exists()


@pytest.mark.parametrize(("says", "spoil"), CHECKED, ids=[says for says, _ in CHECKED])
def test_a_bad_image_is_named_by_the_check_of_its_data(says, spoil, tmp_path):
    spoil(folders(tmp_path / "good"))
    ended = ablate("data", "check", "good")
    said = ended.out if ended.code == 1 else ended.err  # 1: a finding among others; 2: nothing can be said of the rest
    assert ended.code in (1, 2) and says in said and "Traceback" not in said, (ended.out, ended.err)


def test_most_of_them_through_the_real_command(tmp_path):
    """A few of every kind, since a process of its own also prints what this one would swallow."""
    for case in (COMMANDS[0], COMMANDS[12], DATA[7], WEIGHTS[6], RUNS[0], STORES[0]):
        studies.write(tmp_path)
        for name, content in case.files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        if case.prepare:
            case.prepare(tmp_path)
        done = studies.ablate(*case.arguments, cwd=tmp_path, more=dict(case.environment))
        assert done.returncode == case.code and "Traceback" not in done.stderr and done.stdout == "", done.stderr
        assert case is COMMANDS[0] or all(words in done.stderr for words in case.says), done.stderr
        assert not (tmp_path / "owned").exists()
