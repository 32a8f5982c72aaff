"""C6: the gradient penalty's pass with LeakyReLU's slopes as a saved constant, against torch's own LeakyReLU.

Forward, gradient and backward of the penalty alone, on a full-width PatchGAN; the parameters' gradients are compared
to the bit first. With instance norm the gain is about none, and it can't be otherwise: the norm's own second derivative
sends real gradients back through the network, where without it the activations sent zeros.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from unittest.mock import patch

from benchmarks.paired import Row, ratios, take_turns

GOALS = {128: 1.4, 64: 1.25}  # px
BATCHES = {128: 1, 64: 4}
NORMS = ("none", "spectral", "instance")


def measure(*, pairs: int, quick: bool, width: int = 64) -> list[Row]:
    """A row for every size and norm; judged without a norm, as the penalty's paper has no batch statistics."""
    import torch

    torch.set_num_threads(1)
    sizes, width, pairs = ((64,), 8, 1) if quick else (tuple(GOALS), width, pairs)
    rows = []
    for tile in sizes:
        for norm in NORMS:
            one = Critic(norm, tile, width)
            assert one.agrees(), "both must give the same gradients"
            found = take_turns({"plain": one.plain, "constant": one.constant}, pairs)
            what = f"gradient penalty's pass, {tile} px at batch {BATCHES[tile]}, norm {norm}"
            target = GOALS[tile] if norm == "none" else None
            rows.append(Row("C6", what, ratios(found["plain"], found["constant"]), target, facts={"seconds": found}))
    return rows


class Critic:
    """A PatchGAN with the images that its penalty is taken on."""

    def __init__(self, norm: str, tile: int, width: int):
        import torch

        from trainers.discriminators import patchgan

        draw = torch.Generator().manual_seed(0)
        self.network = patchgan.build(patchgan.Options(width=width, norm=norm), bands=5, generator=draw)
        self.network.eval()  # the power iteration stands still
        batch = BATCHES[tile]
        self.sar, self.real, self.fake = (torch.randn(batch, c, tile, tile, generator=draw) for c in (2, 3, 3))
        self.epsilon = torch.rand(batch, 1, 1, 1, generator=draw)

    def _pass(self) -> float:
        from trainers.penalty import gradient_penalty

        began = time.process_time()
        self.network.zero_grad()
        penalty = gradient_penalty(lambda images: self.network(self.sar, images), self.real, self.fake, self.epsilon)
        penalty.mean().backward()
        return time.process_time() - began

    def constant(self) -> float:
        return self._pass()

    def plain(self) -> float:
        with patch("trainers.penalty.slopes_as_constants", nullcontext):
            return self._pass()

    def agrees(self) -> bool:
        """Whether every parameter that gets a gradient gets the same; nothing counts as zero."""
        import torch

        found = []
        for way in (self.plain, self.constant):
            way()
            given = [(parameter, parameter.grad) for parameter in self.network.parameters()]
            found.append([torch.zeros_like(one) if grad is None else grad for one, grad in given])
        return all(torch.equal(one, other) for one, other in zip(*found, strict=True))
