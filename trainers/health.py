"""What the logits say about the balance of the two networks.

Indicators are diagnoses, never the objective. Sums over a window of updates are reduced over
ranks; nothing is read from the device between windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

GRACE = 0.1  # share of the budget in which nothing is flagged: healthy runs start extreme
PATIENCE = 3  # consecutive windows before a flag is raised
DOMINANT_ACCURACY = 0.95


def logit_sums(real: list[Tensor], fake: list[Tensor], threshold: float | None) -> Tensor:
    """Eight float64 sums over the patch logits of one batch, from which `indicators` are made."""
    real, fake = (torch.cat([m.detach().flatten() for m in maps]).double() for maps in (real, fake))
    t = 0.0 if threshold is None else threshold
    count = torch.tensor(float(real.numel()), dtype=torch.float64, device=real.device)
    parts = (real.sum(), real.square().sum(), fake.sum(), fake.square().sum(), real.sign().sum())
    return torch.stack((count, *parts, (real > t).double().sum(), (fake < t).double().sum()))


def indicators(sums: Tensor, *, threshold: float | None) -> dict[str, float]:
    """Health of the window: sign rate (Karras et al., 2020, eq. 1), accuracies, separation.

    Without a decision point (WGAN) only the separation in pooled standard deviations is defined.
    """
    n, *rest = sums.tolist()
    real, real_square, fake, fake_square, sign, real_right, fake_right = (value / n for value in rest)
    spread = max(real_square - real**2 + fake_square - fake**2, 0.0) / 2
    values = {"health/separation": (real - fake) / max(spread**0.5, 1e-12)}
    values |= {"health/logit_real": real, "health/logit_fake": fake}
    if threshold is not None:
        values |= {"health/sign_rate": sign, "health/accuracy_real": real_right, "health/accuracy_fake": fake_right}
    return values


def normalised_loss(loss_d: float, *, floor: float | None, blind: float | None) -> dict[str, float]:
    """D's loss between its floor (0) and that of a blind D (1); nothing where there is no floor."""
    if floor is None or blind is None:
        return {}
    return {"health/loss_d_normalised": (loss_d - floor) / (blind - floor)}


@dataclass
class DominanceWatch:
    """Flags a discriminator that is right on over 95 % of both kinds for three windows in a row."""

    streak: int = 0
    flagged: bool = field(default=False)

    def read(self, values: dict[str, float], *, progress: float) -> str | None:
        """A sentence when the flag is raised for the first time, else None; `progress` in [0, 1]."""
        if "health/accuracy_real" not in values:  # no D update in this window, or no decision point at all
            return None
        both = min(values["health/accuracy_real"], values["health/accuracy_fake"])
        self.streak = self.streak + 1 if both > DOMINANT_ACCURACY and progress > GRACE else 0
        if self.streak < PATIENCE or self.flagged:
            return None
        self.flagged = True
        return f"D dominates: right on {both:.0%} of real and fake patches for {PATIENCE} windows in a row"
