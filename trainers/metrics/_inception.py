"""Features of images by the Inception network of the FID's authors: shared by the metrics of sets (head: no torch).

Szegedy et al., 2015, https://arxiv.org/abs/1512.00567, with the weights and the resizing of Heusel et al., 2017, which
no other Inception replaces; through torch-fidelity.
"""

from __future__ import annotations

from trainers import weightfiles
from trainers.availability import colourless, first, without_file, without_package

WIDTH = 2048  # of the last average pooling, pool3


def unavailable(*, tile: int, bands: int | None = None) -> str | None:
    return first(
        colourless(bands), without_package("torch_fidelity", "torch-fidelity"), without_file(weightfiles.INCEPTION)
    )


def features():
    """The width of an image's features, and the function that takes them."""
    import torch

    from trainers import weights
    from trainers.metrics._colour import three
    from trainers.vision import import_torchvision

    import_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = weights.present(weightfiles.INCEPTION)  # checked: torch-fidelity unpickles whatever the file holds
    with torch.random.fork_rng(devices=[]):  # it draws initial weights before it reads the trained ones
        network = FeatureExtractorInceptionV3("fid", ["2048"], feature_extractor_weights_path=str(path))

    def pool3(images):
        """Images (B, C, H, W) in [0, 1], as 8-bit ones -> (B, 2048), at least 0."""
        network.to(images.device)
        levels = (three(images).float().clamp(0, 1) * 255).round().to(torch.uint8)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return network(levels)[0]

    return WIDTH, pool3
