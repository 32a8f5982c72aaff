"""FID: Fréchet distance between Inception features of the generated and the real tiles; one number for the whole set.

Heusel et al., 2017, https://arxiv.org/abs/1706.08500. Biased upwards in small sets: with fewer than 2,048 images it
compares arms of one study and nothing else. Needs torch-fidelity and a weights file.
"""

from __future__ import annotations

from trainers.metrics import _inception

GOAL, LABEL, UNIT = "min", "FID", ""
SET = True
FEWEST = 2048  # images: below, the covariance of 2,048 features has not even full rank

features = _inception.features
unavailable = _inception.unavailable


def caution(images: int) -> str | None:
    if images >= FEWEST:
        return None
    return (
        f"FID is of {images:,} images, fewer than {FEWEST:,}: it is biased upwards, "
        "and compares with no FID of another set"
    )


def build():
    import numpy as np

    def root(features):
        """(n, d) -> A (min(n, d), d) whose A'A is the covariance of the features."""
        centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
        return np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred

    def fid(fake, real):
        """Features (n, d) and (m, d) -> the distance, at least 0; NaN with fewer than two images.

        The trace of (S T)^(1/2) is the sum of the singular values of A B' for covariances S = A'A and T = B'B: no
        square root of a product that has no full rank.
        """
        if min(len(fake), len(real)) < 2:
            return float("nan")
        fake, real = fake.astype(np.float64), real.astype(np.float64)
        a, b = root(fake), root(real)
        apart = np.square(fake.mean(axis=0) - real.mean(axis=0)).sum()
        spread = np.square(a).sum() + np.square(b).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
        return max(0.0, float(apart + spread))

    return fid
