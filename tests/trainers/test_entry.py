"""Last words of a rank, and whose failure they tell of."""

from __future__ import annotations

import json

import pytest
import torch

from trainers import entry, lastwords
from trainers.pairs import DataError

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("a part's own"), "arm"),
        (torch.OutOfMemoryError("CUDA out of memory at batch 64"), "arm"),
        (MemoryError("batch 512"), "arm"),
        (RuntimeError(GLOO), "machine"),
        (torch.distributed.DistBackendError("NCCL"), "machine"),
        (OSError(28, "No space left on device"), "machine"),
        (DataError("tile.tif: unreadable"), "data"),
    ],
)
def test_every_exception_has_a_kind(error, kind):
    assert lastwords.kind_of(error) == kind


def test_memory_that_is_refused_beside_other_trials_is_not_the_arms_fault(monkeypatch):
    """The same batch may be granted the next time: the trial is taken up again."""
    for beside, kind in (("1", "arm"), ("3", "machine"), ("1", "arm")):
        monkeypatch.setenv("ABLATE_BESIDE", beside)
        assert lastwords.kind_of(torch.OutOfMemoryError("CUDA out of memory at batch 64")) == kind


def test_a_rank_that_raises_leaves_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(entry, "end_with_parent", lambda: None)
    with pytest.raises(FileNotFoundError):
        entry.main("run", str(tmp_path))
    words = json.loads((tmp_path / "error.1.json").read_text())
    assert words["rank"] == 1 and words["type"] == "FileNotFoundError" and "spec.json" in words["message"]


def test_an_unknown_job_is_refused_with_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(entry, "end_with_parent", lambda: None)
    with pytest.raises(ValueError, match="there are references, run"):
        entry.main("dance", str(tmp_path))
