"""How the command begins: with closed or ASCII outputs, on a full disk, and with a Ctrl-C before it has begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from ablate import cli
from ablate.entry import INTERRUPTED
from ablate.plan import make_plan
from ablate.records import StudyFolder
from ablate.study import load
from tests.ablate import studies

ROOT = Path(__file__).parents[2]
ENTRY = [sys.executable, "-m", "ablate.entry"]
ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROBE = """
import json, os, sys
from pathlib import Path
from ablate.entry import open_streams
open_streams()
from ablate.display import Display
from ablate.records import Cell
with Display(1, metric="gmsd") as display:
    display.started(Cell("base", 1, "0"), 6)
print("an error", file=sys.stderr)
file = open("new", "w")
child = os.waitstatus_to_exitcode(os.system("echo heard; cat"))
Path("found.json").write_text(json.dumps({"next": file.fileno(), "input": sys.stdin.read(), "child": child}))
"""


def started(words: Sequence[str], cwd: Path, *, shell: str = 'exec "$@"', more: dict[str, str] | None = None,
            **options: object) -> subprocess.Popen[str]:  # fmt: skip
    """A command of a shell's, which may close or redirect what it is given."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    return subprocess.Popen(["sh", "-c", shell, "sh", *words], cwd=cwd, env=studies.environment() | path | (more or {}),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            **options)  # fmt: skip


def ended(words: Sequence[str], cwd: Path, **options: object) -> tuple[int, str, str]:
    process = started(words, cwd, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def planned(tmp_path) -> Path:
    """A place with a study of which nothing has run."""
    folder = StudyFolder(tmp_path / "runs", "tiny")
    folder.root.mkdir(parents=True)
    folder.plan.write_text(json.dumps(make_plan(load(studies.write(tmp_path))).to_json()))
    return tmp_path


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_devnull_here_and_for_children_and_no_file_takes_its_place(tmp_path, closed):
    code, _, err = ended([sys.executable, "-c", PROBE], tmp_path, shell=f'exec "$@" {closed}')
    assert code == 0 and "Traceback" not in err, err
    assert json.loads((tmp_path / "found.json").read_text()) == {"next": 3, "input": "", "child": 0}
    assert (tmp_path / "new").read_text() == ""


@pytest.mark.parametrize("more", [ASCII, C_LOCALE], ids=["ascii", "C"])
def test_an_output_that_lacks_a_character_shows_a_question_mark(planned, more):
    code, out, err = ended([*ENTRY, "status", "tiny"], planned, more=more)
    assert (code, err) == (0, "") and "  base ? seed 1 (" in out, err


@pytest.mark.parametrize("command", [("status", "--json"), ("status",), ("schema",)])
def test_an_output_that_is_full_changes_no_exit_code(planned, command):
    assert ended([*ENTRY, *command], planned, shell='exec "$@" >/dev/full') == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "more"), [('exec "$@" >&-', {}), ('exec "$@"', ASCII), ('exec "$@"', C_LOCALE)],
                         ids=["closed", "ascii", "C"])  # fmt: skip
def test_a_study_runs_to_its_end_whatever_its_output_is(tmp_path, shell, more):
    studies.write(tmp_path)
    words = [*ENTRY, "run", "tiny.yaml", "--set", "seeds=1", "--set", "resources.ranks=1"]
    code, out, err = ended(words, tmp_path, shell=shell, more=more)
    assert code == 0 and "Traceback" not in err, err
    assert ("base ? seed 1  started" in out and "2 trials: 2 done" in out) or not more, out
    assert "ERROR" not in StudyFolder(tmp_path / "runs", "tiny").log.read_text()


# -- Ctrl-C before anything has begun ---------------------------------------------------------------------


def loading(folder: Path, then: str) -> dict[str, str]:
    """An environment in which the first package that the command loads says so, and goes on with `then`."""
    (folder / "slow").mkdir()
    (folder / "slow" / "typer.py").write_text(f"import sys, time\nprint('loading', flush=True)\n{then}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder / "slow"), str(ROOT)])}


def interrupted(folder: Path, then: str, shell: str) -> tuple[int, str]:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may have it ignored
    process = started([*ENTRY, "status"], folder, more=loading(folder, then), shell=shell)
    signal.signal(signal.SIGINT, before)
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_ctrl_c_while_modules_are_loaded_ends_it_without_a_word(tmp_path):
    assert interrupted(tmp_path, "time.sleep(60)", 'exec "$@"') == (INTERRUPTED, "")


def test_where_the_caller_has_it_ignored_it_stays_so(tmp_path):
    assert interrupted(tmp_path, "time.sleep(1); sys.exit(7)", 'trap "" INT; exec "$@"') == (7, "")


@pytest.mark.parametrize("step", ["check_environment", "app"])
def test_a_ctrl_c_before_the_command_has_begun_is_no_error(step, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, step, interrupt)
    monkeypatch.setattr(sys, "argv", ["ablate", "status"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == INTERRUPTED


def test_the_installed_command_begins_there():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["ablate"] == "ablate.entry:main"
