"""Twenty kills of a real study, at moments of a fixed seed, each looked at by the oracle."""

from __future__ import annotations

import json

import pytest

from ablate import events
from ablate.records import StudyFolder
from tests.ablate import monkey, studies
from tests.ablate.moments import MOMENTS, Moments
from tests.trainers import jobs

SEED = 7


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_lose_nothing_double_nothing_and_change_no_number(tmp_path):
    """What it prints on failure replays it: the folder of the study is kept by pytest."""
    found = monkey.rounds(monkey.A_STUDY, SEED, tmp_path)
    print(found.table())
    assert found.wrong == []
    # Where exactly a kill falls is the machine's choice, so that not every victim and moment can be asked for.
    victims, moments = ({hit[place] for hit in found.hits} for place in (0, 1))
    assert found.hits.total() == monkey.A_STUDY and {"driver", "all"} <= victims and len(victims) >= 4
    assert {"start", "training"} <= moments and len(moments) >= 4


def test_a_seed_draws_the_same_kills_and_every_seed_all_victims_and_moments():
    draws = [monkey.draw(seed) for seed in range(50)]
    assert draws == [monkey.draw(seed) for seed in range(50)]
    assert len({tuple(kills) for kills in draws}) == 50
    for kills in draws:
        assert len(kills) == monkey.A_STUDY
        assert {kill.moment for kill in kills} == {*MOMENTS} == {*monkey.SPAN}
        assert {kill.victim for kill in kills} == {*monkey.VICTIMS}
        assert any(one.moment == two.moment == "start" for one, two in zip(kills, kills[1:], strict=False))


def test_fewer_kills_are_a_part_of_a_studys_in_their_order():
    whole = monkey.draw(5)
    for number in range(monkey.A_STUDY + 1):
        part = iter(whole)
        assert all(kill in part for kill in monkey.draw(5, number)) and len(monkey.draw(5, number)) == number


def test_the_table_counts_every_kill_once():
    found = monkey.Outcome()
    for kill in monkey.draw(1):
        found.hits[kill.victim, kill.moment] += 1
    rows = [row.strip("| ").split(" | ") for row in (found + monkey.Outcome()).table().splitlines()]
    assert rows[0] == ["victim", *MOMENTS, "all moments"] and rows[-1][-1] == "20"
    for column in range(1, len(rows[0])):
        assert sum(int(row[column]) for row in rows[2:-1]) == int(rows[-1][column])
    assert all(sum(map(int, row[1:-1])) == int(row[-1]) for row in rows[2:])


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    """A study of two trials; the first has its spec, none has begun."""
    folder = StudyFolder(tmp_path, "tiny")
    trial = jobs.alone(folder.root, "one", steps=6, every=3)
    assert trial.root == folder.trial("one").root
    folder.plan.write_text(json.dumps({"cells": [{"trial": "one"}, {"trial": "two"}]}))
    return folder


def test_a_moment_is_told_by_what_was_written_last(folder):
    looked = Moments(folder)
    assert looked.now() == "start" and looked.planned() == 2
    folder.runs.joinpath(".mlflow.db.new").touch()
    assert looked.now() == "store"
    folder.runs.joinpath(".mlflow.db.new").rename(folder.mlflow)
    folder.references.root.mkdir()
    folder.references.spec.touch()
    assert looked.now() == "references"
    writer = events.EventWriter(folder.trial("one").events)

    def then(kind, **fields) -> str:
        writer.append(kind, **fields)
        return looked.now()

    def measured(step: int, split: str) -> str:
        return then(events.Measured, step=step, images=step, split=split, values={"psnr": 1.0})

    def saved(step: int, what: str) -> str:
        return then(events.Saved, step=step, what=what, path="x", sha256="0")

    assert then(events.Started, world_size=1, threads=1, device="cpu") == "training"
    assert [measured(2, "train"), measured(3, "train")] == ["training", "evaluation"]
    assert [measured(3, "validation"), saved(3, "sample"), saved(3, "checkpoint")] == ["checkpoint"] * 2 + ["training"]
    assert [measured(6, "train"), measured(6, "validation"), saved(6, "generator")] == ["evaluation"] + ["final"] * 2
    assert then(events.Ended, step=6, images=6, status="done") == "between" and not looked.all_ended()
    folder.trial("two").root.mkdir()
    folder.trial("two").events.write_bytes(folder.trial("one").events.read_bytes())
    folder.trial("two").spec.write_bytes(folder.trial("one").spec.read_bytes())
    assert looked.now() == "end" and looked.all_ended()
    (folder.root / ".report.new").mkdir()
    assert looked.now() == "report"
    looked.since = (folder.root / ".report.new").stat().st_mtime + 1
    assert looked.now() == "start", "what was written before is old"


def test_the_monkeys_study_is_one(tmp_path):
    studies.write(tmp_path, monkey.STUDY)
    checked = studies.ablate("plan", "tiny.yaml", cwd=tmp_path)
    assert checked.returncode == 0 and "12" in checked.stdout, checked.stdout + checked.stderr
