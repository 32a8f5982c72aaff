"""Feature matching: L1 between the discriminator's features of the generated and the real image.

Wang et al., 2018 (pix2pixHD), https://arxiv.org/abs/1711.11585, eq. 4, with its weight of 10;
after Salimans et al.,
2016, https://arxiv.org/abs/1606.03498, sec. 3.1. A sum over every layer but the logits, and a mean over scales:
equal to the published code for a discriminator of pix2pix's depth (`layers: 3`).
"""

from __future__ import annotations

from trainers.options import NonNegative, options

INPUTS = "features"  # of the discriminator, in place of images


@options
class Options:
    weight: NonNegative = 10.0


def build(part: Options):
    import torch

    def over_layers(fake, real):
        layers = [(a.float() - b.float()).abs().mean(dim=(1, 2, 3)) for a, b in zip(fake, real, strict=True)]
        return torch.stack(layers).sum(dim=0)

    def feature_matching(fake, real):
        """Features of every scale and layer, (B, C, h, w) each, logits last -> (B,).

        Real features carry no gradient. Nodata needs no mask: both images were filled alike before.
        """
        scales = [over_layers(mine[:-1], theirs[:-1]) for mine, theirs in zip(fake, real, strict=True)]
        return torch.stack(scales).mean(dim=0)

    return feature_matching
