"""Use a trained generator outside a study."""

from __future__ import annotations

from pathlib import Path

from trainers import checkpoint
from trainers.families import GENERATORS, build
from trainers.recipe import Recipe


def load_generator(path: str | Path):
    """The generator of a finished trial (`checkpoints/generator.pt`), in evaluation mode.

    It maps SAR (B, C, H, W) to optical bands, both in [-1, 1], scaled as the trial's data options
    say; its attribute `bands_in` is the number of SAR bands. Raises FileNotFoundError.
    """
    state = checkpoint.read(Path(path))
    if state is None:
        raise FileNotFoundError(f"{path}: no such generator; a finished trial has one")
    bands_in, bands_out = state["bands"]
    recipe = Recipe.from_document(state["recipe"])
    network = build(GENERATORS, recipe.generator, tile=state["tile"], bands_in=bands_in, bands_out=bands_out)
    network.load_state_dict(state["generator"])
    network.bands_in = bands_in
    return network.eval()
