"""What the logits say about the balance of the two networks.

Indicators are diagnoses, never the objective. Sums over a window of updates are reduced over
ranks; nothing is read from the device between windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def logit_sums(real: list[Tensor], fake: list[Tensor], threshold: float | None) -> Tensor:
    """Nine float64 sums over the patch logits of one batch, from which `indicators` are made."""
    ordered = sum(_ordered(r.detach(), f.detach()) for r, f in zip(real, fake, strict=True))
    real, fake = (torch.cat([m.detach().flatten() for m in maps]).double() for maps in (real, fake))
    t = 0.0 if threshold is None else threshold
    count = real.new_full((), real.numel())  # filled there: a number of the host's would be waited for
    parts = (real.sum(), real.square().sum(), fake.sum(), fake.square().sum(), (real - t).sign().sum())
    return torch.stack((count, *parts, (real > t).double().sum(), (fake < t).double().sum(), ordered))


def _ordered(real: Tensor, fake: Tensor) -> Tensor:
    """For each image, the share of its pairs of a real and a fake patch in which the real one is above (ties count
    half), times its patches; summed over images. By image, so that the sum does not depend on the ranks.
    """
    real, fake = real.flatten(1).double().contiguous(), fake.flatten(1).double().sort(dim=1).values
    below = torch.searchsorted(fake, real) + torch.searchsorted(fake, real, right=True)
    return below.double().sum() / (2 * fake.shape[1])


def indicators(sums: Sequence[float], *, threshold: float | None) -> dict[str, float]:
    """Health of the window: sign rate (Karras et al., 2020, eq. 1), accuracies, separation, AUC.

    The sign rate is that of D's outputs on real patches less the decision point, which lsgan has between its targets.
    Without one (WGAN) only the separation in pooled standard deviations and the AUC are defined: the chance that a
    real patch has a higher logit than a fake one of the same tile.
    """
    n, *rest = sums
    real, real_square, fake, fake_square, sign, real_right, fake_right, ordered = (value / n for value in rest)
    spread = max(real_square - real**2 + fake_square - fake**2, 0.0) / 2
    values = {"health/separation": (real - fake) / max(spread**0.5, 1e-12), "health/auc": ordered}
    values |= {"health/logit_real": real, "health/logit_fake": fake}
    if threshold is not None:
        values |= {"health/sign_rate": sign, "health/accuracy_real": real_right, "health/accuracy_fake": fake_right}
    return values


def normalised_loss(loss_d: float, *, floor: float | None, blind: float | None) -> dict[str, float]:
    """D's loss between its floor (0) and that of a blind D (1); nothing where there is no floor."""
    if floor is None or blind is None:
        return {}
    return {"health/loss_d_normalised": (loss_d - floor) / (blind - floor)}
