"""The attention gate on a skip.

Oktay et al., 2018, Attention U-Net, https://arxiv.org/abs/1804.03999, sec. 2, eq. 1 and 2.
"""

from __future__ import annotations

from torch import Tensor, nn


class AttentionGate(nn.Module):
    """The skip times alpha = sigmoid(psi . relu(W_x skip + W_g gating + b_g) + b_psi), in (0, 1) a pixel.

    (B, C, H, W) and the decoder's features (B, C, H, W) -> (B, C, H, W). All three maps are 1x1
    convolutions, with C/2 channels inside. One thing differs from the paper: the decoder's features
    come upsampled by the block that the skip will join, so alpha is found at the skip's own
    resolution, where the paper finds it on a coarser grid and interpolates. That keeps edges, and at
    pix2pix's 1x1 bottleneck leaves the innermost gate more than one alpha an image. With pix2pix's
    initial weights alpha starts near 1/2.
    """

    def __init__(self, channels: int):
        super().__init__()
        between = max(channels // 2, 1)
        self.of_skip = nn.Conv2d(channels, between, kernel_size=1, bias=False)  # W_x
        self.of_gating = nn.Conv2d(channels, between, kernel_size=1)  # W_g, b_g
        self.score = nn.Conv2d(between, 1, kernel_size=1)  # psi, b_psi

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        return skip * self.alpha(skip, gating)

    def alpha(self, skip: Tensor, gating: Tensor) -> Tensor:
        """How much of each pixel passes: (B, 1, H, W) in (0, 1)."""
        return self.score((self.of_skip(skip) + self.of_gating(gating)).relu()).sigmoid()
