"""The published pix2pix's names of weights, and ours (no torch).

junyanz/pytorch-CycleGAN-and-pix2pix, `models/networks.py`: its U-Net is nested, every level inside the one around it
(`model.model.1.model.3.model...`); its PatchGAN is one sequence (`model.0`, `model.2`, ...).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Tensor = TypeVar("Tensor")

OUTSIDE = "model.model"  # the U-Net's outermost level: down, inside, relu, up, tanh
TOWER = re.compile(r"model\.(\d+\.\w+)")


def is_generator(state: Mapping[str, object]) -> bool:
    return f"{OUTSIDE}.0.weight" in state


def is_discriminator(state: Mapping[str, object]) -> bool:
    return "model.0.weight" in state and all(TOWER.fullmatch(key) for key in state)


def generator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's weights under our names; a name that its layout does not have stays as it is."""
    layers = _layers(_depth(state))
    return {_renamed(key, layers): tensor for key, tensor in state.items()}


def discriminator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The PatchGAN's weights under our names: its only tower has the same sequence of layers."""
    return {TOWER.sub(r"towers.0.\1", key): tensor for key, tensor in state.items()}


def _renamed(key: str, layers: Mapping[str, str]) -> str:
    layer, _, name = key.rpartition(".")
    return f"{layers.get(layer, layer)}.{name}"


def _depth(state: Mapping[str, object]) -> int:
    level = _inside(OUTSIDE, 1)
    depth = 1
    while any(key.startswith(f"{level}.") for key in state):
        level, depth = _inside(level, 3), depth + 1
    return depth


def _inside(level: str, position: int) -> str:
    return f"{level}.{position}.model"


def _layers(depth: int) -> dict[str, str]:
    """Published layer -> ours. Inside: relu, down, norm, the next level, relu, up, norm, dropout."""
    layers = {f"{OUTSIDE}.0": "downs.0.0", f"{OUTSIDE}.3": f"ups.{depth - 1}.1"}
    path = _inside(OUTSIDE, 1)
    for level in range(1, depth):
        innermost = level == depth - 1  # relu, down, relu, up, norm
        up = 3 if innermost else 5
        ours = f"ups.{depth - 1 - level}"
        layers |= {f"{path}.1": f"downs.{level}.1", f"{path}.{up}": f"{ours}.1", f"{path}.{up + 1}": f"{ours}.2"}
        if not innermost:
            layers[f"{path}.2"] = f"downs.{level}.2"
        path = _inside(path, 3)
    return layers
