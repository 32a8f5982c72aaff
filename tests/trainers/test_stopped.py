"""Ranks that are stopped are found by the log they speak into, and counted only while they stay stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from trainers.stopped import Stopped

SLEEPER = "import signal; signal.pause()"


@pytest.fixture
def ranks(tmp_path):
    """Two processes: one speaks into this trial's log, one into another's."""
    started = []
    for name in ("log.txt", "other.txt"):
        with open(tmp_path / name, "ab") as file:
            started.append(subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=file))
    yield started
    for process in started:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def test_a_rank_is_named_once_it_has_been_stopped_for_longer_than_the_limit(tmp_path, ranks):
    for process in ranks:
        stop(process)
    stopped = Stopped(tmp_path / "log.txt", limit=5.0)
    assert [stopped.tick(2.0) for _ in range(3)] == [[], [], [ranks[0].pid]]


def test_a_rank_that_goes_on_is_counted_anew(tmp_path, ranks):
    stopped = Stopped(tmp_path / "log.txt", limit=5.0)
    assert stopped.tick(9.0) == []
    stop(ranks[0])
    assert stopped.tick(4.0) == []
    ranks[0].send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, ranks[0].pid, os.WCONTINUED)
    assert stopped.tick(4.0) == []
    stop(ranks[0])
    assert stopped.tick(4.0) == [] and stopped.tick(4.0) == [ranks[0].pid]
