"""A diagnosis in plain words and as a JSON document: what the losses show, and what they can't."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import Any

from ablate.diagnose import (
    ADDED_BY_SHIFT,
    MEAN_COLOUR,
    RANDOM_PARTNER,
    TILE_SAMPLING,
    Diagnosis,
    Discriminator,
    Reconstruction,
    Verdict,
)
from ablate.logits import PLAIN, Objective
from ablate.losslog import counted

STUDY = "stabilizer.yaml"
RUN = f"ablate run studies/{STUDY} --set name=mine --set 'base.data={{layout: folders, root: DATA, tile: 256}}'"
WIDTH = 110


@dataclass(frozen=True)
class Aim:
    """Levels of one factor of the shipped study, and what they are meant to do."""

    factor: str
    levels: tuple[str, ...]
    meant: str


_WEIGHT = Aim("lambda_l1", ("10", "50", "200"), "shifts weight between L1 and the adversarial part, both ways")
_STRUCTURE = Aim(
    "loss", ("ssim", "charbonnier", "l1_ssim", "charbonnier_ssim", "l1_gradient"),
    "changes what the generator is asked to reconstruct, for structure",
)  # fmt: skip
_BOUNDED = Aim("norm_d", ("spectral",), "bounds how steep the discriminator can become")
AIMS: Mapping[Verdict, tuple[Aim, ...]] = {
    Verdict.dominant: (
        Aim("lr_ratio", ("half", "quarter", "tenth"), "slows the discriminator"),
        Aim("smoothing", ("both", "real_only"), "makes certainty cost the discriminator (and moves its losses' floor)"),
        _BOUNDED,
        Aim("updates", ("two_g",), "gives the generator two updates for each of the discriminator's"),
        Aim("objective", ("hinge", "wgan_gp"), "takes the gain out of certainty, or bounds the critic's gradient"),
        _WEIGHT,
    ),
    Verdict.blind: (
        Aim("norm_d", ("batch", "sync_batch", "spectral"), "changes how the discriminator is normalised"),
        Aim("objective", ("hinge", "wgan_gp"), "changes what the discriminator learns from"),
        _WEIGHT,
    ),
    Verdict.balanced: (_STRUCTURE, _WEIGHT),
    Verdict.diverged: (
        Aim("lr_ratio", ("half", "quarter", "tenth"), "slows the discriminator"),
        _BOUNDED,
        Aim("objective", ("wgan_gp",), "bounds the critic's gradient"),
    ),
    Verdict.undecided: (),
}  # fmt: skip
BESIDE: Mapping[Verdict, str] = {
    Verdict.blind: "lr_ratio, smoothing and updates hold the discriminator back; they are not meant for this.",
    Verdict.diverged: "No level lowers the generator's rate: --set base.optimizer.lr=1e-4 does, for all arms. Look "
    "for values that are not finite in the images first.",
}
HEADLINES: Mapping[Verdict, str] = {
    Verdict.dominant: "D dominant: the discriminator tells real from generated patches almost without error",
    Verdict.balanced: "balanced: neither network has won, as far as the losses show",
    Verdict.blind: "G winning (blind): the discriminator tells real from generated patches no better than a coin",
    Verdict.diverged: "diverged: the training has left the values it can learn from",
    Verdict.undecided: "undecided: these losses can't be read as D's",
}
CANNOT_TELL = (
    "the adversarial share: how much of the generator's gradient comes from D rather than from L1",
    "gradient norms of G and D, and with them whether the adversarial signal vanishes",
    "input use: whether the output depends on the SAR at all",
    "output variance: whether different inputs give different outputs",
    "misregistration of the pairs, and whether they are pairs",
)


@cache
def study_levels() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """factor -> level -> changes, of the study that comes with the package."""
    from ablate.yamlfile import read_yaml

    return read_yaml(files("studies").joinpath(STUDY).read_bytes(), name=STUDY).data["factors"]


def levels(verdict: Verdict) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(`factor=level`, what it is meant to do, what it changes) for each level meant for a verdict."""
    known = study_levels()
    return [
        (f"{aim.factor}={name}", aim.meant, known[aim.factor][name]) for aim in AIMS[verdict] for name in aim.levels
    ]


