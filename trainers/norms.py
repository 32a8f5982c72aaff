"""Normalisation layers by name, among them batch norm over the batches of all ranks.

Plain batch norm under DDP normalises each rank's share by itself, so its result depends on the
number of ranks; `sync_batch` equals batch norm over the global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist

from trainers.sizes import WITH_WEIGHTS


def norm_layer(kind: str, channels: int) -> nn.Module:
    """The layer called `kind`: batch, instance (without weights, as pix2pix), none or sync_batch."""
    if kind == "sync_batch":
        return nn.SyncBatchNorm(channels) if _ranks_share_nccl() else SyncBatchNorm(channels)
    layers = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "none": lambda channels: nn.Identity()}
    return layers[kind](channels)


def needs_bias(kind: str) -> bool:
    """Whether a convolution before this norm keeps its bias: batch norm brings one of its own."""
    return kind not in WITH_WEIGHTS


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over all ranks' batches, on any backend; torch's own refuses CPU tensors.

    (B, C, H, W) -> the same shape. Mean and variance in two passes, in at least fp32. Ranks may hold
    batches of different size. On one process, and in evaluation, it is BatchNorm2d.
    """

    def forward(self, images: Tensor) -> Tensor:
        if not (self.training and _ranks() > 1):
            return super().forward(images)
        self._check_input_dim(images)
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        here = values.new_full((1,), values.numel() // values.shape[1])
        sums = _SumOverRanks.apply(torch.cat([values.sum(dim=(0, 2, 3)), here]))
        count = sums[-1].detach()
        mean = (sums[:-1] / count).view(1, -1, 1, 1)
        centred = values - mean
        variance = _SumOverRanks.apply(centred.square().sum(dim=(0, 2, 3))) / count
        self._follow(mean.flatten(), variance * count / (count - 1))
        scale = (self.weight * (variance + self.eps).rsqrt()).view(1, -1, 1, 1)
        return (centred * scale + self.bias.view(1, -1, 1, 1)).to(images.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


class _SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over ranks, differentiable: the gradient is summed over ranks as well.

    torch.distributed.nn.functional.all_reduce does the same and warns of its own removal.
    """

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _SumOverRanks.apply(gradient)


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _ranks_share_nccl() -> bool:
    return _ranks() > 1 and torch.cuda.is_available() and "nccl" in str(dist.get_backend_config())
