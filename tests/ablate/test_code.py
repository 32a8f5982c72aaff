"""Code that changed: what a fingerprint sees, and when training under other code is refused."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

import trainers
from ablate import code, codechange, events
from ablate.codechange import CodeChanged
from ablate.plan import make_plan
from ablate.records import StudyFolder
from ablate.stored import Damaged
from ablate.study import load
from tests.ablate import commands, studies

SOURCES = Path(trainers.__file__).parent
BEFORE, NOW, LATER = "aaa, torch 2.13", "bbb, torch 2.13", "ccc, torch 2.13"
SOURCE = '''"""What it is."""


def half(x):
    """Of x."""
    return x / 2  # exactly


@wraps(half)
class Some:
    """A part."""

    rate: float = 0.5
'''
SAME = {
    "comment": SOURCE.replace("# exactly", "# or nearly so"),
    "docstring": SOURCE.replace("Of x.", "The half of x."),
    "no docstring of the module": SOURCE.replace('"""What it is."""', ""),
    "layout": SOURCE.replace("return x / 2", "return (\n        x\n        / 2)"),
    "quotes": SOURCE.replace('"""Of x."""', "'Of x.'"),
    "windows": SOURCE.replace("\n", "\r\n"),
}
OTHER = {
    "number": SOURCE.replace("x / 2", "x / 2.0"),
    "operator": SOURCE.replace("x / 2", "x // 2"),
    "name": SOURCE.replace("rate", "ratio"),
    "default": SOURCE.replace("0.5", "0.25"),
    "decorator": SOURCE.replace("@wraps(half)\n", ""),
    "annotation": SOURCE.replace("float", "int"),
    "order": SOURCE.replace("x / 2", "2 / x"),
    "text that is used": SOURCE.replace("0.5", "'0.5'"),
    "no Python": SOURCE.replace("def half", "de half"),
}


def print_of(folder: Path, text: str, name: str = "part.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return code.fingerprint.__wrapped__(folder)


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_run_does_not_enter_the_fingerprint(change, tmp_path):
    assert SAME[change] != SOURCE
    assert print_of(tmp_path / "a", SOURCE) == print_of(tmp_path / "b", SAME[change])


@pytest.mark.parametrize("change", OTHER)
def test_what_runs_does(change, tmp_path):
    assert OTHER[change] != SOURCE
    assert print_of(tmp_path / "a", SOURCE) != print_of(tmp_path / "b", OTHER[change])


def test_where_a_part_lies_and_which_parts_there_are_enter_it(tmp_path):
    one = print_of(tmp_path / "a", SOURCE)
    assert print_of(tmp_path / "b", SOURCE, "terms/part.py") != one
    assert print_of(tmp_path / "a", "x = 1", "more.py") != one


def test_two_trees_never_share_their_words():
    """Where one list ends and the next begins is said, and texts are told from names."""
    texts = ["f(a, b)", "f(a)(b)", "f(a, b=1)", "f(a, *b)", "f('a', b)", "x = 1", "x = True", "x = '1'", "x: int",
             "if a:\n    b\nc", "if a:\n    b\n    c", "if a:\n    b\nelse:\n    c", "[a, [b]]", "[[a], b]",
             "def f(a, /, b): 1", "def f(a, *, b): 1", "def f(a, b): 1", "{**a}", "{a: b}", "a; b", "f'{a}b'",
             "f'{a!r}b'"]  # fmt: skip
    assert len({code._meaning(text.encode()) for text in texts}) == len(texts)


def test_the_training_code_without_its_comments_and_docstrings_is_the_same_code(tmp_path):
    """All of it, printed anew from its syntax trees."""
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list):
                node.body = [each for each in node.body if not code._is_remark(each)] or [ast.Pass()]
        target = tmp_path / path.relative_to(SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(ast.unparse(tree))
    assert code.fingerprint.__wrapped__(tmp_path) == code.fingerprint.__wrapped__()


def test_a_fingerprint_costs_a_moment():
    began = time.process_time()
    code.fingerprint.__wrapped__()
    assert time.process_time() - began < 2  # 0.2 s on an idle machine


def test_torchs_version_is_found_without_loading_it():
    assert code.torch_version().partition("+")[0] == importlib.metadata.version("torch").partition("+")[0]


# -- what a driver does about it ------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    plan = make_plan(load(studies.write(tmp_path)))
    folder = StudyFolder(tmp_path / "runs", "tiny")
    folder.root.mkdir(parents=True)
    return plan, folder, list(plan.specs)


def ran(folder: StudyFolder, id: str, *under: str, status: str = "done", measures: bool = True) -> None:
    """A trial that ran under these states in turn; `status` empty leaves it without an end."""
    for attempt, state in enumerate(under, start=1):
        writer = events.EventWriter(folder.trial(id).events, attempt=attempt)
        found, torch = state.split(", torch ")
        versions = {"code": found, "torch": torch} if found != "?" else {"torch": torch}
        writer.append(events.Started, world_size=1, threads=1, device="cpu", versions=versions)
        if measures:
            writer.append(events.Measured, step=3 * attempt, images=12, split="train", values={"loss_d": 1.0})
        if status and attempt == len(under):
            writer.append(events.Ended, step=6, images=24, status=status, why="machine: gone" * (status == "failed"))
        writer.close()


def checked(study, **options) -> str:
    plan, folder, _ = study
    return codechange.check(plan, folder, **{"installed": lambda: NOW, **options})


def test_a_study_that_begins_or_goes_on_under_the_same_code_is_not_asked(study):
    _, folder, ids = study
    assert checked(study, installed=lambda: pytest.fail("nothing has run: the fingerprint is not needed")) == ""
    ran(folder, ids[0], NOW)
    ran(folder, ids[1], NOW, NOW, status="")
    assert checked(study) == "" and not folder.accepted_code.exists()


@pytest.mark.parametrize(("state", "what"), [
    (BEFORE, "the training code has changed"),
    ("bbb, torch 2.12", "torch has changed"),
    ("aaa, torch 2.12", "the training code and torch have changed"),
])  # fmt: skip
@pytest.mark.parametrize("finished", [True, False])
def test_other_code_is_refused_with_numbers_while_something_is_left(study, state, what, finished):
    _, folder, ids = study
    ran(folder, ids[0], state, status="done" if finished else "")
    with pytest.raises(CodeChanged) as refused:
        checked(study)
    said = str(refused.value)
    assert what in said and f"now it would be code {NOW}" in said and "--accept-code-change" in said
    how = "finished" if finished else "to be taken up again"
    assert f"1 trial (1 {how}) ran under code {state}" in said
    assert f"{4 - finished} trials left to train" in said


def test_every_state_is_counted(study):
    _, folder, ids = study
    ran(folder, ids[0], BEFORE)
    ran(folder, ids[1], BEFORE, LATER)
    ran(folder, ids[2], BEFORE, status="")
    with pytest.raises(CodeChanged) as refused:
        checked(study)
    said = str(refused.value)
    assert "3 trials (2 finished, 1 to be taken up again) ran under code aaa" in said
    assert "1 trial (1 finished) ran under code ccc" in said and "2 trials left" in said


def test_what_was_accepted_is_kept_and_covers_no_third_state(study):
    _, folder, ids = study
    ran(folder, ids[0], BEFORE)
    assert checked(study, accept=True) == ""
    assert json.loads(folder.accepted_code.read_text())["accepted"][0]["states"] == [BEFORE, NOW]
    ran(folder, ids[1], NOW)
    assert checked(study) == ""
    assert checked(study, installed=lambda: BEFORE) == "", "the same two"
    with pytest.raises(CodeChanged, match="2 trials left"):
        checked(study, installed=lambda: LATER)
    assert checked(study, installed=lambda: LATER, accept=True) == ""
    assert len(json.loads(folder.accepted_code.read_text())["accepted"]) == 2


def test_a_finished_study_is_not_refused_and_says_so_if_all_of_it_came_from_other_code(study):
    _, folder, ids = study
    for id in ids[1:]:
        ran(folder, id, BEFORE)
    ran(folder, ids[0], BEFORE)
    said = checked(study)
    assert said.startswith("nothing is left to train") and "4 trials (4 finished) under code aaa, torch 2.13" in said
    shutil.rmtree(folder.trial(ids[0]).root)
    ran(folder, ids[0], NOW)
    assert checked(study) == ""


def test_an_attempt_that_measured_nothing_and_a_stream_that_does_not_say_are_no_evidence(study):
    _, folder, ids = study
    ran(folder, ids[0], BEFORE, measures=False, status="")
    ran(folder, ids[1], "?, torch 2.12")
    assert checked(study) == ""


def test_failed_trials_that_are_run_again_may_have_failed_under_other_code(study):
    _, folder, ids = study
    for id in ids[1:]:
        ran(folder, id, NOW)
    ran(folder, ids[0], BEFORE, status="failed")
    assert checked(study) == "", "nothing is left: a failure is an outcome"
    assert checked(study, retry_failed=True) == ""
    shutil.rmtree(folder.trial(ids[1]).root)
    with pytest.raises(CodeChanged):
        checked(study)
    assert checked(study, retry_failed=True) == ""


def test_a_damaged_record_of_what_was_accepted_is_named(study):
    _, folder, ids = study
    ran(folder, ids[0], BEFORE)
    for text, says in (("{", "not JSON"), ("{}", "accepted: expected a list"), ('{"accepted": [3]}', "a mapping")):
        folder.accepted_code.write_text(text)
        with pytest.raises(Damaged, match=says):
            checked(study)


# -- as a person meets it -------------------------------------------------------------------------------


def test_the_command_refuses_with_exit_2_and_starts_nothing(study, tmp_path, monkeypatch):
    plan, folder, ids = study
    monkeypatch.chdir(tmp_path)
    folder.plan.write_text(json.dumps(plan.to_json()))
    ran(folder, ids[0], BEFORE)
    before = {path: path.read_bytes() for path in folder.trial(ids[0]).root.rglob("*")}
    ended = commands.ablate("run", "tiny.yaml")
    assert ended.code == 2 and "1 trial (1 finished) ran under code aaa, torch 2.13" in ended.err, ended.err
    assert f"now it would be code {code.installed()}" in ended.err and "Traceback" not in ended.err
    assert {path.name for path in folder.root.rglob("*")} == {"plan.json", "driver.lock", "trials", ids[0],
                                                               "events.jsonl"}  # fmt: skip
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_accepted_it_goes_on_and_the_report_says_so_from_the_streams_alone(tmp_path):
    studies.write(tmp_path)
    folder = StudyFolder(tmp_path / "runs", "tiny")
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0
    first, *others = sorted(folder.root.glob("trials/*/events.jsonl"))
    for stream in others:
        told = events.read(stream)
        assert isinstance(told[0], events.Started) and told[0].versions["code"] == code.fingerprint()
        changed = replace(told[0], versions={**told[0].versions, "code": "aaa"})
        stream.write_text("".join(map(events.to_line, [changed, *told[1:]])))
    shutil.rmtree(first.parent)
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 2
    assert not first.parent.exists()
    done = studies.ablate("run", "tiny.yaml", "--accept-code-change", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert studies.ablate("run", "tiny.yaml", cwd=tmp_path).returncode == 0, "what was accepted stays accepted"
    folder.accepted_code.unlink()
    assert studies.ablate("report", "tiny", cwd=tmp_path).returncode == 0
    report = (folder.report / "report.md").read_text()
    assert "3 trials under aaa, torch" in report and f"1 trial under {code.fingerprint()}, torch" in report
