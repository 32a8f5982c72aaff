"""Between a GAN's losses and its logits: what a printed loss says of the logits that gave it.

Losses are means over the patches of single minibatches, so a mean logit is only bounded by them (Jensen's inequality).
"""

from __future__ import annotations

from enum import StrEnum
from math import expm1, inf, log, log1p, sqrt

import numpy as np


class Objective(StrEnum):
    """What the networks minimised: pix2pix's `--gan_mode`, where losses of it have logits to go back to."""

    vanilla = "vanilla"
    lsgan = "lsgan"


Smoothing = tuple[float, float]  # D's targets for real and fake
PLAIN: Smoothing = (1.0, 0.0)


def logit_of_real(loss: float, objective: Objective) -> float:
    """Least mean logit on real patches that a mean loss of `loss` allows; -inf where it allows any."""
    return _vanilla_logit(loss) if objective is Objective.vanilla else 1 - sqrt(loss)


def logit_of_fake(loss: float, objective: Objective) -> float:
    """Greatest mean logit on generated patches that a mean loss of `loss` allows."""
    return -_vanilla_logit(loss) if objective is Objective.vanilla else sqrt(loss)


def floor_and_blind(objective: Objective, smoothing: Smoothing) -> tuple[float, float]:
    """Least D_real + D_fake there can be, and the least of a D that can't tell."""
    real, fake = smoothing
    if objective is Objective.vanilla:
        return entropy(real) + entropy(fake), 2 * entropy((real + fake) / 2)
    return 0.0, (real - fake) ** 2 / 2


def entropy(share: float) -> float:
    return -sum(p * log(p) for p in (share, 1 - share) if p > 0)


def mean_fake_logit(d_fake: float, g_gan: float, objective: Objective, target: float = 0.0) -> float:
    """Mean logit on generated patches from D's and G's loss on them, exact for one D and one batch.

    `target` is D's for generated patches, t: D's loss there is softplus(s) - t s, or (s - t)^2, and G's
    softplus(-s) = softplus(s) - s, or (s - 1)^2; their difference is linear in s.
    """
    if objective is Objective.vanilla:
        return (d_fake - g_gan) / (1 - target)
    return (1 - target**2 + d_fake - g_gan) / (2 * (1 - target))


def least_fake_loss(logit: float, objective: Objective, target: float = 0.0) -> float:
    """Least D_fake that patches of that mean logit can have."""
    if objective is Objective.vanilla:
        return float(np.logaddexp(0, logit)) - target * logit
    return (logit - target) ** 2


def _vanilla_logit(loss: float) -> float:
    """s of softplus(-s) = loss."""
    return inf if loss <= 0 else -loss - log1p(-np.exp(-loss)) if loss > 1 else -log(expm1(loss))
