"""Edge F1: do edges stand where the real image has them, within 2 pixels?

Precision and recall of edge pixels with a tolerance, as in boundary benchmarks (Martin et al., 2004,
https://doi.org/10.1109/TPAMI.2004.1273918), by dilation in place of a one-to-one matching. An edge is a
pixel whose Sobel gradient of luminance reaches the real image's 90 % quantile: one threshold for both
images, so an image that is too soft loses recall and one that is too noisy loses precision. An image
without an edge scores 0; one that is edges all over still scores about 0.5, as the tolerance covers a
third of the picture.
"""

from __future__ import annotations

GOAL, LABEL, UNIT = "max", "Edge F1", ""
TOLERANCE = 2  # pixels, in rows and columns
QUANTILE = 0.9  # of the real image's gradient magnitudes
FAINTEST = 8 / 255  # Sobel response to a step of two levels in 8 bits: what is weaker counts as flat


def build():
    import torch
    from torch.nn.functional import max_pool2d

    from trainers import filters

    def near(edges):
        return max_pool2d(edges, kernel_size=2 * TOLERANCE + 1, stride=1, padding=TOLERANCE)

    def share(edges, others):
        """Share of edge pixels near one of the others, and whether there are edges: (B,) twice."""
        count = edges.sum(dim=(1, 2, 3))
        return (edges * near(others)).sum(dim=(1, 2, 3)) / count.clamp(min=1), count > 0

    def edge_f1(fake, real, mask):
        """Images (B, C, H, W) in [0, 1], mask (B, 1, H, W) -> (B,) in [0, 1].

        Two images without an edge agree: 1. If one of them has edges: 0. Only places whose gradient is
        made of valid pixels count, so the rim of a nodata area is no edge.
        """
        valid = filters.interior(mask)
        strengths = [filters.magnitude(filters.sobel(filters.luminance(images))) for images in (fake, real)]
        known = strengths[1].masked_fill(valid == 0, torch.nan).flatten(1)
        threshold = torch.nanquantile(known, QUANTILE, dim=1).nan_to_num(0.0).clamp(min=FAINTEST).view(-1, 1, 1, 1)
        fake_edges, real_edges = ((strength >= threshold) * valid for strength in strengths)
        precision, any_fake = share(fake_edges, real_edges)
        recall, any_real = share(real_edges, fake_edges)
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        return torch.where(any_fake | any_real, f1, torch.ones_like(f1))

    return edge_f1
