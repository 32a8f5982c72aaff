"""A store that breaks calls at random, before or after it did the work: what it holds in the end is the truth, once."""

from __future__ import annotations

import random
import shutil

import pytest

from ablate import mlflow_runs
from ablate.mlflow_store import open_store
from ablate.outbox import Patience
from ablate.tracking import Tracking
from tests.ablate.live import facts_in
from tests.ablate.stores import CELLS, PLAN, SPECS, WHOLE, pictures_of, result_of, runs_of, write_trial

BROKEN_BEFORE, REPLY_LOST = 0.2, 0.2


class Flaky:
    """A client of a real store; it answers whether it is there, and every other call may break."""

    def __init__(self, client, chance: random.Random):
        self._client, self._chance = client, chance

    def __getattr__(self, name):
        found = getattr(self._client, name)

        def call(*arguments, **options):
            fate = self._chance.random()
            if fate < BROKEN_BEFORE:
                raise ConnectionError(f"{name}: it never arrived")
            answer = found(*arguments, **options)
            if fate < BROKEN_BEFORE + REPLY_LOST:
                raise ConnectionError(f"{name}: the reply was lost")
            return answer

        return found if name == "search_experiments" else call


def tell(folder, place, patience: Patience | None = None) -> str | None:
    """All of a study whose trials have ended, as a driver or `ablate sync` tells it; what has not arrived."""
    tracking = Tracking.open(f"sqlite:///{place}", folder, **PLAN, patience=patience)
    for cell in CELLS:
        tracking.mirror(cell, SPECS[cell.trial], result_of(folder, cell))
    tracking.finish_study(folder.report, "the answer")
    tracking.interrupt()
    tracking.close(60)
    return tracking.unreachable


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_calls_that_break_at_random_lose_and_double_nothing(folder, client, empty_store, tmp_path, monkeypatch, seed):
    folder.report.mkdir(parents=True)
    (folder.report / "report.md").write_text("the report")
    for cell in CELLS:
        write_trial(folder, cell)
    fresh = shutil.copy(empty_store, tmp_path / "fresh.db")
    assert tell(folder, fresh) is None

    chance = random.Random(seed)

    def open_flaky(uri, folder):
        client, experiment = open_store(uri, folder)
        return Flaky(client, chance), experiment

    monkeypatch.setattr(mlflow_runs, "open_store", open_flaky)
    for _ in range(5):  # a driver, and `ablate sync` for what it had to give up
        if tell(folder, folder.mlflow, Patience(first=0.001, longest=0.002)) is None:
            break
    assert facts_in(folder.mlflow, folder) == facts_in(fresh, folder)
    assert all(pictures_of(client, run) == WHOLE for cell, run in runs_of(client).items() if cell)
