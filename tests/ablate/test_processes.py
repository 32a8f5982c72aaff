"""Processes are found by what they speak into, stopped ones too, and nobody else's are touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ablate import executor, processes
from ablate.executor import Stuck

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def speakers(tmp_path):
    """One that speaks into a trial's log, one into a sibling whose name begins alike."""
    started = []
    for name in ("trials/a/log.txt", "trials-of-old/log.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        with open(tmp_path / name, "ab") as file:
            started.append(subprocess.Popen(SLEEPER, stdout=file))
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_a_file_or_a_folder_names_the_processes_that_speak_into_it(tmp_path, speakers):
    mine, other = (process.pid for process in speakers)
    assert list(processes.speaking_into(tmp_path / "trials")) == [mine]
    assert list(processes.speaking_into(tmp_path / "trials" / "a" / "log.txt")) == [mine]
    assert set(processes.speaking_into(tmp_path)) == {mine, other}
    assert list(processes.speaking_into(tmp_path / "nobody")) == []


def test_a_stopped_process_is_evicted_and_its_neighbour_left(tmp_path, speakers):
    speakers[0].send_signal(signal.SIGSTOP)
    assert processes.evict(tmp_path / "trials") == [speakers[0].pid]
    assert speakers[0].wait(10) == -signal.SIGKILL and speakers[1].poll() is None


def test_who_evicts_from_a_file_that_it_speaks_into_itself_lives_on(tmp_path):
    code = "import pathlib, sys; from ablate.processes import evict; assert evict(pathlib.Path(sys.argv[1])) == []"
    with open(tmp_path / "log.txt", "ab") as file:
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=file, timeout=60, check=False)
    assert done.returncode == 0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def looks(stuck: Stuck, clock: Clock, seconds: float, step: float = 2.0) -> bool:
    """Whether any look in that time finds it stuck."""
    end, found = clock.now + seconds, False
    while clock.now < end:
        found |= stuck.look()
        clock.now += step
    return found


def test_a_launcher_that_is_stopped_for_long_is_stuck_and_one_that_goes_on_is_not(speakers):
    clock, process = Clock(), speakers[0]
    stuck = Stuck(process.pid, clock=clock)
    assert not looks(stuck, clock, 10 * executor.FROZEN_SECONDS)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert not looks(stuck, clock, executor.FROZEN_SECONDS)
    assert looks(stuck, clock, 10)


def test_time_in_which_the_driver_was_frozen_as_well_does_not_count(speakers):
    clock, process = Clock(), speakers[0]
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    stuck = Stuck(process.pid, clock=clock)
    stuck.look()
    clock.now += 3600
    assert not stuck.look()


def test_a_launcher_without_ranks_is_stuck_after_a_while_and_one_with_a_rank_never(tmp_path, speakers):
    clock, launcher = Clock(), os.getpid()
    with_rank = Stuck(launcher, tmp_path / "trials" / "a" / "log.txt", clock=clock)
    assert not looks(with_rank, clock, 3 * executor.DESERTED_SECONDS, step=4.0)
    without = Stuck(launcher, tmp_path / "nobody.txt", clock=clock)
    assert not looks(without, clock, executor.DESERTED_SECONDS, step=4.0)
    assert looks(without, clock, 20, step=4.0)
