"""What a G_L1 means on a data set: the weighted L1 of three predictors that learn nothing of structure.

The same references as in reports (`trainers.references`, on all validation tiles by torch); here in numpy, on a
sample, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainers.checks.alignment import partners

LAMBDA = 100.0  # pix2pix's weight of L1; images span 2

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # SAR and optical (C, H, W) in [-1, 1], valid (H, W)


def baselines(train: Sequence[Sample], judged: Sequence[Sample], scenes: Sequence[str]) -> dict[str, float] | None:
    """Weighted G_L1 of the mean colour and the linear map of `train`, and of a random partner, on `judged`.

    `scenes` names those of `judged`. None where one of the two is empty or has no valid pixel.
    """
    judged, train = ([sample for sample in samples if sample[2].any()] for samples in (judged, train))
    if not train or not judged:
        return None
    inputs, targets = (np.concatenate(parts, axis=1) for parts in zip(*map(_pixels, train), strict=True))
    colour = targets.mean(axis=1)[:, None]
    design = np.vstack([inputs, np.ones(inputs.shape[1])])
    weights = np.linalg.lstsq(design @ design.T, design @ targets.T, rcond=None)[0]
    errors: dict[str, list[float]] = {"mean_colour": [], "linear_map": []}
    for sample in judged:
        sar, optical = _pixels(sample)
        errors["mean_colour"].append(float(np.abs(optical - colour).mean()))
        mapped = np.clip(weights.T @ np.vstack([sar, np.ones(sar.shape[1])]), -1, 1)
        errors["linear_map"].append(float(np.abs(optical - mapped).mean()))
    found = {name: LAMBDA * float(np.mean(values)) for name, values in errors.items()}
    return found | _random_partner(judged, scenes)


def _random_partner(judged: Sequence[Sample], scenes: Sequence[str]) -> dict[str, float]:
    errors = []
    for order in partners(scenes):
        for own, other in zip(judged, (judged[index] for index in order), strict=True):
            both = own[2] & other[2]
            if both.any():
                errors.append(float(np.abs(own[1] - other[1])[:, both].mean()))
    return {"random_partner": LAMBDA * float(np.mean(errors))} if errors else {}


def _pixels(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Valid pixels of SAR and optical: (C, N) each, float64."""
    sar, optical, mask = sample
    return sar[:, mask].astype(np.float64), optical[:, mask].astype(np.float64)