def document(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis for JSON: finite numbers, None or text only."""
    log = found.log
    read = {
        "lines": len(log.lines), "part": found.part, "earlier_runs": log.earlier_runs,
        "earlier_lines": log.earlier_lines, "headers": log.headers, "torn": log.torn, "foreign": log.foreign,
        "first_left_out": log.first_left_out,
    }  # fmt: skip
    whole = {
        "verdict": str(found.verdict), "why": found.why,
        "objective": str(found.objective), "smoothing": found.smoothing, "lambda_l1": found.lambda_l1, "read": read,
        "discriminator": found.discriminator and asdict(found.discriminator),
        "reconstruction": found.reconstruction
        and asdict(found.reconstruction) | {"direction": found.reconstruction.direction},
        "cannot_tell": CANNOT_TELL, "cautions": found.cautions,
        "study": STUDY,
        "levels": [{"level": name, "meant": meant, "changes": to} for name, meant, to in levels(found.verdict)],
    }  # fmt: skip
    return _finite(whole)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def describe(found: Diagnosis) -> str:
    """The diagnosis as people read it."""
    parts = [
        (f"{HEADLINES[found.verdict]}.", [f"Evidence: {found.why}.", _read(found), *found.cautions]),
        (f"The discriminator ({found.objective}, {_labels(found)})", _discriminator(found)),
        (f"The reconstruction (lambda {found.lambda_l1:g})", _reconstruction(found.reconstruction, found.lambda_l1)),
        ("What losses alone can't tell", list(CANNOT_TELL)),
        (f"Levels of studies/{STUDY} that are meant for this", _levels(found.verdict)),
    ]
    said = "\n\n".join("\n".join([title, *map(_item, lines)]) for title, lines in parts if lines)
    return f"{said}\n\n    {RUN}" if AIMS[found.verdict] else said  # a command is never wrapped


def _item(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _read(found: Diagnosis) -> str:
    log, last = found.log, found.log.lines[-1]
    said = f"Read: {counted(len(log.lines), 'loss line')}, to epoch {last.epoch}; averages are of the last {found.part}"
    said += " finite ones." if any(not line.finite for line in log.lines) else "."
    if log.earlier_runs:
        said += f" {counted(log.earlier_lines, 'line')} of {counted(log.earlier_runs, 'earlier run')} left out."
    if left := log.torn + log.foreign:
        said += f" {counted(left, 'line')} left out ({log.torn} torn, {log.foreign} of something else; first: line"
        said += f" {log.first_left_out})."
    return said


def _discriminator(found: Diagnosis) -> list[str]:
    d, shown = found.discriminator, f".{found.log.decimals}f"
    if d is None or found.verdict is Verdict.undecided:
        return []
    said = [f"D_real {d.d_real:{shown}}{_real_logit(d)}.", f"D_fake {d.d_fake:{shown}}{_fake_logit(d, shown)}."]
    said.append(
        f"Normalised D loss (0 certain, 1 blind): {d.normalised:.3f}, at most {d.normalised_at_most:.3f} as printed."
    )
    return [*said, _gradient(d, found)]


def _labels(found: Diagnosis) -> str:
    if found.smoothing == PLAIN:
        return "labels not smoothed"
    return "labels smoothed to {:g} and {:g}".format(*found.smoothing)


def _real_logit(d: Discriminator) -> str:
    if d.real_logit_at_least is None:
        return ", of a smoothed target: two logits give it"
    exact = f"about {d.real_logit:.1f} if exact, " if d.real_logit is not None else ""
    return f": a mean logit of {exact}at least {d.real_logit_at_least:.2f} as printed"


def _fake_logit(d: Discriminator, shown: str) -> str:
    said = []
    if d.fake_logit_at_most is not None:
        said.append(f"a mean logit of at most {d.fake_logit_at_most:.2f} as printed")
    if d.fake_logit is not None:
        subject = "it is" if said else "the mean logit is"
        said.append(f"with G_GAN {d.g_gan:{shown}} {subject} about {d.fake_logit:.2f}")
    return f": {'; '.join(said)}" if said else ", of a smoothed target: two logits give it"


def _gradient(d: Discriminator, found: Diagnosis) -> str:
    least = d.logit_gradient_at_least
    if least is None:
        return (
            "Whether the generator's gradient vanishes before it reaches the output can't be decided from losses, only "
            "from the adversarial share and gradient norms."
        )
    if found.objective is Objective.vanilla:
        kind, size = "With the non-saturating loss", f"of at most -1 it keeps at least {least:.4f}"
    else:
        kind, size = "With least squares", f"its size is at least {least:.2f}"
    still = "is still about -1" if found.objective is Objective.vanilla and least > 0.95 else "is not small"
    if least < 0.5:
        still = "can be small or large here"
    return (
        f"{kind} the generator's gradient at the logits {still} ({size}): whether it vanishes before it reaches the "
        "output can't be decided from losses, only from the adversarial share and gradient norms."
    )


def _reconstruction(r: Reconstruction | None, lambda_l1: float) -> list[str]:
    if r is None:
        return []
    said = [
        f"G_L1 {r.weighted:.2f} is weighted: {r.raw:.3f} on [-1, 1] with lambda {lambda_l1:g}, {r.of_255:.1f} of 255.",
    ]
    return [*said, *_fluctuation(r), *_references(r, lambda_l1)]


def _fluctuation(r: Reconstruction) -> list[str]:
    if r.cv is None or r.trend is None:
        return ["Fluctuation and trend: too few lines."]
    low, slope, high = r.trend
    trend = {"falls": "falls", "rises": "rises", "none": "has no trend"}[r.direction]
    least, most = TILE_SAMPLING
    if r.cv <= most:
        judged = "so these per-minibatch lines can be explained by the choice of tiles alone, and show no oscillation"
        judged += " by themselves"
    else:
        judged = "so this is more than the choice of tiles explains at batch 1"
    return [
        f"It fluctuates by a CV of {r.cv:.2f} (median of {counted(r.cv_windows, 'window')} of the second half). Tile "
        f"sampling alone gives {least} to {most} at batch 1 (less in larger batches, by the root of their size), "
        f"{judged}. Only a fixed probe tells.",
        f"In the second half it {trend}: {slope:+.0f} % over it (95 %: {low:+.0f} to {high:+.0f}; Theil-Sen).",
    ]


def _references(r: Reconstruction, lambda_l1: float) -> list[str]:
    scale = lambda_l1 / 100
    colour, partner = MEAN_COLOUR * scale, RANDOM_PARTNER * scale
    shifts = "/".join(f"{cost * scale:.3g}" for cost in ADDED_BY_SHIFT.values())
    pixels = "/".join(map(str, ADDED_BY_SHIFT))
    said = (
        f"References at this lambda, from other real tiles: mean colour alone costs {colour:.3g}, a random partner "
        f"{partner:.3g}, a shift of {pixels} px adds about {shifts}."
    )
    if r.weighted <= partner:
        where = "above mean colour" if r.weighted > colour else "below mean colour"
        return [f"{said} Yours is {where}; scenes differ, so measure these on your own pairs."]
    stuck = "that stays there (yours still falls)" if r.direction == "falls" else "stuck there"
    return [
        f"{said} Yours is above a random partner: a G_L1 {stuck} points to range (scaling of either side), wrong "
        "pairs, dates or difficult scenes rather than to a pixel of shift."
    ]


def _levels(verdict: Verdict) -> list[str]:
    said = [f"{', '.join(f'{aim.factor}={name}' for name in aim.levels)}: {aim.meant}." for aim in AIMS[verdict]]
    if said:
        said += [BESIDE[verdict]] if verdict in BESIDE else []
        said.append(
            "What is meant to help may not: the study runs each against the base with equal seeds and says which "
            "differences the data can separate. On your own pairs, in DATA/sar and DATA/optical:"
        )
    return said
