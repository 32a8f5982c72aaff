"""Perceptual loss: L1 between VGG19's features of both images.

Johnson et al., 2016, https://arxiv.org/abs/1603.08155. Shallow layers (the default) compare edges and
textures, deep ones content. `weights: torchvision` are trained on ImageNet; `file` are your own, known by
`sha256`; `random` are fixed random numbers, a far weaker measure that has to be called by its name wherever
results are shown. `bands` are the three optical bands, counted from 1, that stand for red, green and blue.
"""

from __future__ import annotations

import re
from typing import Literal

from trainers import weightfiles
from trainers.options import Count, NonNegative, options

Layer = Literal[
    "relu1_1", "relu1_2", "relu2_1", "relu2_2",
    "relu3_1", "relu3_2", "relu3_3", "relu3_4", "relu4_1", "relu4_2", "relu4_3", "relu4_4",
    "relu5_1", "relu5_2", "relu5_3", "relu5_4",
]  # fmt: skip


@options
class Options:
    weight: NonNegative = 10.0
    layers: tuple[Layer, ...] = ("relu1_1", "relu2_1")
    weights: Literal["torchvision", "file", "random"] = "torchvision"
    sha256: str | None = None  # of the whole file, with `weights: file` only
    bands: tuple[Count, Count, Count] = (1, 2, 3)


def caution(part: Options, recipe) -> list[str]:
    """Random weights are said out loud: check, plan and the report's notes repeat it."""
    if part.weights == "random":
        return ["terms.perceptual compares by random VGG19 weights, not by trained ones"]
    file = _file(part)
    path = weightfiles.found(file)
    if path is not None:
        said = weightfiles.damaged(path, file)
        return [f"terms.perceptual: {said}"] if said else []
    tried = " A trial tries to download it." if file.url else ""
    return [f"terms.perceptual: {weightfiles.missing(file)}{tried}"]


def refuse(part: Options, recipe) -> list[str]:
    found = []
    if len(set(part.layers)) != len(part.layers) or not part.layers:
        found.append(f"layers: expected at least one layer and none twice; found {list(part.layers)}")
    if part.weights == "file" and not re.fullmatch("[0-9a-f]{64}", part.sha256 or ""):
        stated = part.sha256 or "none"
        found.append(f"weights: file needs sha256, the file's hash of 64 hex digits in lower case; found {stated}")
    if part.weights != "file" and part.sha256 is not None:
        found.append(f"sha256 belongs to weights: file; weights are {part.weights}: take it away")
    return found


def _file(part: Options) -> weightfiles.WeightsFile:
    return weightfiles.VGG19 if part.weights == "torchvision" else weightfiles.local("vgg19", part.sha256 or "")


def build(part: Options):
    import torch

    from trainers import weights
    from trainers.masks import seen_mean
    from trainers.terms import _vgg19

    if part.weights == "random":
        state = _vgg19.random_state(part.layers)
    else:
        state = weights.load(_file(part), _vgg19.shapes(part.layers))
    network = _vgg19.Features(part.layers, state)
    network.register_buffer("bands", torch.tensor(part.bands) - 1, persistent=False)  # a copy there is waited for once

    def perceptual(fake, real, mask):
        """Mean absolute difference of features per image, at least 0: over places that see a valid pixel, and layers.

        Tensors (B, C, H, W) in [-1, 1], filled alike where masked -> (B,); fp32 also under autocast.
        """
        network.to(fake.device)
        with torch.autocast(fake.device.type, enabled=False):
            with torch.no_grad():
                wanted = network(_rgb(real.float(), part.bands, network.bands))
            pairs = zip(network(_rgb(fake.float(), part.bands, network.bands)), wanted, strict=True)
            return torch.stack([seen_mean((got - want).abs(), mask) for got, want in pairs]).mean(dim=0)

    return perceptual


def _rgb(images, bands: tuple[int, int, int], places):
    """Three bands of (B, C, H, W); a single band stands for all three. `places` holds bands - 1 on the device."""
    from trainers.pairs import DataError

    count = images.shape[1]
    if count == 1:
        return images.expand(-1, 3, -1, -1)
    if max(bands) > count:
        raise DataError(
            f"terms.perceptual.bands: {list(bands)}, but the optical images have {count} bands; expected three numbers "
            f"from 1 to {count} (one may stand twice)"
        )
    return images[:, places]
