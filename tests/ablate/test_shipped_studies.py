"""What the studies that ship with the package say about themselves is true."""

import re
import shlex
from itertools import product
from pathlib import Path

import pytest

from ablate import design
from ablate.plan import make_plan
from ablate.records import StudyFolder
from ablate.resolve import ResolveError, resolve
from ablate.study import load
from tests.ablate import studies

REPOSITORY = Path(__file__).parents[2]
STUDIES = sorted((REPOSITORY / "studies").glob("*.yaml"))
COMMANDS = [
    (path.stem, command)
    for path in STUDIES
    for command in re.findall(r"ablate run studies/.*", re.sub(r"\\\n#\s*", "", path.read_text()))
]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_what_a_shipped_study_never_runs_is_really_refused(path):
    study = load(path)
    for rule in study.conditions.never:
        for levels in product(*rule.values()):
            arm = design.arm(
                study.factors, {f: level for f, level in zip(rule, levels, strict=True) if level != "base"}
            )
            with pytest.raises(ResolveError):
                resolve(study.base, arm.patch, ranks=study.resources.ranks)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_has_a_plan_and_a_name_of_its_own(path):
    study = load(path)
    plan = make_plan(study)
    assert study.name == path.stem and study.question.endswith("?")
    assert len(plan.cells) == len(plan.arms) * len(study.seeds)


@pytest.mark.parametrize("study, command", COMMANDS)
def test_a_command_in_the_header_of_a_study_is_right(study, command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command)
    sets = [value for flag, value in zip(words[3:], words[4:], strict=False) if flag == "--set"]
    assert words[:2] == ["ablate", "run"] and Path(words[2]).stem == study and len(words) == 3 + 2 * len(sets)
    changed = load(words[2], sets=sets)
    assert changed.name != study  # beside the results of the study itself


SHORT = {
    "structure": "base.budget.generator_updates=8", "objectives": "base.budget.generator_updates=8",
    "two-stage": "base.budget.generator_updates=40", "batch": "base.budget.images=32",
    "misregistration": "base.budget.generator_updates=8",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SHORT)
def test_a_study_of_remedies_runs_short_with_every_arm_to_its_report(name, tmp_path):
    every = int(SHORT[name].partition("=")[2]) // 2
    settings = [SHORT[name], f"base.evaluate.every={every}", "seeds=1", "base.data.scenes=6", "base.data.size=64"]
    sets = [part for setting in settings for part in ("--set", setting)]
    done = studies.ablate("run", REPOSITORY / "studies" / f"{name}.yaml", *sets, cwd=tmp_path, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = StudyFolder(tmp_path / "runs", name)
    report = (folder.report / "report.md").read_text()
    for arm in studies.plan(folder)["arms"]:
        assert f"`{arm['name']}`" in report
    assert report.count("Traceback") == 0


def test_headers_hold_commands():
    assert len(COMMANDS) >= 5
