"""What a pix2pix loss log shows about the balance of its two networks.

Sums and bounds from printed losses; the words are in `ablate.diagnose_words`. Losses are means over
the patches of single minibatches, so a mean logit is only bounded by them (Jensen's inequality).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import expm1, inf, isfinite, log, log1p, sqrt
from typing import Literal

import numpy as np

from ablate.losslog import Line, LossLog, counted
from ablate.problems import Problem, StudyError, no_such


class Objective(StrEnum):
    """What the networks minimised: pix2pix's `--gan_mode`, where losses of it have logits to go back to."""

    vanilla = "vanilla"
    lsgan = "lsgan"


BLIND = {
    Objective.vanilla: 2 * log(2),
    Objective.lsgan: 0.5,
}  # least D_real + D_fake of a D that can't tell; the floor is 0
DOMINANT, BLINDED = 0.05, 0.95  # of the normalised D loss
WINDOWS = 3  # consecutive ones before anything is flagged
SHARE, LEAST = 0.25, 30  # the last part: a quarter of the run, 30 lines if there are as many
DIVERGED_LINES, DIVERGED_RATIO = 20, 1.5  # lines a window of G_L1, and how far above the best stretch
FLUCTUATION_LINES, MOST_POINTS = 10, 300
TILE_SAMPLING = (0.2, 0.6)  # CV of G_L1 per minibatch of one tile, from the choice of tiles alone
# Weighted G_L1 at lambda 100 on real SAR-optical tiles: what costs this much without any translation.
MEAN_COLOUR, RANDOM_PARTNER = 12.3, 18.1
ADDED_BY_SHIFT = {1: 2.0, 2: 3.5, 4: 5.0}  # pixels -> added G_L1


class Verdict(StrEnum):
    """What the last part of a log shows; `undecided` where it has no D losses that fit the objective."""

    dominant = "D dominant"
    balanced = "balanced"
    blind = "G winning (blind)"
    diverged = "diverged"
    undecided = "undecided"


@dataclass(frozen=True)
class Discriminator:
    """Averages of the last part. Logits are raw; `None` is no bound, or one that takes an absent loss.

    `normalised` is 0 for a D that is certain and right, 1 for a blind one. `logit_gradient_at_least`
    bounds mean |d G_GAN / d logit| from below (its most is 1 for vanilla).
    """

    d_real: float
    d_fake: float
    g_gan: float | None
    normalised: float
    normalised_at_most: float  # by rounding
    windows: tuple[float, ...]  # the normalised loss in each
    real_logit: float | None  # if the printed value is exact
    real_logit_at_least: float
    fake_logit_at_most: float
    fake_logit: float | None  # mean, from G_GAN and D_fake
    logit_gradient_at_least: float


@dataclass(frozen=True)
class Reconstruction:
    """G_L1 of the last part, weighted as logged. Trend: per cent over the run's second half, with 95 % limits."""

    weighted: float
    raw: float  # on [-1, 1]
    of_255: float
    at_lambda_100: float
    cv: float | None  # median over windows of the second half; None below 10 lines
    cv_windows: int
    trend: tuple[float, float, float] | None  # low, Theil-Sen, high

    @property
    def direction(self) -> Literal["falls", "rises", "none", "unknown"]:
        if self.trend is None:
            return "unknown"
        low, _, high = self.trend
        return "falls" if high < 0 else "rises" if low > 0 else "none"


@dataclass(frozen=True)
class Diagnosis:
    """Verdict and evidence of one log. `part` counts the lines that averages are of."""

    verdict: Verdict
    why: str
    objective: Objective
    lambda_l1: float
    log: LossLog
    part: int
    discriminator: Discriminator | None
    reconstruction: Reconstruction | None
    cautions: tuple[str, ...]


def diagnose(loss_log: LossLog, *, objective: Objective = Objective.vanilla, lambda_l1: float = 100.0) -> Diagnosis:
    """The verdict on a log; `lambda_l1` (above 0) is the weight that its G_L1 contains.

    Raises StudyError for another weight.
    """
    if not (lambda_l1 > 0 and isfinite(lambda_l1)):
        raise StudyError([Problem("--lambda-l1", 0, 0, "", f"found {lambda_l1}; expected a number above 0")])
    finite = [line for line in loss_log.lines if line.finite]
    part = finite[-max(LEAST, round(SHARE * len(finite))) :]
    half = 0.5 * 10.0**-loss_log.decimals
    found = _discriminator(part, half, objective) if finite else None
    reconstruction = _reconstruction(finite, part, lambda_l1)
    verdict, why = _verdict(loss_log, finite, found, half, objective)
    return Diagnosis(
        verdict, why, objective, lambda_l1, loss_log, len(part), found, reconstruction,
        tuple(_cautions(loss_log, finite, part, reconstruction)),
    )  # fmt: skip


