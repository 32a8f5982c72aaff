"""How long it takes from a fault to the sentence that names it, in whole studies on two gloo ranks.

`pytest -s -m "slow or long" tests/ablate/test_fault_times.py` prints the seconds that docs/reliability.md states.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.processes import speaking_into
from ablate.records import StudyFolder
from tests import processes
from tests.ablate import studies
from tests.invariants import violations

LIMITS = "step=4,collective=60"  # seconds; else a hang is waited for for 300
# The fault at an update of one rank -> what the driver says of it, the study's exit code, seconds at most.
FAULTS: dict[str, tuple[str, str, int, float]] = {
    "NaN on one rank": ("step=poison@4#1", "  diverged  ", 0, 30),
    "an exception on one rank": ("step=raise@4#1", "  failed  ", 1, 30),
    "a rank that leaves too early": ("step=exit@4#0", "taken up again", 0, 90),
    "a rank that hangs": ("step=sleep:600@4#1", "taken up again", 0, 60),
    "a rank that is stopped": ("step=stop@4#1", "taken up again", 0, 60),
}
# Put before every Python process of the study: an action that fills a weight of this rank's generator with NaN.
POISON = """
import os, sys
asked = os.environ.pop("ABLATE_FAILPOINTS", "")
from ablate import failpoints

def poison(_):
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "training"):
        frame = frame.f_back
    next(frame.f_locals["self"].training.generator.parameters()).data.fill_(float("nan"))

failpoints.ACTIONS["poison"] = poison
os.environ["ABLATE_FAILPOINTS"] = asked
failpoints.arm(asked)
"""


def named(process: subprocess.Popen, began: Callable[[], float], words: str) -> tuple[str, float]:
    """The line of the driver's that holds the words, and the seconds from the fault to it."""
    for line in process.stdout:
        if words in line:
            return line.strip(), time.time() - began()
    raise AssertionError(f"the driver has ended without a word of {words!r}")


def to_its_end(process: subprocess.Popen, what: str, line: str, seconds: float) -> None:
    rest, _ = process.communicate(timeout=240)
    print(f"\n{what}: {seconds:.1f} s: {line}")
    assert "Traceback" not in rest, rest


@pytest.mark.parametrize("what", [
    pytest.param(what, marks=pytest.mark.slow if "NaN" in what else pytest.mark.long) for what in FAULTS
])  # fmt: skip
def test_a_fault_of_a_rank_is_named_in_time_and_the_other_trials_are_done(tmp_path, what):
    rule, words, code, most = FAULTS[what]
    for name in ("once", "site"):
        (tmp_path / name).mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(POISON)
    studies.write(tmp_path)
    more = {"ABLATE_FAILPOINTS": rule, "ABLATE_FAILPOINTS_ONCE": str(tmp_path / "once"), "ABLATE_LIMITS": LIMITS,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[2])])}  # fmt: skip
    process = studies.start("run", "tiny.yaml", cwd=tmp_path, more=more)
    line, seconds = named(process, lambda: next((tmp_path / "once").iterdir()).stat().st_mtime, words)
    to_its_end(process, what, line, seconds)
    assert process.returncode == code and seconds < most
    folder = StudyFolder(tmp_path / "runs", "tiny")
    assert violations(folder) == []
    ends = sorted(state for states in studies.optuna_states(folder).values() for state in states)
    assert ends.count("COMPLETE") == studies.CELLS - (words != "taken up again"), ends


@pytest.mark.long
def test_a_launcher_that_is_killed_is_named_in_time(tmp_path):
    studies.write(tmp_path, studies.STUDY.replace("generator_updates: 6", "generator_updates: 40"))
    folder = StudyFolder(tmp_path / "runs", "tiny")
    process = studies.start("run", "tiny.yaml", cwd=tmp_path)
    studies.wait_until(lambda: studies.measured(folder) >= 4, seconds=120, what="a trial measures")
    rank = next(iter(speaking_into(folder.root / "trials")))
    os.kill(processes.between(process.pid, rank)[0], signal.SIGKILL)
    began = time.time()
    line, seconds = named(process, lambda: began, "the launcher died; taken up again")
    to_its_end(process, "a launcher that is killed", line, seconds)
    assert process.returncode == 0 and seconds < 30
    assert violations(folder) == []
