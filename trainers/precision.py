"""Arithmetic of the networks: number format and memory format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.recipe import Compute

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Arithmetic:
    """How networks compute on a device; a loss opens no autocast of its own, and so stays in fp32."""

    def __init__(self, compute: Compute, device: torch.device):
        self.device, self.bf16 = device, compute.precision == "bf16"
        self.tf32 = compute.precision == "tf32"
        self.format = FORMATS[compute.memory_format]
        _round_to_tf32(False)  # cuDNN does unless it is told not to: metrics and losses are to stay exact

    @contextmanager
    def forward(self) -> Iterator[None]:
        """For what the networks compute: autocast for bf16, TF32 where it is asked for."""
        with self.backward(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            yield

    @contextmanager
    def backward(self) -> Iterator[None]:
        """For the way back through the networks: gradients have the format of what they are of, but for TF32."""
        _round_to_tf32(self.tf32)
        try:
            yield
        finally:
            _round_to_tf32(False)

    def place(self, network: nn.Module) -> nn.Module:
        return network.to(device=self.device, memory_format=self.format)

    def arrange(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) on the device, in the networks' memory format."""
        return images.to(device=self.device, memory_format=self.format)


def _round_to_tf32(allowed: bool) -> None:
    """On CUDA; elsewhere nothing looks at it."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
