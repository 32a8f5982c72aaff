"""LPIPS with random weights: AlexNet's features by fixed random numbers, all channels alike; needs no file.

The distance of Zhang et al., 2018, https://arxiv.org/abs/1801.03924, between features that nobody trained: a far weaker
measure than lpips, whose values it does not compare with. Its name says so wherever it stands.
"""

from __future__ import annotations

from trainers.availability import colourless, first, too_small

GOAL, LABEL, UNIT = "min", "LPIPS (random weights)", ""
SMALLEST = 31  # pixels: below, AlexNet's second pooling finds nothing


def unavailable(*, tile: int, bands: int | None = None) -> str | None:
    return first(too_small(tile, SMALLEST), colourless(bands))


def caution(images: int) -> str:
    return "LPIPS (random weights) compares by random weights of AlexNet, not by trained ones"


def build():
    import torch

    from trainers.metrics import _alexnet
    from trainers.metrics._distance import distance

    channels = [torch.full((1, at.outputs, 1, 1), 1 / at.outputs) for at in _alexnet.CONVOLUTIONS]
    return distance(_alexnet.random_state(), channels)
