"""From a study folder to its report folder, all of it or none."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ablate.disk import File, make_folder, sync_folder
from ablate.failpoints import failpoint
from ablate.records import StudyFolder
from reports.html import html
from reports.load import load
from reports.markdown import markdown
from reports.page import Page, compose
from reports.scoring import analyse_results
from reports.tables import report_json, table_csv


def write(study_folder: Path) -> Path:
    """Write `report/` of a study from its folders and return the path of report.md.

    The same folders give the same bytes. A kill leaves the old report or the new one, whole.
    """
    study_folder = Path(study_folder)
    results = load(study_folder)
    page = compose(results, analyse_results(results))
    target = StudyFolder(study_folder.parent, study_folder.name).report
    replace_folder(target, files(page))
    return target / "report.md"


def files(page: Page) -> dict[str, bytes]:
    """Content of the report folder by relative path."""
    text = markdown(page)
    texts = {
        "report.md": text,
        "report.html": html(text, page.figures, title=page.results.name),
        "report.json": report_json(page),
        "table.csv": table_csv(page),
    }
    pictures = {f"figures/{name}": data for name, data in page.figures.items()}
    return {name: content.encode() for name, content in texts.items()} | pictures


def replace_folder(target: Path, contents: dict[str, bytes]) -> None:
    """Build the folder beside its place and put it there in one step. Who comes second waits for the first."""
    make_folder(target.parent)
    with _alone_in(target.parent):
        beside = target.with_name(f".{target.name}.new")
        shutil.rmtree(beside, ignore_errors=True)  # of a killed one
        try:
            for name, data in contents.items():
                _write(beside / name, data)
                failpoint("report-half-written")
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        failpoint("report-written")
        if target.exists():
            _exchange(beside, target)
            shutil.rmtree(beside)
        else:
            os.rename(beside, target)
        sync_folder(target.parent)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """A kernel lock on the folder itself: a driver and `ablate report` may write at once. None on file systems
    that know no locks on folders."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    make_folder(path.parent)
    with File(path, "wb") as file:
        file.write(data)
        file.sync()
    sync_folder(path.parent)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders atomically (Linux renameat2); where that is missing, by renames in turn."""
    at_cwd, exchange = -100, 2
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap and swap(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return
    spare = other.with_name(f".{other.name}.old")
    shutil.rmtree(spare, ignore_errors=True)
    os.rename(other, spare)
    os.rename(one, other)
    os.rename(spare, one)
