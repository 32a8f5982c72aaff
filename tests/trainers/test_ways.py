"""What the environment may ask for on CUDA, and what a trial says of it."""

from __future__ import annotations

import pytest

from ablate import events
from ablate.records import Status
from tests.trainers import tiny
from trainers import choice, train, ways
from trainers.checkpoint import FINAL, read
from trainers.ways import asked


@pytest.mark.parametrize(("stated", "found"), [
    ({}, ("graph", "resident")), ({"ABLATE_CUDA": ""}, ()), ({"ABLATE_CUDA": "plain"}, ()),
    ({"ABLATE_CUDA": "graph"}, ("graph",)),
    ({"ABLATE_CUDA": "resident, graph"}, ("graph", "resident")), ({"ABLATE_CUDA": "graph,graph,"}, ("graph",)),
])  # fmt: skip
def test_ways_are_named_in_any_order(stated, found):
    assert asked(stated) == found


@pytest.mark.parametrize(("stated", "unknown"), [("graph,fast", "fast"), ("plain,graph", "plain")])
def test_a_way_that_there_is_not_is_named_with_those_there_are(stated, unknown):
    with pytest.raises(ValueError, match=f"^ABLATE_CUDA={stated}: no such way: '{unknown}'; there are graph, "):
        asked({"ABLATE_CUDA": stated})


def trial(root, name: str, monkeypatch, *, by: tuple[str, ...] | None):
    """A trial by ways that a CPU would not be asked for; its folder."""
    of = tiny.recipe(steps=12, every=6, updates=(2, 1), objective="wgan_gp", norm_g="batch")
    folder = tiny.trial_folder(root, tiny.spec(of), name)
    with monkeypatch.context() as patch:
        patch.setattr(choice, "UPDATES", 2)
        if by is not None:
            patch.setattr(train, "ways_of", lambda device: by)
        train.run(folder.root)
    return folder


def test_a_trial_says_what_it_was_asked_for_and_what_it_took_and_measures_the_same(tmp_path, monkeypatch):
    plain, other = (trial(tmp_path, name, monkeypatch, by=by) for name, by in
                    (("plain", None), ("other", ("graph", "resident"))))  # fmt: skip
    streams = [events.read(folder.events) for folder in (plain, other)]
    told = events.Started | events.Ended
    (started, ended), (asked_for, took) = ([event for event in stream if isinstance(event, told)] for stream in streams)
    assert (started.ways, ended.ways) == ("", "") and ended.status == Status.done.value
    assert asked_for.ways == "graph,resident"
    assert took.ways.startswith("graph: ") and "measured over 2 updates" in took.ways
    assert took.ways.endswith("; resident: yes: 0.00 GB")
    first, second = (events.fold("trial", stream) for stream in streams)
    assert first.curves == second.curves and first.scores == second.scores
    states = [read(folder.checkpoints / FINAL)["generator"] for folder in (plain, other)]
    assert tiny.equal(*map(tiny.tensors, states))


def test_on_a_cpu_nothing_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv(ways.VARIABLE, "graph,resident")
    stream = events.read(trial(tmp_path, "cpu", monkeypatch, by=None).events)
    assert next(event for event in stream if isinstance(event, events.Started)).ways == ""


def test_a_resident_trial_can_be_stopped_and_taken_up_by_another_way(tmp_path, monkeypatch):
    whole, cut = (trial_folder_of(tmp_path, name) for name in ("whole", "cut"))
    train.run(whole.root)
    advance = train.Training.advance

    def stopping(training) -> None:
        advance(training)
        if training.done == 6:
            cut.stop.touch()

    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "advance", stopping)
        patch.setattr(train, "ways_of", lambda device: ("graph", "resident"))
        patch.setattr(choice, "SKIPPED", 0)
        patch.setattr(choice, "UPDATES", 1)
        train.run(cut.root)
    cut.stop.unlink()
    train.run(cut.root)
    first, second = (events.fold("trial", events.read(folder.events)) for folder in (whole, cut))
    assert first.status is second.status is Status.done and first.curves == second.curves


def trial_folder_of(root, name: str):
    return tiny.trial_folder(root, tiny.spec(tiny.recipe(steps=12, every=6)), name)
