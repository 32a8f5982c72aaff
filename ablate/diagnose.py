"""What a pix2pix loss log shows about the balance of its two networks.

Sums and bounds from printed losses (`ablate.logits`); the words are in `ablate.diagnose_words`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite, sqrt
from typing import Literal

import numpy as np

from ablate.logits import (
    PLAIN,
    Objective,
    Smoothing,
    entropy,
    floor_and_blind,
    least_fake_loss,
    logit_of_fake,
    logit_of_real,
    mean_fake_logit,
)
from ablate.losslog import Line, LossLog
from ablate.problems import Problem, StudyError, counted, no_such

SMOOTHED = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # targets for real that a log without a word of smoothing may have had
LEAST_REAL = 0.1  # D_real: below, labels can hardly have been smoothed
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
    """Averages of the last part. Logits are raw; `None` is no bound, one that takes an absent loss, or one that
    smoothed labels don't give (a loss then belongs to two logits).

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
    real_logit_at_least: float | None
    fake_logit_at_most: float | None
    fake_logit: float | None  # mean, from G_GAN and D_fake
    logit_gradient_at_least: float | None


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
    smoothing: Smoothing
    lambda_l1: float
    log: LossLog
    part: int
    discriminator: Discriminator | None
    reconstruction: Reconstruction | None
    cautions: tuple[str, ...]


def diagnose(
    loss_log: LossLog, *, objective: Objective = Objective.vanilla, lambda_l1: float = 100.0,
    smoothing: Smoothing = PLAIN,
) -> Diagnosis:  # fmt: skip
    """The verdict on a log; `lambda_l1` (above 0) is the weight that its G_L1 contains, `smoothing` D's targets.

    Raises StudyError for another weight, and for targets that are not 1 >= real > fake >= 0.
    """
    if not 0 <= smoothing[1] < smoothing[0] <= 1:
        found = " ".join(map(str, smoothing))
        expected = "the targets for real and fake, both from 0 to 1, the first above the second"
        raise StudyError([Problem("--smoothing", 0, 0, "", f"found {found}; expected {expected}")])
    if not (lambda_l1 > 0 and isfinite(lambda_l1)):
        raise StudyError([Problem("--lambda-l1", 0, 0, "", f"found {lambda_l1}; expected a number above 0")])
    finite = [line for line in loss_log.lines if line.finite]
    part = finite[-max(LEAST, round(SHARE * len(finite))) :]
    half = 0.5 * 10.0**-loss_log.decimals
    found = _discriminator(part, half, objective, smoothing) if finite else None
    reconstruction = _reconstruction(finite, part, lambda_l1)
    verdict, why = _verdict(loss_log, finite, found, half, objective, smoothing)
    return Diagnosis(
        verdict, why, objective, smoothing, lambda_l1, loss_log, len(part), found, reconstruction,
        tuple(_cautions(loss_log, finite, part, reconstruction) + _smoothed(found, half, objective, smoothing)),
    )  # fmt: skip


def objective_named(name: str) -> Objective:
    """The objective of that name. Raises StudyError, in a sentence, where there is none."""
    if name not in list(Objective):
        raise StudyError([Problem("--objective", 0, 0, "", no_such("objective", name, Objective))])
    return Objective(name)


def _mean(lines: Sequence[Line], name: str) -> float | None:
    values = [line.losses[name] for line in lines if name in line.losses]
    return float(np.mean(values)) if values else None


def _discriminator(
    part: Sequence[Line], half: float, objective: Objective, smoothing: Smoothing
) -> Discriminator | None:  # fmt: skip
    d_real, d_fake, g_gan = (_mean(part, name) for name in ("D_real", "D_fake", "G_GAN"))
    if d_real is None or d_fake is None or min(d_real, d_fake) < -half:
        return None
    d_real, d_fake = max(d_real, 0.0), max(d_fake, 0.0)
    sums = np.array([line.losses["D_real"] + line.losses["D_fake"] for line in part if _has_d(line)])
    floor, blind = floor_and_blind(objective, smoothing)
    scale = blind - floor
    found = Discriminator(
        d_real, d_fake, g_gan, (d_real + d_fake - floor) / scale, (d_real + d_fake + 2 * half - floor) / scale,
        tuple((float(chunk.mean()) - floor) / scale for chunk in np.array_split(sums, min(WINDOWS, len(sums)))),
        None, None, None, None if g_gan is None else mean_fake_logit(d_fake, g_gan, objective, smoothing[1]), None,
    )  # fmt: skip
    if smoothing[0] == PLAIN[0]:
        real = logit_of_real(d_real, objective)
        exact = real if objective is Objective.vanilla and isfinite(real) else None
        found = replace(found, real_logit=exact, real_logit_at_least=logit_of_real(d_real + half, objective))
    if smoothing[1] == PLAIN[1]:
        most = logit_of_fake(d_fake + half, objective)
        # sigmoid(s) <= softplus(s), so 1 - sigmoid(s) averages to at least 1 - D_fake; lsgan: 2 |1 - s|.
        least = max(0.0, 1 - d_fake - half if objective is Objective.vanilla else 2 * (1 - most))
        found = replace(found, fake_logit_at_most=most, logit_gradient_at_least=least)
    return found


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
    loss_log: LossLog, finite: Sequence[Line], found: Discriminator | None, half: float, objective: Objective,
    smoothing: Smoothing,
) -> tuple[Verdict, str]:  # fmt: skip
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
    if (misfit := _misfit(found, objective, smoothing)) is not None:
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


def _misfit(found: Discriminator, objective: Objective, smoothing: Smoothing) -> str | None:
    """A sentence if no logits of this objective give these losses."""
    if found.normalised_at_most < -0.02:
        least, real, fake = floor_and_blind(objective, smoothing)[0], *smoothing
        return (
            f"D_real + D_fake is {found.d_real + found.d_fake:.3f}, and can't be below {least:.3f} with targets "
            f"{real:g} and {fake:g}: were labels smoothed so (--smoothing)?"
        )
    if found.fake_logit is None:
        return None
    least = least_fake_loss(found.fake_logit, objective, smoothing[1])
    # D is updated between the two losses, which moves them apart a little.
    if least <= 2 * found.d_fake + 0.1:
        return None
    other = Objective.lsgan if objective is Objective.vanilla else Objective.vanilla
    return (
        f"D_fake {found.d_fake:.3f} and G_GAN {found.g_gan:.3f} don't fit {objective}, which would give a D_fake of "
        f"at least {least:.3f}: another objective (--objective {other}?), or G_GAN is logged with a weight"
    )


def _smoothed(found: Discriminator | None, half: float, objective: Objective, smoothing: Smoothing) -> list[str]:
    """A word where a plain reading calls D unsure whose D_real is just that of a certain D with a smoothed target."""
    if found is None or objective is not Objective.vanilla or smoothing != PLAIN or found.d_real < LEAST_REAL:
        return []
    target = min(SMOOTHED, key=lambda target: abs(entropy(target) - found.d_real))
    near = abs(entropy(target) - found.d_real) <= max(0.005, half)
    if not near or found.d_fake + half >= DOMINANT or (found.g_gan or 0) < 3:
        return []
    return [
        f"D_real {found.d_real:.3f} beside D_fake {found.d_fake:.3f} is what a certain D shows when its target for "
        f"real is {target:g} ({entropy(target):.3f} is the least it can reach). If labels were smoothed, say so: "
        f"--smoothing {target:g} 0"
    ]


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
