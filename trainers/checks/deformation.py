"""Local deformation: how the shift between SAR and optical changes over a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_PLACES = 6  # twice what determines the map
ROUNDS = 30
SCALE = 2.385  # of Cauchy weights, in standard deviations: 95 % efficient without outliers (Holland and Welsch, 1977)
LEAST = 0.05  # px: shifts are not known better


@dataclass(frozen=True)
class Affine:
    """(dy, dx) = matrix (2, 3) @ (y, x, 1), in px; `residual` is the median distance in px of the shifts from it."""

    matrix: np.ndarray
    residual: float


def fit_affine(places: np.ndarray, shifts: np.ndarray) -> Affine | None:
    """The affine map from places (N, 2; y, x in px) to shifts (N, 2; dy, dx in px); up to a quarter may be wrong.

    Least squares, reweighted by Cauchy's function until settled. None below six places or where all lie on one line.
    """
    places, shifts = (np.asarray(each, float).reshape(-1, 2) for each in (places, shifts))
    if len(places) < MIN_PLACES:
        return None
    centre, size = places.mean(axis=0), places.std(axis=0).max()
    design = np.column_stack([(places - centre) / (size or 1.0), np.ones(len(places))])
    if np.linalg.matrix_rank(design, tol=1e-3 * np.sqrt(len(places))) < 3:
        return None
    start = np.median(shifts, axis=0)
    distances = np.hypot(*(shifts - start).T)
    solution = np.zeros((3, 2))
    for _ in range(ROUNDS):
        spread = max(1.2 * np.median(distances), LEAST)  # a median distance of 0.85 is a deviation of 1 on each axis
        root = np.sqrt(1 / (1 + (distances / (SCALE * spread)) ** 2))[:, None]
        solution = np.linalg.lstsq(root * design, root * shifts, rcond=None)[0]
        distances = np.hypot(*(shifts - design @ solution).T)
    slopes = solution[:2].T / size
    return Affine(np.column_stack([slopes, solution[2] - slopes @ centre]), float(np.median(distances)))
