"""LPIPS: learned perceptual distance (AlexNet, version 0.1), per image, at least 0; needs a weights file.

Zhang et al., 2018, https://arxiv.org/abs/1801.03924. On the first three optical bands; a single band stands for grey.
The 1,152 numbers that weigh AlexNet's channels are the authors', published in their package lpips 0.1.4 and kept
beside this file with their licence. Equal to that package's `LPIPS(net="alex")`.
"""

from __future__ import annotations

from pathlib import Path

from trainers import weightfiles
from trainers.availability import colourless, first, too_small, without_file

GOAL, LABEL, UNIT = "min", "LPIPS", ""
SMALLEST = 31  # pixels: below, AlexNet's second pooling finds nothing
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # the authors', for images in [-1, 1]
CHANNELS = Path(__file__).parent / "_lpips" / "alex-v0.1.pth"


def unavailable(*, tile: int, bands: int | None = None) -> str | None:
    return first(too_small(tile, SMALLEST), colourless(bands), without_file(weightfiles.ALEXNET))


def build():
    import torch

    from trainers import weights
    from trainers.metrics import _alexnet
    from trainers.metrics._colour import three

    network = _alexnet.Features(weights.read(weights.present(weightfiles.ALEXNET), _alexnet.SHAPES))
    shapes = {f"lin{n}.model.1.weight": (1, at.outputs, 1, 1) for n, at in enumerate(_alexnet.CONVOLUTIONS)}
    channels = list(weights.read(CHANNELS, shapes).values())
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))

    def directions(images):
        """Features of unit length at each place, shallowest first."""
        normalised = (2 * three(images.float()) - 1 - shift.to(images.device)) / scale.to(images.device)
        return [x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in network(normalised)]

    def lpips(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], filled alike where masked -> (B,), at least 0; H and W at least 31."""
        network.to(fake.device)
        with torch.no_grad(), torch.autocast(fake.device.type, enabled=False):
            layers = zip(channels, directions(fake), directions(real), strict=True)
            return sum((w.to(a.device) * (a - b).square()).sum(dim=1).mean(dim=(1, 2)) for w, a, b in layers)

    return lpips