def objective_named(name: str) -> Objective:
    """The objective of that name. Raises StudyError, in a sentence, where there is none."""
    if name not in list(Objective):
        raise StudyError([Problem("--objective", 0, 0, "", no_such("objective", name, Objective))])
    return Objective(name)


def logit_of_real(loss: float, objective: Objective) -> float:
    """Least mean logit on real patches that a mean loss of `loss` allows; -inf where it allows any."""
    return _vanilla_logit(loss) if objective is Objective.vanilla else 1 - sqrt(loss)


def logit_of_fake(loss: float, objective: Objective) -> float:
    """Greatest mean logit on generated patches that a mean loss of `loss` allows."""
    return -_vanilla_logit(loss) if objective is Objective.vanilla else sqrt(loss)


def mean_fake_logit(d_fake: float, g_gan: float, objective: Objective) -> float:
    """Mean logit on generated patches from D's and G's loss on them, exact for one D and one batch.

    softplus(-s) - softplus(s) = -s, and (s - 1)^2 - s^2 = 1 - 2 s.
    """
    return d_fake - g_gan if objective is Objective.vanilla else (1 + d_fake - g_gan) / 2


def _vanilla_logit(loss: float) -> float:
    """s of softplus(-s) = loss."""
    return inf if loss <= 0 else -loss - log1p(-np.exp(-loss)) if loss > 1 else -log(expm1(loss))


def _mean(lines: Sequence[Line], name: str) -> float | None:
    values = [line.losses[name] for line in lines if name in line.losses]
    return float(np.mean(values)) if values else None


def _discriminator(part: Sequence[Line], half: float, objective: Objective) -> Discriminator | None:
    d_real, d_fake, g_gan = (_mean(part, name) for name in ("D_real", "D_fake", "G_GAN"))
    if d_real is None or d_fake is None or min(d_real, d_fake) < -half:
        return None
    d_real, d_fake = max(d_real, 0.0), max(d_fake, 0.0)
    sums = np.array([line.losses["D_real"] + line.losses["D_fake"] for line in part if _has_d(line)])
    real, blind = logit_of_real(d_real, objective), BLIND[objective]
    fake_most = logit_of_fake(d_fake + half, objective)
    return Discriminator(
        d_real, d_fake, g_gan, (d_real + d_fake) / blind, (d_real + d_fake + 2 * half) / blind,
        tuple(float(chunk.mean()) / blind for chunk in np.array_split(sums, min(WINDOWS, len(sums)))),
        real if objective is Objective.vanilla and isfinite(real) else None, logit_of_real(d_real + half, objective),
        fake_most, None if g_gan is None else mean_fake_logit(d_fake, g_gan, objective),
        # sigmoid(s) <= softplus(s), so 1 - sigmoid(s) averages to at least 1 - D_fake; lsgan: 2 |1 - s|.
        max(0.0, 1 - d_fake - half if objective is Objective.vanilla else 2 * (1 - fake_most)),
    )  # fmt: skip


def _has_d(line: Line) -> bool:
    return "D_real" in line.losses and "D_fake" in line.losses


