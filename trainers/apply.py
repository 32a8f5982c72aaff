"""Use a trained generator outside a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers import start, startfile, traits
from trainers.families import GENERATORS, build
from trainers.pairs import DataError
from trainers.recipe import Recipe


def load_generator(path: str | Path):
    """The generator in a file, in evaluation mode: that of a finished trial (`checkpoints/generator.pt`), or one that
    pix2pix saved (`latest_net_G.pth`).

    It maps SAR (B, C, H, W) to optical bands, both in [-1, 1], scaled as the trial's data options
    say; its attribute `bands_in` is the number of SAR bands. Raises DataError.
    """
    path = Path(path)
    content = start.read(path)
    state = startfile.weights(content, "generator", path)
    if "recipe" in content and "bands" in content:
        options = Recipe.from_document(content["recipe"]).generator
        tile, (bands_in, bands_out) = content["tile"], content["bands"]
    else:
        found = _published(content, state, path)
        options = GENERATORS.options("unet")(width=found["width"], depth=found["depth"], norm=found["norm"])
        tile, bands_in, bands_out = 2 ** found["depth"], found["bands_in"], found["bands_out"]
    network = build(GENERATORS, options, tile=tile, bands_in=bands_in, bands_out=bands_out)
    start.load_state(network, state, path)
    network.bands_in = bands_in
    return network.eval()


def _published(content: Any, state: Any, path: Path) -> traits.Traits:
    """Traits of a U-Net that pix2pix saved; there instance norm follows convolutions with a bias, no norm does not."""
    found = traits.of_state(state)
    if startfile.is_checkpoint(content) or found.get("network") != "unet":
        raise DataError(f"{path}: holds no generator of a finished trial, and none that pix2pix saved")
    if found["norm"] == "batch":
        return found
    return {**found, "norm": "instance" if "ups.0.1.bias" in state else "none"}
