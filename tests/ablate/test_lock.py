"""One holder at a time, who says who it is."""

from __future__ import annotations

import os

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
            assert lock._describe(path) == "another driver runs this study"
        path.write_bytes(whole)
        assert f"pid {os.getpid()} on" in lock._describe(path)
