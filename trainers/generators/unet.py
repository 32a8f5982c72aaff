"""U-Net generator of pix2pix.

Isola et al., 2017, https://arxiv.org/abs/1611.07004, sec. 6.1.1. With the defaults, 256 px and three
bands in and out it has 54,413,955 parameters. Beyond the paper, two remedies for soft structure:

`skip: gated` weighs each skip, pixel by pixel, with an attention gate steered by the decoder before it
is concatenated: Oktay et al., 2018, https://arxiv.org/abs/1804.03999.

`fusion: true` adds the decoder's features of the next three coarser scales, projected by 1x1
convolutions to one width and upsampled bilinearly, to those that the output layer reads: after
Kirillov et al., 2019, https://arxiv.org/abs/1901.02446, sec. 3.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from trainers.options import Bounds, Count, options
from trainers.sizes import WITH_WEIGHTS, convolution, normed

WIDEST = 8  # channels grow up to this multiple of the width
FUSED = 4  # scales whose decoder features are fused, as in panoptic FPN

@options
class Options:
    """`depth` None halves the tile as often as it divides evenly: to 1x1 for a power of two, as pix2pix."""

    width: Count = 64  # channels after the first convolution; at most 8 times as many inside
    depth: Annotated[int, Bounds(low=2, high=11)] | None = None  # number of halvings; tiles have up to 2^11 px
    norm: Literal["batch", "instance", "none", "sync_batch"] = "batch"
    skip: Literal["concat", "add", "gated"] = "concat"
    dropout: Annotated[float, Bounds(low=0, below=1)] = 0.0  # on the inner blocks; pix2pix trains with 0.5
    fusion: bool = False  # of decoder features of up to four scales, before the output layer


def halvings(tile: int) -> int:
    """How often a tile of that many pixels can be halved without a remainder."""
    return (tile & -tile).bit_length() - 1


def refuse(part: Options, recipe) -> list[str]:
    """Why this network cannot be built for the recipe's tiles; empty if it can."""
    tile = recipe.data.tile
    depth = max(part.depth or halvings(tile), 2)
    if halvings(tile) < depth:
        return [f"a U-Net of depth {depth} needs tiles divisible by {2**depth}; the tile is {tile} px"]
    if part.dropout and depth < 6:
        return [f"dropout {part.dropout} acts on the inner blocks: depth {depth} has none, 6 or more do"]
    if part.fusion and depth < 3:
        return [f"fusion joins decoder features of several scales: depth {depth} has one, 3 or more have several"]
    return []


def parameters(part: Options, *, tile: int, bands_in: int, bands_out: int) -> int:
    """How many the network has that `build` makes."""
    depth = part.depth or halvings(tile)
    channels = [part.width * min(2**level, WIDEST) for level in range(depth)]
    bias = part.norm not in WITH_WEIGHTS
    found = convolution(bands_in, part.width, kernel=4, bias=bias)
    found += sum(normed(part.norm, outer, inner, kernel=4) for outer, inner in pairwise(channels[:-1]))
    found += convolution(channels[-2], channels[-1], kernel=4, bias=bias)  # the innermost has no norm
    sides, joined, skips = 1 if part.skip == "add" else 2, channels[-1], channels[-2::-1]
    for outer in skips:
        found += normed(part.norm, joined, outer, kernel=4)
        joined = sides * outer
    found += convolution(joined, bands_out, kernel=4)
    if part.skip == "gated":
        found += sum(2 * outer * (half := max(outer // 2, 1)) + half + half + 1 for outer in skips)
    if part.fusion:
        found += sum(sides * outer * joined for outer in skips[-FUSED:-1])
    return found


def build(part: Options, *, tile: int, bands_in: int, bands_out: int, generator=None):
    """The network with initial weights drawn from `generator` (a torch.Generator on the CPU).

    It maps SAR (B, bands_in, tile, tile) in [-1, 1] to optical (B, bands_out, tile, tile) in [-1, 1].
    """
    from trainers.blocks import initialise, reproducible
    from trainers.generators._unet import UNet

    with reproducible(generator):
        network = UNet(
            bands_in, bands_out, width=part.width, depth=part.depth or halvings(tile),
            norm=part.norm, skip=part.skip, dropout=part.dropout, fusion=part.fusion,
        )  # fmt: skip
    initialise(network, generator)
    return network