def _reconstruction(finite: Sequence[Line], part: Sequence[Line], lambda_l1: float) -> Reconstruction | None:
    weighted = _mean(part, "G_L1")
    if weighted is None:
        return None
    late = np.array([line.losses["G_L1"] for line in finite if "G_L1" in line.losses])
    late = late[len(late) // 2 :]
    windows = np.array_split(late, min(10, len(late) // FLUCTUATION_LINES)) if len(late) >= FLUCTUATION_LINES else []
    spreads = [float(w.std(ddof=1) / abs(w.mean())) for w in windows if w.mean()]
    raw = weighted / lambda_l1
    return Reconstruction(
        weighted, raw, raw * 127.5, raw * 100,
        float(np.median(spreads)) if spreads else None, len(spreads), _trend(late),
    )  # fmt: skip


def _trend(values: np.ndarray) -> tuple[float, float, float] | None:
    """Change over all of `values` in per cent of their median: Sen's (1968) 95 % limits around Theil-Sen's slope."""
    if len(values) < FLUCTUATION_LINES or not np.median(values):
        return None
    points = np.array([chunk.mean() for chunk in np.array_split(values, min(len(values), MOST_POINTS))])
    n = len(points)
    first, second = np.triu_indices(n, 1)
    slopes = np.sort((points[second] - points[first]) / (second - first))
    reach = 1.96 * sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = int((len(slopes) - reach) / 2), int((len(slopes) + reach) / 2) + 1
    ends = slopes[max(low, 0)], float(np.median(slopes)), slopes[min(high, len(slopes) - 1)]
    scale = 100 * (n - 1) / abs(float(np.median(values)))
    return tuple(float(slope) * scale for slope in ends)


def _verdict(
    loss_log: LossLog, finite: Sequence[Line], found: Discriminator | None, half: float, objective: Objective
) -> tuple[Verdict, str]:
    broken = _first_not_finite(loss_log.lines)
    if broken is not None and (not finite or finite[-1].number < broken.number):
        names = ", ".join(name for name, value in broken.losses.items() if not isfinite(value))
        where = f"line {broken.number}, epoch {broken.epoch}, iteration {broken.iters}"
        return Verdict.diverged, f"{names} not finite from {where} to the end"
    if (ratio := _above_best(finite)) is not None:
        return Verdict.diverged, (
            f"G_L1 in each of the last {WINDOWS} windows of {DIVERGED_LINES} lines is above {DIVERGED_RATIO} x its "
            f"best stretch ({ratio:.1f} x at the end)"
        )
    if found is None:
        return Verdict.undecided, _no_losses(finite, objective)
    if (misfit := _misfit(found, objective)) is not None:
        return Verdict.undecided, misfit
    shown = ", ".join(f"{value:.3f}" for value in found.windows)
    if all(value < DOMINANT for value in found.windows):
        return Verdict.dominant, f"normalised D loss below {DOMINANT} in {_all(found.windows)} ({shown})"
    if all(value > BLINDED for value in found.windows):
        return Verdict.blind, f"normalised D loss above {BLINDED} in {_all(found.windows)} ({shown})"
    flagged = sum(not DOMINANT <= value <= BLINDED for value in found.windows) or "none"
    return Verdict.balanced, (
        f"normalised D loss {shown} in the windows of the last part; {flagged} of them "
        f"below {DOMINANT} or above {BLINDED}, and a verdict takes all on one side"
    )


def _all(windows: Sequence[float]) -> str:
    return f"all {len(windows)} windows of the last part" if len(windows) > 1 else "the last part"


def _first_not_finite(lines: Sequence[Line]) -> Line | None:
    """The first line of the unbroken stretch without finite losses that ends the log, else the last such line."""
    found = None
    for line in reversed(lines):
        if not line.finite:
            found = line
        elif found is not None:
            break
    return found


def _above_best(finite: Sequence[Line]) -> float | None:
    """Last G_L1 window over the best stretch of three, if the last three all lie far above it."""
    values = np.array([line.losses["G_L1"] for line in finite if "G_L1" in line.losses])
    count = len(values) // DIVERGED_LINES
    if count < 2 * WINDOWS:
        return None
    windows = values[-count * DIVERGED_LINES :].reshape(count, DIVERGED_LINES).mean(axis=1)
    best = np.convolve(windows, np.full(WINDOWS, 1 / WINDOWS), mode="valid").min()
    far = best > 0 and (windows[-WINDOWS:] > DIVERGED_RATIO * best).all()
    return float(windows[-1] / best) if far else None


def _no_losses(finite: Sequence[Line], objective: Objective) -> str:
    names: Mapping[str, float] = finite[-1].losses
    absent = [name for name in ("D_real", "D_fake") if name not in names]
    if absent:
        return f"the log has no {' and no '.join(absent)}"
    return f"D_real or D_fake is negative, which {objective} can't give; a critic's (wgan) losses have no such reading"


def _misfit(found: Discriminator, objective: Objective) -> str | None:
    """A sentence if no logits of this objective give this D_fake and G_GAN together."""
    if found.fake_logit is None:
        return None
    s = found.fake_logit
    least = float(np.logaddexp(0, s)) if objective is Objective.vanilla else s * s
    # D is updated between the two losses, which moves them apart a little.
    if least <= 2 * found.d_fake + 0.1:
        return None
    other = Objective.lsgan if objective is Objective.vanilla else Objective.vanilla
    return (
        f"D_fake {found.d_fake:.3f} and G_GAN {found.g_gan:.3f} don't fit {objective}, which would give a D_fake of "
        f"at least {least:.3f}: another objective (--objective {other}?), or G_GAN is logged with a weight"
    )


def _cautions(
    loss_log: LossLog, finite: Sequence[Line], part: Sequence[Line], reconstruction: Reconstruction | None
) -> list[str]:
    said = []
    if len(part) < LEAST:
        said.append(
            f"The last part has {counted(len(part), 'line')}, each of one minibatch: read the figures as rough ones."
        )
    if finite and len(finite) < 4 * LEAST:
        said.append("The log is short: losses of the first tenth of a training say little about the rest.")
    broken = [line.number for line in loss_log.lines if not line.finite]
    if broken and finite and finite[-1].number > broken[-1]:
        said.append(
            f"{counted(len(broken), 'line')} with a loss that is not finite (line {broken[0]}); later ones are finite."
        )
    if reconstruction and reconstruction.raw > 2:
        said.append(
            f"G_L1 / lambda is {reconstruction.raw:.3g}; on [-1, 1] it can't be above 2: another lambda (--lambda-l1), "
            "or images outside [-1, 1]."
        )
    return said
