"""The indicators of health in plain words."""

from __future__ import annotations

from collections.abc import Mapping

# Each sentence takes the value; the formulas are in `trainers.health` and `trainers.probe`.
WORDS = {
    "health/accuracy_real": "D takes {:.0%} of real patches for real",
    "health/accuracy_fake": "D takes {:.0%} of generated patches for generated",
    "health/loss_d_normalised": "D's loss stands at {:.3f}, where 0 is its floor and 1 a D that cannot tell",
    "health/separation": "D's outputs on real and generated patches are {:.1f} of their standard deviations apart",
    "health/auc": "a real patch is given the higher output than a generated one in {:.0%} of pairs",
    "health/sign_rate": "mean sign of D's outputs on real patches: {:+.2f} (about 0.6 is aimed at)",
    "health/adversarial_share": "at G's output what comes through D pulls {:.3g} times as hard as the reconstruction",
    "health/adversarial_alone": "at G's output the adversarial loss alone pulls {:.3g} times as hard",
    "health/gradient_g": "norm of G's gradient: {:.3g}",
    "health/gradient_d": "norm of D's gradient: {:.3g}",
    "health/probe_l1": "error of G on the fixed tiles: {:.3f} (L1 on [-1, 1])",
    "health/output_change": "G's output changes between two readings by {:.2%} of that error",
    "health/output_variance": "G's output varies over tiles by {:.1%} of the truth's variance",
    "health/input_use": "G's error is {:.2f} times that against the truth of another tile",
    "health/output_contrast": "G's outputs for two scenes differ by {:.1%} of what their truths do",
    "health/input_variation": "the SAR input varies over tiles by {:.3f} (standard deviation on [-1, 1])",
    "health/identity": "G's output is {:.2f} times as far from the SAR image as from the truth",
    "health/input_distance": "and {:.2f} times as far from the SAR image as a uniform grey",
}


def in_words(evidence: Mapping[str, float]) -> list[str]:
    """One line for each reading, in the order of the table above; others as `name: value`."""
    known = [words.format(evidence[key]) for key, words in WORDS.items() if key in evidence]
    return known + [f"{key}: {value:.4g}" for key, value in evidence.items() if key not in WORDS]
