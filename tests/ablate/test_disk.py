"""A file is there whole, in its old version or its new one, whatever breaks off in between."""

from __future__ import annotations

import ast
import errno
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from ablate import disk
from tests import faults

ROOT = Path(__file__).parents[2]


def test_a_file_is_replaced_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    for text in ("one", "two"):
        disk.write_atomically(path, text)
        assert path.read_text() == text
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("k", range(1, 13))
@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_is_full_at_any_call_leaves_the_old_version(tmp_path, monkeypatch, k, for_good):
    path = tmp_path / "a.bin"
    disk.write_atomically(path, b"old" * 1000)
    monkeypatch.setattr(disk, "PIECE", 1000)
    with faults.full_disk(k, for_good=for_good) as full:
        try:
            disk.write_atomically(path, b"new" * 1000)
        except disk.DiskFull as error:
            assert str(error).startswith(f"disk full: {tmp_path}") and error.errno == errno.ENOSPC
    whole = path.read_bytes() in (b"old" * 1000, b"new" * 1000)
    assert whole and [each.name for each in tmp_path.iterdir()] == ["a.bin"]
    assert full.calls >= min(k, 7)  # open, four writes, two syncs, a rename


def test_the_error_names_the_file_and_the_space_that_is_left(tmp_path):
    with faults.full_disk(1), pytest.raises(disk.DiskFull, match=r"^disk full: .*scores.csv.*MB are left"):
        disk.write_atomically(tmp_path / "scores.csv", "x")


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(IsADirectoryError):
        disk.write_atomically(tmp_path, "x")


def _write_and_die(path: str, point: str) -> None:
    from ablate import failpoints

    failpoints.arm(f"{point}=kill")
    disk.write_atomically(Path(path), b"new")


@pytest.mark.parametrize("point", ["disk-write", "file-written", "file-replaced"])
def test_a_kill_leaves_one_version_and_a_leftover_that_is_removed(tmp_path, point):
    path = tmp_path / "below" / "a.json"
    disk.write_atomically(path, b"old")
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(str(path), point))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert path.read_bytes() == (b"new" if point == "file-replaced" else b"old")
    removed = disk.remove_leftovers(tmp_path)
    assert len(removed) == (point != "file-replaced") and disk.leftovers(tmp_path) == []
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_what_a_living_writer_is_writing_stays(tmp_path):
    with disk.replacing(tmp_path / "a") as file:
        file.write(b"whole")
        assert len(disk.leftovers(tmp_path)) == 1 and disk.remove_leftovers(tmp_path) == []
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_new_file_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    flock, swept = disk.fcntl.flock, []

    def late(file, operation):
        if not swept:
            swept.extend(tmp_path.glob(".*.partial"))
            swept[0].unlink()
        return flock(file, operation)

    monkeypatch.setattr(disk.fcntl, "flock", late)
    disk.write_atomically(tmp_path / "a", b"whole")
    assert swept and (tmp_path / "a").read_bytes() == b"whole"


def test_only_names_of_writers_count_as_leftovers(tmp_path):
    for name in (".a.json.12.partial", "a.12.partial", ".a.partial", ".a.json.x.partial", "a.json"):
        (tmp_path / name).touch()
    assert [path.name for path in disk.remove_leftovers(tmp_path)] == [".a.json.12.partial"]


def test_leftovers_of_one_file_are_removed_alone(tmp_path):
    for name in (".a.json.12.partial", ".a.json.345.partial", ".a.json.x.partial", ".b.json.12.partial", "a.json"):
        (tmp_path / name).touch()
    with disk.replacing(tmp_path / "a.json"):
        disk.remove_leftovers_of(tmp_path / "a.json")
        assert len(disk.leftovers(tmp_path)) == 2, "what is being written, and the other file's"
    assert {path.name for path in tmp_path.iterdir()} == {".a.json.x.partial", ".b.json.12.partial", "a.json"}


def test_a_link_in_the_writers_place_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / f".a.{os.getpid()}.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        disk.write_atomically(tmp_path / "a", b"x")
    assert (tmp_path / "precious").read_text() == "precious"


# What opens a file for writing, writes or renames outside of the helpers, and why it may.
ALLOWED = {
    "ablate/disk.py": "the helper itself",
    "ablate/sqlite.py": "databases are made whole by a rename of their own",
    "ablate/executor.py": "driver.log: appended text that nothing parses",
    "ablate/rayslot.py": "logs of launchers: appended text that nothing parses",
    "ablate/lock.py": "a lock file without content",
    "ablate/entry.py": "/dev/null in place of a closed output",
    "trainers/launcher.py": "a pipe to the driver",
    "trainers/prepare.py": "lock files, and the rename of a whole folder",
    "trainers/weights.py": "a lock file without content",
    "reports/writing.py": "the exchange of whole folders",
    "ablate/outcome.py": "the rename of a failed trial's whole folder",
}
WRITERS = {"write_text", "write_bytes", "copyfile", "copy", "copy2", "move", "rename", "replace", "savefig"}


def writes(path: Path) -> list[str]:
    """Calls in a source that put bytes or names on disk by themselves."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        modes = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant)]
        if called in ("open", "os.fdopen") and any(str(mode)[:1] in "wax" for mode in modes):
            found.append(called)
        module, _, name = called.rpartition(".")
        on_disk = name in WRITERS - {"replace", "copy"} or (module in ("os", "shutil") and name in WRITERS)
        into_memory = name == "savefig" and ast.unparse(node.args[0]) == "buffer"
        if on_disk and not into_memory:
            found.append(called)
        if called in ("torch.save", "np.savez_compressed", "np.savez", "np.save") and "buffer" not in map(
            ast.unparse, node.args
        ):
            found.append(called)
    return found


def test_every_file_is_written_through_the_helpers():
    sources = [path for package in ("ablate", "trainers", "reports") for path in (ROOT / package).rglob("*.py")]
    own = {path.relative_to(ROOT).as_posix(): writes(path) for path in sources}
    assert {name for name, found in own.items() if found} <= ALLOWED.keys(), own


# What grows by appending, and who may: a stream has tests of its own for every length that a kill may leave.
GROWING = {
    "ablate/events.py": "a trial's stream: every length reads as its whole lines (test_events.py)",
    "ablate/lock.py": "who holds a study: every length counts as somebody (test_lock.py); a lock without content",
    "ablate/executor.py": "prose that nothing parses", "ablate/logs.py": "prose", "trainers/entry.py": "prose",
    "ablate/rayslot.py": "prose that nothing parses",
}  # fmt: skip


def appends(path: Path) -> bool:
    """Whether a source opens a file to append to it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            stated = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
            modes = {each.value for each in stated if isinstance(each, ast.Constant)}
            opened = ast.unparse(node.func).endswith(("open", "File"))
            if (opened and modes & {"a", "a+", "ab", "ab+", "a+b"}) or ast.unparse(node.func).endswith("FileHandler"):
                return True
        if isinstance(node, ast.Attribute) and node.attr == "O_APPEND":
            return True
    return False


def test_only_streams_locks_and_prose_grow_by_appending():
    """Anything else is replaced whole; one file more here needs a test of every prefix."""
    sources = [path for package in ("ablate", "trainers", "reports") for path in (ROOT / package).rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in sources if appends(path)} == GROWING.keys()


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    """As root a rename would make a file of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        disk.write_atomically(tmp_path / "pipe", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"] and (tmp_path / "pipe").is_fifo()
