"""A database appears whole or not at all."""

from __future__ import annotations

import sqlite3

import pytest

from ablate.sqlite import made_whole, unsound


def make(url: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("create table facts (fact text)")
    database.close()


def test_it_is_made_once_and_private(tmp_path):
    made_whole(tmp_path / "runs" / "a.db", make)
    made_whole(tmp_path / "runs" / "a.db", lambda url: pytest.fail("made twice"))
    assert (tmp_path / "runs" / "a.db").stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a.db"]


def test_a_making_that_breaks_off_leaves_nothing_at_the_place_and_the_next_starts_afresh(tmp_path):
    def half(url: str) -> None:
        make(url)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_whole(tmp_path / "a.db", half)
    assert not (tmp_path / "a.db").exists()
    made_whole(tmp_path / "a.db", make)
    assert sqlite3.connect(tmp_path / "a.db").execute("select count(*) from facts").fetchone() == (0,)


def test_an_empty_file_of_an_older_kill_is_replaced(tmp_path):
    (tmp_path / "a.db").touch()
    made_whole(tmp_path / "a.db", make)
    assert sqlite3.connect(tmp_path / "a.db").execute("select count(*) from facts").fetchone() == (0,)


def test_a_sound_database_passes_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "a.db"
    made_whole(path, make)
    with sqlite3.connect(path) as database:
        database.executemany("insert into facts values (?)", [(f"{n:0100d}",) for n in range(2000)])
    database.close()
    assert unsound(path) is None
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 5] = bytes(4096 * 2)
    path.write_bytes(data)
    assert unsound(path).startswith(f"{path}: ")
    assert "unable to open" in unsound(tmp_path / "absent.db") and not (tmp_path / "absent.db").exists()
