"""Counting the parameters of a network from its options, without torch: what a checkpoint takes on disk follows."""

from __future__ import annotations

WITH_WEIGHTS = ("batch", "sync_batch")  # norms with a factor and a summand a channel, in place of a bias before them
NUMBER = 4  # bytes of a parameter, on disk as in training


def convolution(channels_in: int, channels_out: int, *, kernel: int, bias: bool = True) -> int:
    """Parameters of a convolution, or of a transposed one."""
    return channels_in * channels_out * kernel**2 + bias * channels_out


def normed(norm: str, channels_in: int, channels_out: int, *, kernel: int) -> int:
    """Parameters of a convolution with the norm that follows it."""
    own = norm in WITH_WEIGHTS
    return convolution(channels_in, channels_out, kernel=kernel, bias=not own) + own * 2 * channels_out
