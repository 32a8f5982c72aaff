"""Gradient loss: L1 between edge-filter responses.

Mathieu et al., 2016, https://arxiv.org/abs/1511.05440, sec. 3.2 (gradient difference loss), here with
the signed Sobel components, or the Laplacian.
"""

from __future__ import annotations

from typing import Literal

from trainers.options import NonNegative, options


@options
class Options:
    weight: NonNegative = 10.0
    operator: Literal["sobel", "laplacian"] = "sobel"


def build(part: Options):
    import torch

    from trainers import filters
    from trainers.masks import masked_mean

    def respond(difference):
        if part.operator == "laplacian":
            return filters.laplacian(difference)
        return torch.cat(filters.sobel(difference), dim=1)

    def gradient(fake, real, mask):
        """Mean absolute difference of the responses per image: tensors (B, C, H, W) in [-1, 1] -> (B,).

        Over bands, valid pixels and, for Sobel, both components; filters are not normalised. At least
        0, at most 16. The filters are linear, so one pass over the difference serves both images.
        """
        return masked_mean(respond(fake - real).abs(), mask)

    return gradient
