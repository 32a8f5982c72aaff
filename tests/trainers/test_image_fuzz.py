"""Spoilt image bytes through the code that reads data: an image or one sentence, never a crash, a hang or all memory.

`ABLATE_FUZZ=20000 pytest tests/trainers/test_image_fuzz.py -m slow` tries that many, `ABLATE_FUZZ_SEED` others.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.trainers.fuzzed import originals, outcomes, write_spoilt

FEW, MANY, BATCH = 220, int(os.environ.get("ABLATE_FUZZ", "4000")), 500
SEED = int(os.environ.get("ABLATE_FUZZ_SEED", "1"))


def fuzz(folder: Path, *, count: int, seed: int) -> Counter:
    """How many files ended in what; fails, and leaves the file where it is, where that is no image and no sentence."""
    paths = write_spoilt(folder, count=count, seed=seed)
    found: dict[str, str] = {}
    for start in range(0, count, BATCH):
        found |= outcomes(paths[start : start + BATCH], seconds=600)
    wrong = {path: said for path, said in found.items() if not said.startswith(("image", "refused: "))}
    assert not wrong, wrong
    assert set(found) == set(map(str, paths))
    sentences = [said for said in found.values() if said != "image"]
    assert all(said.isprintable() for said in sentences)
    assert all(path in said for path, said in found.items() if said != "image")
    assert {path.name for path in folder.iterdir()} == {"good", *(path.name for path in paths)}  # nothing written
    return Counter(said.split(":")[0] for said in found.values())


def test_good_images_of_every_kind_are_read_within_the_limits(tmp_path):
    found = outcomes(originals(tmp_path), seconds=120)
    assert set(found.values()) == {"image"} and len(found) >= 10


def test_spoilt_images_are_read_or_refused_with_their_name(tmp_path):
    found = fuzz(tmp_path, count=FEW, seed=SEED)
    assert found["refused"] > FEW / 4 and found["image"] > FEW / 20, found  # neither trivial


@pytest.mark.slow
def test_many_spoilt_images_are_read_or_refused_with_their_name(tmp_path):
    fuzz(tmp_path, count=MANY, seed=SEED + 1)


def test_what_must_not_be_is_seen_by_this_test(tmp_path, monkeypatch):
    """A reader that fails in another way than by a DataError does not pass unnoticed."""
    path = originals(tmp_path)[0]
    (tmp_path / "sitecustomize.py").write_text(
        "import trainers.raster as raster\n"
        "def read(paths, **_):\n"
        "    raise SystemError('as a driver might')\n"
        "raster.read = read\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    assert outcomes([path], seconds=60) == {str(path): "SystemError: as a driver might"}
