"""Weights files with random numbers, in the form and under the names of the published ones.

What reads them is the real code; only the hash that it expects is that of the file made here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch

from trainers import weightfiles
from trainers.metrics import _alexnet
from trainers.vision import import_torchvision


def write(folder: Path, **states: dict[str, torch.Tensor]) -> dict[str, str]:
    """The files of these networks (ALEXNET, INCEPTION); what `use` takes."""
    found = {weightfiles.VARIABLE: str(folder)}
    for name, state in states.items():
        path = folder / getattr(weightfiles, name).name
        torch.save(state, path)
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def use(files: dict[str, str], monkeypatch=None) -> None:
    """Look for weights in that folder and expect those files; for good in a process of its own."""
    set_name = monkeypatch.setattr if monkeypatch else setattr
    set_variable = monkeypatch.setenv if monkeypatch else os.environ.__setitem__
    set_variable(weightfiles.VARIABLE, files[weightfiles.VARIABLE])
    for name in files.keys() - {weightfiles.VARIABLE}:
        set_name(weightfiles, name, replace(getattr(weightfiles, name), sha256=files[name]))


def he(state: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """The state with convolutions that keep the variance (He et al., 2015); default ones let it die away."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=draw) * (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else value
        for name, value in state.items()
    }


def alexnet() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return he({name: 0.1 * torch.randn(shape, generator=draw) for name, shape in _alexnet.SHAPES.items()}, seed=2)


def inception(folder: Path) -> dict[str, torch.Tensor]:
    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unread(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            return None

    torch.save({}, folder / "empty.pth")
    with torch.random.fork_rng():
        network = Unread("fid", ["2048"], feature_extractor_weights_path=str(folder / "empty.pth"))
    return he(network.state_dict(), seed=3)
