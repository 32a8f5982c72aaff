"""A rank without progress is ended with the phase named; one that gets on, or was frozen itself, is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trainers.lastwords import Stalled, kind_of
from trainers.watchdog import SLOWER, Limits, Process, Watchdog

LIMITS = Limits(start=30, step=10, evaluation=60, checkpoint=20)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watchdog(clock=None) -> tuple[Watchdog, list[Stalled]]:
    said: list[Stalled] = []
    return Watchdog(LIMITS, expire=said.append, clock=clock or Clock()), said


@pytest.mark.parametrize("phase", ["start", "step", "evaluation", "checkpoint"])
def test_a_phase_that_lasts_too_long_ends_once_with_its_name_and_seconds(phase):
    watched, said = watchdog()
    watched.enter(phase, 7)
    for _ in range(100):
        watched.tick(1.0)
    limit = getattr(LIMITS, phase)
    assert [str(each) for each in said] == [
        f"no progress for {limit + 1:.0f} s in phase {phase}, 7 updates being done (limit {limit:.0f} s)"
    ]
    assert kind_of(said[0]) == "machine"


def test_a_rank_that_gets_on_is_left_alone():
    watched, said = watchdog()
    for step in range(100):
        watched.enter("step", step)
        watched.tick(9.0)
    watched.enter("evaluation", 100)
    for _ in range(100):
        watched.beat()
        watched.tick(59.0)
    assert said == []


def test_limits_grow_with_the_slowest_update():
    clock = Clock()
    watched, said = watchdog(clock)
    watched.enter("step", 1)
    clock.now = 4.0
    watched.enter("step", 2)
    assert watched.limit == SLOWER * 4.0
    watched.enter("checkpoint", 2)
    clock.now = 100.0
    watched.enter("step", 3)  # that was a checkpoint and an update
    assert watched.limit == SLOWER * 4.0
    watched.tick(79.0)
    assert said == []


def test_the_environment_changes_limits():
    assert Limits.from_environment({}) == Limits()
    found = Limits.from_environment({"ABLATE_LIMITS": "step=2.5, collective=9"})
    assert (found.step, found.collective, found.start) == (2.5, 9.0, Limits().start)


@pytest.mark.parametrize("text", ["pause=3", "step", "step=soon", "step=0", "step=-1", "step=nan"])
def test_a_limit_that_is_none_is_refused_with_what_there_is(text):
    with pytest.raises(ValueError, match="expected one of start, step, evaluation, checkpoint, collective = seconds"):
        Limits.from_environment({"ABLATE_LIMITS": text})


def test_a_collective_waits_longer_than_any_phase_so_that_the_phase_is_named():
    limits = Limits()
    assert limits.collective > max(limits.start, limits.step, limits.evaluation, limits.checkpoint)


def test_a_stopped_and_a_gone_peer_are_named_and_others_not():
    child = subprocess.Popen([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"])
    try:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        here = os.uname().nodename
        assert Process(1, here, child.pid).trouble() == f"rank 1 (pid {child.pid}) is stopped"
        assert Process(1, "elsewhere", child.pid).trouble() == ""
        assert Process(0, here, os.getpid()).trouble() == ""
        watched, said = watchdog()
        watched.peers = (Process(0, here, os.getpid()), Process(1, here, child.pid))
        watched.tick(31.0)
        assert str(said[0]).endswith(f"(limit 30 s); rank 1 (pid {child.pid}) is stopped")
    finally:
        child.kill()
        child.wait()
    assert Process(1, here, child.pid).trouble() == f"rank 1 (pid {child.pid}) is gone"


def test_the_watching_thread_ends_with_its_block():
    watched, said = watchdog()
    with watched.running():
        pass
    watched.tick(1000.0)
    assert said == []
