"""SAM: spectral angle, per image, in degrees.

Kruse et al., 1993, https://doi.org/10.1016/0034-4257(93)90013-N. It sees colour and not brightness: with
one band it is 0 wherever both images are above 0.
"""

from __future__ import annotations

GOAL, LABEL, UNIT = "min", "SAM", "°"


def build():
    import torch

    from trainers.masks import masked_mean

    def length(spectra):
        return spectra.square().sum(dim=1, keepdim=True).sqrt()

    def direction(spectra):
        return spectra / length(spectra).clamp(min=1e-12)

    def sam(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], mask (B, 1, H, W) -> (B,) in [0, 90], mean over valid pixels.

        A black pixel has no direction: it is at 90 degrees to any other and at 0 to another black one.
        The half-angle form (Kahan) keeps small angles, which an arc cosine loses in fp32.
        """
        u, v = direction(fake), direction(real)
        angle = 2 * torch.atan2(length(u - v), length(u + v))
        return masked_mean(torch.rad2deg(angle), mask)

    return sam
