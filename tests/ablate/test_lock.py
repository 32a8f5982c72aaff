"""One holder at a time, who says who it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ablate import lock


def test_a_second_holder_is_told_who_holds_it(tmp_path):
    path = tmp_path / "new" / "driver.lock"
    with lock.hold(path):
        assert lock.is_held(path)
        with pytest.raises(lock.Busy, match=f"another driver runs this study: pid {os.getpid()} on .*, since 20"):
            with lock.hold(path):
                pass
    assert not lock.is_held(path)


def test_however_little_a_holder_has_said_of_itself_the_lock_counts(tmp_path):
    path = tmp_path / "driver.lock"
    with lock.hold(path):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert lock.describe(path) == "another driver runs this study"
        path.write_bytes(whole)
        assert f"pid {os.getpid()} on" in lock.describe(path)


def test_a_driver_that_lets_go_says_when_and_how(tmp_path):
    path = tmp_path / "driver.lock"
    assert lock.last_driver(path) is None
    with lock.hold(path):
        during = lock.last_driver(path)
        assert (during.pid, during.ended, during.seen_from_here) == (os.getpid(), None, True)
        assert lock.is_run(path)
    after = lock.last_driver(path)
    assert after.ended >= after.start and not after.error and not lock.is_run(path)
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), lock.hold(path):
            raise error
        assert lock.last_driver(path).error == error.__name__


def test_cut_at_any_length_after_its_release_the_file_names_the_driver_that_it_still_holds_and_can_be_taken(tmp_path):
    path = tmp_path / "driver.lock"
    with lock.hold(path):
        pass
    whole, after = path.read_bytes(), lock.last_driver(path)
    first = whole.index(b"\n")
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        found = lock.last_driver(path)
        expected = None if length < first else replace(after, ended=after.ended if length == len(whole) else None)
        assert found == expected and not lock.is_run(path), length
        with lock.hold(path):
            assert lock.last_driver(path).ended is None and lock.is_run(path)
        assert lock.last_driver(path).ended is not None


def test_a_killed_driver_has_not_said_that_it_ended(tmp_path):
    path = tmp_path / "driver.lock"
    code = f"import time\nfrom pathlib import Path\nfrom ablate.lock import hold\nwith hold(Path({str(path)!r})):\n"
    holder = subprocess.Popen([sys.executable, "-c", code + "    print('held', flush=True); time.sleep(60)"],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert holder.stdout.readline() == "held\n" and lock.is_run(path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    dead = lock.last_driver(path)
    assert not lock.is_held(path) and (dead.pid, dead.ended) == (holder.pid, None)


def test_whoever_is_no_driver_leaves_no_trace_and_is_named_to_a_driver(tmp_path):
    path = tmp_path / "driver.lock"
    with lock.hold(path):
        pass
    before = path.read_bytes()
    with lock.hold(path, what="ablate clean"):
        assert not lock.is_run(path) and lock.last_driver(path).ended
        busy = pytest.raises(lock.Busy, match=f"`ablate clean` works on this study: pid {os.getpid()} on")
        with busy, lock.hold(path):
            pass
    assert path.read_bytes() == before
    with lock.hold(path):
        assert lock.is_run(path)


def test_a_lock_of_another_machine_may_not_show_here(tmp_path):
    path = tmp_path / "driver.lock"
    with lock.hold(path):
        here = lock.last_driver(path)
    assert here.seen_from_here
    assert replace(here, host="elsewhere").seen_from_here, "a container of this machine"
    assert not replace(here, host="elsewhere", boot="another").seen_from_here
    assert not replace(here, host="elsewhere", boot="").seen_from_here, "a lock file of before it said more"


def test_whatever_lies_in_its_place_is_no_driver(tmp_path):
    path = tmp_path / "driver.lock"
    foreign, old = b'{"pid": "x", "host": 1, "start": "y"}', b'{"pid": 1, "host": "here", "start": 1.0}'
    for content in (b"", b"\xff\xfe", b"[]", b"{}", b"[" * 10**5, foreign, old, b"null\n{}"):
        path.write_bytes(content)
        assert lock.last_driver(path) is None and not lock.is_run(path)
        assert lock.describe(path) == "another driver runs this study"


def _take_turns(path: Path, counter: Path) -> None:
    for _ in range(50):
        with lock.turn(path):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_processes_that_take_turns_lose_nothing(tmp_path):
    (tmp_path / "counter").write_text("0")
    context = multiprocessing.get_context("fork")
    takers = [context.Process(target=_take_turns, args=(tmp_path / "lock", tmp_path / "counter")) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(60)
    assert (tmp_path / "counter").read_text() == "200"
