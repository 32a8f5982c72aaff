"""Training needs torch, numpy and pytorch-msssim, and nothing else: it trains, resumes and scores without the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate import events
from ablate.records import Status
from tests.trainers import tiny
from trainers.checkpoint import FINAL, Checkpoints
from trainers.families import DISCRIMINATORS, GENERATORS, METRICS, OBJECTIVES, TERMS
from trainers.recipe import Compute, Ema, Evaluate

REPOSITORY = Path(__file__).parents[2]
# Everything that the project installs besides, and what that brings along.
ABSENT = (
    "optuna", "mlflow", "pydantic", "annotated_types", "rasterio", "typer", "rich", "scipy", "pandas", "matplotlib",
    "torchvision", "skimage", "PIL", "yaml", "statsmodels", "piq", "kornia", "torchmetrics", "lpips", "pytest",
)  # fmt: skip

# A finder that finds nothing is what an absent package looks like; torch asks for some of these by name.
CHILD = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent} else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
{code}
loaded = sorted(name for name in {absent} if name in sys.modules)
assert not loaded, loaded
"""

TRAIN = """
from pathlib import Path
from trainers.train import run
from trainers.training import Training

advance = Training.advance
def stopping(training):
    advance(training)
    if training.done == {stop_after}:
        (Path({folder!r}) / "stop").touch()
Training.advance = stopping
run(Path({folder!r}))
"""


def alone(code: str) -> None:
    """Run the code in a new interpreter that finds none of ABSENT."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    script = CHILD.format(absent=ABSENT, code=code)
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, env={**environment, "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def needs_files(name: str) -> bool:
    """Whether a metric reads published weights, or takes features of them by torchvision."""
    return name in ("lpips", "fid", "kid")


def test_what_is_kept_away_is_really_away():
    with pytest.raises(AssertionError, match="No module named 'scipy'"):
        alone("import scipy.ndimage")


def test_a_trial_trains_resumes_and_is_scored(tmp_path):
    terms = tuple(name for name in TERMS.names() if name not in ("ms_ssim", "perceptual"))
    of = tiny.recipe(
        steps=6, every=3, terms=terms, norm="spectral", norm_g="batch", scales=2, skip="gated", tile=64, dropout=0.5,
        compute=Compute(precision="bf16"), ema=Ema(decay=0.9), evaluate=Evaluate(every=3, mode="paper"),
    )  # fmt: skip
    metrics = tuple(name for name in METRICS.names() if not needs_files(name) and name != "ms_ssim")
    folder = tiny.trial_folder(tmp_path, tiny.spec(of), metrics=metrics)
    alone(TRAIN.format(folder=str(folder.root), stop_after=4))
    assert Checkpoints(folder.checkpoints).newest()["step"] == 4
    folder.stop.unlink()
    alone(TRAIN.format(folder=str(folder.root), stop_after=-1))
    found = events.fold("trial", events.read(folder.events))
    assert found.status is Status.done and set(found.scores) == set(metrics)
    assert (folder.checkpoints / FINAL).exists()


def test_every_part_that_trains_is_built(tmp_path):
    """ms_ssim needs more pixels than the trial above has, perceptual (here random) none of its files."""
    code = f"""
import torch
from trainers import families as f
given = {{"perceptual": {{"weights": "random"}}}}
sizes = {{"tile": 32, "bands_in": 2, "bands_out": 3}}
for name in {GENERATORS.names()}:
    f.build(f.GENERATORS, f.GENERATORS.options(name)(width=4), **sizes)(torch.zeros(2, 2, 32, 32))
for name in {DISCRIMINATORS.names()}:
    f.build(f.DISCRIMINATORS, f.DISCRIMINATORS.options(name)(width=4), bands=5)
for name in {OBJECTIVES.names()}:
    f.build(f.OBJECTIVES, f.OBJECTIVES.options(name)())
image = torch.zeros(1, 3, 176, 176)
for name in {TERMS.names()}:
    part = f.TERMS.part(name)
    term = f.build(f.TERMS, part.Options(**given.get(name, {{}})))
    if getattr(part, "INPUTS", "images") == "images":
        term(image, image, image[:, :1] + 1)
"""
    alone(code)


def test_a_trial_folder_is_plain_json_and_arrays(tmp_path):
    folder = tiny.trial_folder(tmp_path, tiny.spec(tiny.recipe()))
    document = json.loads(folder.spec.read_text())
    cache = folder.root / document["cache"]
    assert {path.suffix for path in cache.iterdir()} == {".npy", ".json"}
