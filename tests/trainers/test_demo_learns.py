"""The base of the demo study learns: without that the demo would show nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate import events
from ablate.plan import make_plan
from ablate.records import TrialFolder, write_atomically
from ablate.study import load
from trainers import references, train
from trainers.prepare import prepare

STABILIZER = Path(__file__).parents[2] / "studies" / "stabilizer.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_base_of_the_stabilizer_study_beats_the_mean_colour_by_two_decibels(tmp_path, seed):
    plan = make_plan(load(STABILIZER, sets=["resources.ranks=1", f"seeds=[{seed}]"]))
    spec = plan.specs[plan.cells[0].trial]
    cache = prepare(plan.data[spec.data], tmp_path / "cache")
    folder = TrialFolder(tmp_path / "trial")
    document = {"spec": spec.to_json(), "metrics": ["psnr"], "cache": str(cache)}
    write_atomically(folder.spec, json.dumps(document))
    train.run(folder.root)
    reached = events.fold(spec.id, events.read(folder.events)).scores["psnr"]
    reference = references.measure(cache, metrics=["psnr"], split="validation")["mean_colour/psnr"]
    assert reached - reference >= 2.0
