"""What an adversarial objective offers the training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Protocol

from trainers.options import Fraction

if TYPE_CHECKING:
    from torch import Tensor

Smoothing = Annotated[tuple[Fraction, Fraction], "the discriminator's targets for real and fake"]


class Objective(Protocol):
    """Losses of one logit map (B, 1, h, w), in fp32 or better, as means over each image's patches: (B,).

    The discriminator minimises `real` + `fake` (+ `penalty`), the generator `generator`; each is
    averaged over the discriminator's scales.
    """

    floor: float | None  # least possible real + fake; None where there is no least
    blind: float | None  # least real + fake of a discriminator that cannot tell: one logit for all
    threshold: float | None  # a logit above it says "real"; None where logits have no zero
    penalty: Callable[..., Tensor] | None  # (critic, real, fake, epsilon) -> (B,), its weight included

    def real(self, logits: Tensor) -> Tensor: ...

    def fake(self, logits: Tensor) -> Tensor: ...

    def generator(self, logits: Tensor) -> Tensor: ...


def per_image(patches: Tensor) -> Tensor:
    """Mean over patches: (B, 1, h, w) -> (B,)."""
    return patches.mean(dim=(1, 2, 3))


def at_least_fp32(logits: Tensor) -> Tensor:
    """Half-precision logits as fp32: losses near their floor are lost in bf16."""
    return logits.float() if logits.element_size() < 4 else logits


def inverted(smoothing: tuple[float, float]) -> list[str]:
    """A sentence if the target for real is not above the target for fake; else nothing."""
    real, fake = smoothing
    if real > fake:
        return []
    return [f"smoothing [{real}, {fake}]: the discriminator's target for real must be above the one for fake"]
