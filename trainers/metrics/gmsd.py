"""GMSD: gradient magnitude similarity deviation, per image; 0 for equal structure.

Xue et al., 2014, https://doi.org/10.1109/TIP.2013.2293423. On luminance halved by 2x2 means, Prewitt
gradients with zeros around the image, constant 170 (of 255^2), population standard deviation: equal to
piq.gmsd for even sides. The authors' code differs in the sample standard deviation (n - 1).
"""

from __future__ import annotations

GOAL, LABEL, UNIT = "min", "GMSD", ""
RESIDUAL_SD = (0.0031, "22 arms x 3 seeds of studies/stabilizer.yaml (docs/example-report), 64 px, 120 updates")
STABILISER = 170 / 255**2


def build():
    from torch.nn.functional import avg_pool2d, max_pool2d

    from trainers import filters
    from trainers.masks import masked_mean

    def edges(images):
        return filters.magnitude(filters.prewitt(avg_pool2d(filters.luminance(images), 2)))

    def gmsd(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], mask (B, 1, H, W) -> (B,), at least 0.

        Only places whose gradient is made of valid pixels count; an image without one gives 0.
        An odd last row or column is left out.
        """
        a, b = edges(fake), edges(real)
        similarity = (2 * a * b + STABILISER) / (a.square() + b.square() + STABILISER)
        valid = filters.interior(1 - max_pool2d(1 - mask, 2))
        mean = masked_mean(similarity, valid).view(-1, 1, 1, 1)
        return masked_mean((similarity - mean).square(), valid).sqrt()

    return gmsd
