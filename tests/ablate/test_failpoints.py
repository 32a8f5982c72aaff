"""Faults on request: off and free in normal use, named, and each of them stands somewhere."""

from __future__ import annotations

import ast
import errno
import subprocess
import sys
import timeit
from pathlib import Path

import pytest

from ablate import failpoints
from ablate.failpoints import failpoint

ROOT = Path(__file__).parents[2]
FREE = 100e-9  # seconds a point may cost when none is armed


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.arm("")


def in_the_code() -> set[str]:
    """The names that calls of `failpoint` are given in the sources."""
    found = set()
    for package in ("ablate", "trainers", "reports"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                    found.add(node.args[0].value)
    return found


def test_every_point_stands_in_the_code_and_no_other_does():
    assert in_the_code() == set(failpoints.POINTS)


def test_off_a_point_costs_next_to_nothing():
    """The least of many short runs: what else the machine does is left out."""
    assert min(timeit.repeat(lambda: failpoint("step"), number=200, repeat=500)) / 200 < FREE


def test_a_rule_acts_the_nth_time_and_only_then():
    failpoints.arm("step=raise@3")
    failpoint("step")
    failpoint("step")
    with pytest.raises(failpoints.Injected):
        failpoint("step")
    failpoint("step")


def test_with_a_plus_it_acts_every_time_from_then_on():
    failpoints.arm("disk-write=enospc@2+")
    failpoint("disk-write")
    for _ in range(3):
        with pytest.raises(OSError) as raised:
            failpoint("disk-write")
        assert raised.value.errno == errno.ENOSPC


def test_a_rule_of_one_rank_leaves_the_others_alone(monkeypatch):
    failpoints.arm("step=memory#1")
    monkeypatch.setenv("RANK", "0")
    failpoint("step")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(MemoryError):
        failpoint("step")


def test_a_rule_that_acts_once_acts_once_over_all_processes(tmp_path, monkeypatch):
    monkeypatch.setenv(failpoints.ONCE, str(tmp_path))
    for expected in (True, False):
        failpoints.arm("step=raise")
        try:
            failpoint("step")
            acted = False
        except failpoints.Injected:
            acted = True
        assert acted is expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stpe=kill", "no such point: 'stpe'; there are .*step"),
        ("step=die", "no such action: 'die'; there are .*kill"),
        ("step", "is no rule; expected point=action"),
        ("step=kill@", "is no rule"),
        ("step=sleep", "sleep, and it alone, takes a value"),
        ("step=kill:3", "sleep, and it alone, takes a value"),
    ],
)
def test_a_rule_with_a_mistake_is_refused_with_what_there_is(text, said):
    with pytest.raises(ValueError, match=said):
        failpoints.parse(text)


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("exit", 0), ("raise", 1)])
def test_the_environment_arms_a_process(action, code):
    script = "from ablate.failpoints import failpoint; failpoint('step'); raise SystemExit(7)"
    environment = {"ABLATE_FAILPOINTS": f"step={action}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=60)
    assert done.returncode == code
