"""Arithmetic of the networks: number format and memory format."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from trainers.recipe import Compute

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Arithmetic:
    """How networks compute on a device; a loss opens no autocast of its own, and so stays in fp32."""

    def __init__(self, compute: Compute, device: torch.device):
        self.device, self.bf16 = device, compute.precision == "bf16"
        self.format = FORMATS[compute.memory_format]
        if device.type == "cuda":  # cuDNN rounds to TF32 unless it is told not to
            torch.backends.cuda.matmul.allow_tf32 = compute.precision == "tf32"
            torch.backends.cudnn.allow_tf32 = compute.precision == "tf32"

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def place(self, network: nn.Module) -> nn.Module:
        return network.to(device=self.device, memory_format=self.format)

    def arrange(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) on the device, in the networks' memory format."""
        return images.to(device=self.device, memory_format=self.format)
