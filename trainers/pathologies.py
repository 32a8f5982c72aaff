"""What a sick GAN looks like: one rule for each pathology, over a window of readings.

A rule is asked about means over a window, never about a single reading. The thresholds are conventions, not laws.
Where a paper has one it is named; the others stand a factor outside of what healthy runs show, from start to end,
on synthetic scenes at 32 and 64 px (tests/trainers/test_sick_gans.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

DOMINANT_ACCURACY = 0.95  # of D on real and on fake; Arjovsky and Bottou, 2017, arxiv.org/abs/1701.04862: a perfect D
DOMINANT_LOSS, BLIND_LOSS = 0.05, 0.95  # D's loss, 0 at its floor and 1 for a blind D
DOMINANT_SEPARATION = 4.0  # pooled sd between D's means: two normals that overlap in 5 % of their mass
NO_SIGNAL, OVERRUN = 0.01, 10.0  # adversarial gradient at G's output, in units of the reconstruction's
VANISHED, EXPLODED = 0.01, 10.0  # gradient norm, in units of its median over the first 10 % of the stage
D_EXPLODED = 100.0  # D starts blind, at small gradients: healthy ones rise as it learns to tell, without norm 80-fold
RANKS = 0.6  # AUC of a D that is not blind, whatever its loss: lsgan's stands above a blind one's while D learns
IMMOBILE = 1e-3  # output change a reading, in units of its error: 5 % over a run of 50 readings
COLLAPSED = 0.1  # output variance, in units of the truth's; healthy runs start at 0.01 (batch norm: 1e-4) and rise
CONSTANT = 1e-3  # output variance of a generator that gives one image; an untrained one has 0.01 by its own statistics
SPAN = 3  # windows over which a generator that learns shows it, by one of these two:
IMPROVED, RISING = 0.99, 1.25  # best L1 and output variance, in units of those a span ago
GAINED, LOST = 2.0, 0.5  # variance, in units of its first, and of its greatest: slow learners have gained and not lost
UNUSED_INPUT, UNUSED_CONTRAST = 0.98, 0.1  # input use, with the contrast of outputs
COPIED = 0.7  # distance to the SAR input, in units of a uniform image's; healthy runs have 0.80 to 2.1
SAME_INPUT = 0.01  # sd of the SAR input over tiles, on [-1, 1]: about a grey level of 8 bits
OSCILLATING = 0.25  # CV of the probe's L1 about its trend
DIVERGED = 1.5  # moving average of the probe's L1, in units of its best


@dataclass(frozen=True)
class Seen:
    """A window of readings: means, and what they are compared with. A value that was not read is NaN."""

    means: Mapping[str, float]
    past: Sequence[Mapping[str, float]]  # means of the first 10 % of the budget, and of each window since
    early: Mapping[str, float]  # medians over the first 10 % of the stage
    fluctuation: float  # CV of the probe's L1 about its Theil-Sen trend
    excess: float  # moving average of the probe's L1, in units of its best

    def __getitem__(self, name: str) -> float:
        return self.means.get(f"health/{name}", math.nan)

    def change(self, name: str) -> float:
        """Of a mean since the first 10 % of the stage."""
        return _over(self[name], self.early.get(f"health/{name}", math.nan))

    def growth(self, name: str, *, span: int) -> float:
        """Of a mean since that many windows ago, as far as there are so many."""
        values = self._past(name)[1:]
        return _over(self[name], values[-span:][0]) if values else math.nan

    def gain(self, name: str) -> float:
        """Of a mean since the first 10 % of the budget."""
        return _over(self[name], self._past(name)[0]) if self._past(name) else math.nan

    def improvement(self, name: str) -> float:
        """The least of a mean so far, in units of the least of SPAN windows ago."""
        values = self._past(name)
        return _over(min(*values, self[name]), min(values[: max(len(values) - SPAN + 1, 1)])) if values else math.nan

    def greatest(self, name: str) -> float:
        """Of a mean in any window so far."""
        return max([*self._past(name)[1:], self[name]])

    def _past(self, name: str) -> list[float]:
        return [means[f"health/{name}"] for means in self.past if f"health/{name}" in means]


def _over(value: float, unit: float) -> float:
    return value / unit if unit else math.nan


@dataclass(frozen=True)
class Pathology:
    """`says` continues the title, which is how reports count it. `reads` names what the rule rests on, and the
    evidence that is kept; a window in which nothing of it was read says nothing. What is said `of_weights` is said
    anew in each stage, others of the output or of D go on.
    """

    kind: str
    title: str
    reads: tuple[str, ...]
    shows: Callable[[Seen], bool]
    says: Callable[[Seen], str]
    of_weights: bool = False


def _learns(seen: Seen) -> bool:
    """Whether variety grows, or the error falls: by more than the colour of one image for all, which is learnt, too."""
    falls = seen.improvement("probe_l1") < IMPROVED and not seen["output_variance"] < CONSTANT
    return falls or seen.growth("output_variance", span=SPAN) > RISING


def _immobile(seen: Seen) -> bool:
    return seen["output_change"] < IMMOBILE and not seen["output_variance"] < CONSTANT


def _collapsed(seen: Seen) -> bool:
    """Output alike for inputs that differ, where it was not once, or where nothing is learnt any more. An untrained
    generator that does not move has not collapsed.
    """
    variance = seen["output_variance"]
    if not (variance < COLLAPSED and seen["input_variation"] > SAME_INPUT) or _immobile(seen):
        return False
    if seen.greatest("output_variance") > COLLAPSED and variance < LOST * seen.greatest("output_variance"):
        return True
    return not (_learns(seen) or seen.gain("output_variance") > GAINED)


def _input_ignored(seen: Seen) -> bool:
    return seen["input_use"] > UNUSED_INPUT and seen["output_contrast"] < UNUSED_CONTRAST


def _identity(seen: Seen) -> bool:
    """Nearer to the input than to the truth. So is a blurred or uniform image, hence also: it follows the input."""
    return seen["identity"] < 1 and seen["input_distance"] < COPIED


def _d_dominant(seen: Seen) -> bool:
    if math.isnan(seen["accuracy_real"]):  # no decision point: WGAN
        return seen["separation"] > DOMINANT_SEPARATION
    right = min(seen["accuracy_real"], seen["accuracy_fake"])
    return right > DOMINANT_ACCURACY or seen["loss_d_normalised"] < DOMINANT_LOSS


def _no_signal(seen: Seen) -> bool:
    return seen["adversarial_share"] < NO_SIGNAL or seen.change("gradient_g") < VANISHED


def _exploding(seen: Seen) -> bool:
    return seen.change("gradient_g") > EXPLODED or seen.change("gradient_d") > D_EXPLODED


def _alone(seen: Seen) -> float:
    """Without feature matching, which also comes through D, and draws to the truth."""
    return seen["adversarial_share"] if math.isnan(seen["adversarial_alone"]) else seen["adversarial_alone"]


def _says_d_dominant(seen: Seen) -> str:
    if math.isnan(seen["accuracy_real"]):
        return f"its outputs on real and fake are {seen['separation']:.1f} of their standard deviations apart"
    right = f"right on {min(seen['accuracy_real'], seen['accuracy_fake']):.0%} of real and fake patches"
    loss = seen["loss_d_normalised"]
    return right if math.isnan(loss) else f"{right}, its loss at {loss:.2f} of a blind one's"


def _says_no_signal(seen: Seen) -> str:
    share, change = seen["adversarial_share"], seen.change("gradient_g")
    if share < NO_SIGNAL:
        return f"at G's output the adversarial gradient is {share:.2%} of the reconstruction's"
    return f"G's gradient norm is {change:.2%} of what it was in the first 10 % of the stage"


def _says_exploding(seen: Seen) -> str:
    name = "G" if seen.change("gradient_g") > EXPLODED else "D"
    return f"{name}'s gradient norm is {seen.change(f'gradient_{name.lower()}'):.0f} times that of the first 10 %"


D_READS = ("accuracy_real", "accuracy_fake", "loss_d_normalised", "separation", "sign_rate", "auc")
PROBE_READS = ("output_variance", "input_use", "output_contrast", "input_variation")

# The first that was found is the diagnosis: what ends training, then what is wrong with the output, causes before
# their effects. A D that beats a sick G says little about D; a D that wins can be why the signal vanishes.
PATHOLOGIES = (
    Pathology(
        "diverged", "Training diverged", ("probe_l1",),
        lambda seen: seen.excess > DIVERGED,
        lambda seen: f"L1 on the probe, smoothed, is {seen.excess:.1f} times its best",
    ),
    Pathology(
        "vanishing", "The signal vanishes", ("output_change", "output_variance"),
        _immobile,
        lambda seen: f"G's output stands still, it changes by {seen['output_change']:.2%} of its error a reading",
    ),
    Pathology(
        "input_ignored", "G ignores its input", ("input_variation", "input_use", "output_contrast"),
        lambda seen: _input_ignored(seen) and not seen["input_variation"] > SAME_INPUT,
        lambda seen: "the input is the same on all tiles of the probe, and so is the output",
    ),
    Pathology(
        "collapsed", "G has collapsed", PROBE_READS,
        _collapsed,
        lambda seen: f"its output varies over tiles by {seen['output_variance']:.1%} of the truth's variance",
    ),
    Pathology(
        "input_ignored", "G ignores its input", PROBE_READS,
        lambda seen: _input_ignored(seen) and seen["input_variation"] > SAME_INPUT and not _learns(seen),
        lambda seen: f"its error against another tile's truth is as large ({seen['input_use']:.2f}), and its outputs "
        f"differ by {seen['output_contrast']:.1%} of what the truths do",
    ),
    Pathology(
        "identity", "G copies its input", ("identity", "input_distance"),
        _identity,
        lambda seen: f"its output is nearer to the SAR image than to the truth ({seen['identity']:.2f} of the error)",
    ),
    Pathology("d_dominant", "D dominates", D_READS, _d_dominant, _says_d_dominant),
    Pathology(
        "vanishing", "The signal vanishes", ("adversarial_share", "gradient_g"),
        _no_signal, _says_no_signal, of_weights=True,
    ),
    Pathology(
        "exploding", "Gradients explode", ("gradient_g", "gradient_d"), _exploding, _says_exploding, of_weights=True
    ),
    Pathology(
        "oscillating", "G oscillates", ("probe_l1",),
        lambda seen: seen.fluctuation > OSCILLATING,
        lambda seen: f"L1 on the probe fluctuates by {seen.fluctuation:.0%} about its trend",
    ),
    Pathology(
        "overrun", "The adversarial part overruns", ("adversarial_share",),
        lambda seen: _alone(seen) > OVERRUN,
        lambda seen: f"at G's output its gradient is {_alone(seen):.0f} times the reconstruction's",
        of_weights=True,
    ),
    Pathology(
        "d_blind", "D is blind", D_READS,
        lambda seen: seen["loss_d_normalised"] > BLIND_LOSS and not seen["auc"] > RANKS,
        lambda seen: f"its loss is {seen['loss_d_normalised']:.2f} of that of a D which cannot tell real from fake",
    ),
)  # fmt: skip
