"""What a machine offers, and how many trials it runs side by side."""

from __future__ import annotations

import itertools

import pytest

from ablate import machine


@pytest.mark.parametrize(("said", "fewest"), [
    ("100000 100000", 1), ("150000 100000", 1), ("50000 100000", 1), ("6400000 100000", 64),
])  # fmt: skip
def test_a_containers_quota_is_its_cores(tmp_path, monkeypatch, said, fewest):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu.max").write_text(said)
    assert machine.cores(tmp_path / "cpu.max") == fewest


@pytest.mark.parametrize("said", ["max 100000", "", "0 0 0", None])
def test_without_a_quota_it_is_where_this_process_may_run(tmp_path, monkeypatch, said):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 3, 5})
    if said is not None:
        (tmp_path / "cpu.max").write_text(said)
    assert machine.cores(tmp_path / "cpu.max") == 3


def test_trials_side_by_side_fill_the_machine_and_never_more(monkeypatch):
    for cores, ranks, threads, trials in itertools.product((1, 2, 7, 64), (1, 2, 4), (1, 3), (1, 5, 100)):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        monkeypatch.setattr(machine, "gpus", lambda cores=cores: tuple(map(str, range(cores))))
        for device, each in (("cpu", ranks * threads), ("cuda", ranks)):
            found = machine.slots("auto", trials=trials, ranks=ranks, threads=threads, device=device)
            assert 1 <= found <= trials and (found == 1 or found * each <= cores)
            assert found == trials or (found + 1) * each > cores
        assert machine.slots(9, trials=trials, ranks=ranks, threads=threads, device="cpu") == min(9, trials)


@pytest.mark.parametrize(("device", "number", "said"), [
    ("cpu", 1, "1 core"), ("cpu", 2, "2 cores"), ("cuda", 1, "1 GPU"), ("cuda", 8, "8 GPUs"),
])  # fmt: skip
def test_what_is_shared_out_is_said(monkeypatch, device, number, said):
    monkeypatch.setattr(machine, "cores", lambda: number)
    monkeypatch.setattr(machine, "gpus", lambda: tuple(range(number)))
    assert machine.room(device) == said
