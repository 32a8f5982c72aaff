"""Numbers of a few updates, kept: a change that moves them is seen, and explained in its commit.

`ABLATE_REGENERATE=1 pytest tests/trainers/test_golden.py` writes them again.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ablate import events
from tests.trainers import tiny
from trainers import train
from trainers.families import OBJECTIVES
from trainers.recipe import Ema, Evaluate, Optimizer, Recipe, Timing

KEPT = Path(__file__).parent / "golden" / "updates.json"
# Processors differ in the order of their sums; four updates at a high rate keep that below this.
RELATIVE = 2e-3

CASES = {
    **{name: {"objective": name} for name in OBJECTIVES.names()},
    "spectral, two D": {"norm": "spectral", "updates": (1, 2)},
    "batch norm, two G": {"norm": "batch", "norm_g": "batch", "updates": (2, 1)},
    "all terms": {"terms": ("l1", "charbonnier", "ssim", "gradient")},
    "batch of eight": {"batch": 8},
    "feature matching, two scales": {"terms": ("l1", "feature_matching"), "scales": 2},
    "average, warm-up, cosine": {
        "ema": Ema(decay=0.5), "optimizer": Optimizer(lr=1e-3, warm_up=0.5, decay="cosine"), "norm_g": "batch",
    },
    "paper mode": {"norm_g": "batch", "evaluate": Evaluate(every=2, mode="paper")},
}  # fmt: skip


STAGED = "two stages, a ramp"


def recipe(name: str) -> Recipe:
    if name != STAGED:
        return tiny.recipe(steps=4, **{"every": 2} | CASES[name])
    base = tiny.recipe(steps=4, every=2)
    later = tiny.stage(base, Timing(ramp=0.5, moments="reset"), terms={"l1": 2.0, "ssim": 5.0})
    return replace(base, stages=(tiny.stage(base, Timing(until=0.25)), later))


def curves(root: Path, of: Recipe) -> dict[str, list[float]]:
    folder = tiny.trial_folder(root, tiny.spec(of))
    train.run(folder.root)
    result = events.fold("golden", events.read(folder.events))
    return {f"{split}/{key}": [row[2] for row in rows] for (split, key), rows in sorted(result.curves.items())}


@pytest.mark.parametrize("name", [*CASES, STAGED])
def test_a_few_updates_give_the_numbers_kept(tmp_path, name):
    found = curves(tmp_path, recipe(name))
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if os.environ.get("ABLATE_REGENERATE"):
        KEPT.write_text(json.dumps({**kept, name: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found.keys() == kept[name].keys()
    for key, values in found.items():
        assert values == pytest.approx(kept[name][key], rel=RELATIVE, abs=1e-5), key
