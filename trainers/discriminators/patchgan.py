"""PatchGAN discriminator of pix2pix, on one or more scales.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, sec. 6.1.2. With the defaults each logit judges
70x70 pixels, 256 px give 30x30 logits, and six bands in need 2,768,705 parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from trainers.options import Bounds, Count, options
from trainers.sizes import convolution, normed

WIDEST = 8  # channels grow up to this multiple of the width

@options
class Options:
    width: Count = 64  # channels after the first convolution; at most 8 times as many inside
    layers: Annotated[int, Bounds(low=1, high=9)] = 3  # convolutions of stride 2; 3 give the 70x70 receptive field
    scales: Annotated[int, Bounds(low=1, high=9)] = 1  # towers of their own on the image and its halvings, as pix2pixHD
    norm: Literal["batch", "instance", "none", "spectral", "sync_batch"] = "batch"


def refuse(part: Options, recipe) -> list[str]:
    """Why this network cannot judge the recipe's tiles; empty if it can."""
    coarsest = -(-recipe.data.tile // 2 ** (part.scales - 1))  # pooling rounds up
    needed = 3 * 2**part.layers  # 2x2 before the last convolution: it needs 2, and so does instance norm
    if coarsest >= needed:
        return []
    smallest = needed * 2 ** (part.scales - 1)
    return [
        f"a PatchGAN of {part.layers} layers and {part.scales} scales needs tiles of {smallest} px or more;"
        f" the tile is {recipe.data.tile} px"
    ]


def parameters(part: Options, *, bands: int) -> int:
    """How many the network has that `build` makes."""
    channels = [part.width * min(2**level, WIDEST) for level in range(part.layers + 1)]
    tower = convolution(bands, part.width, kernel=4) + convolution(channels[-1], 1, kernel=4)
    tower += sum(normed(part.norm, outer, inner, kernel=4) for outer, inner in pairwise(channels))
    return part.scales * tower


def build(part: Options, *, bands: int, generator=None):
    """The network with initial weights drawn from `generator` (a torch.Generator on the CPU).

    Called with SAR and optical, `bands` together, it gives a list of logit maps (B, 1, h, w), one a
    scale: no sigmoid. The loss is averaged over them.
    """
    from trainers.blocks import initialise, reproducible
    from trainers.discriminators._patchgan import PatchGAN, normalise_spectrally

    spectral = part.norm == "spectral"
    with reproducible(generator):
        network = PatchGAN(
            bands, width=part.width, layers=part.layers, scales=part.scales, norm="none" if spectral else part.norm
        )
    initialise(network, generator)
    if spectral:
        with reproducible(generator):  # the power iteration starts from random vectors
            normalise_spectrally(network)
    return network
