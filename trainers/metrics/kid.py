"""KID: squared maximum mean discrepancy of Inception features of the generated and the real tiles; one number for the
whole set.

Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401. Unbiased, whatever the number of images, and so below 0 at
times; the kernel is (x'y / d + 1)^3. The mean over 100 subsets of at most 1,000 images, smaller than the set, drawn
alike for every arm and seed. Needs torch-fidelity and a weights file.
"""

from __future__ import annotations

from trainers.metrics import _inception

GOAL, LABEL, UNIT = "min", "KID", ""
SET = True
SUBSETS, SUBSET = 100, 1000
BLOCK = 1024  # rows of the kernel at a time

features = _inception.features
unavailable = _inception.unavailable


def subset_size(images: int) -> int:
    """Images in a subset: below the number of images that there are."""
    return min(SUBSET, images - 1)


def build():
    import numpy as np

    from trainers.streams import numpy_generator

    def kernel(products, width):
        return (products / width + 1) ** 3

    def total(x, y, in_x, in_y):
        """Kernel values summed over all pairs of all subsets: each pair counts as often as a subset holds both."""
        rows = [slice(start, start + BLOCK) for start in range(0, len(x), BLOCK)]
        return sum((kernel(x[r] @ y.T, x.shape[1]) * (in_x[:, r].T @ in_y)).sum() for r in rows)

    def within(x, members):
        """As `total`, of a set with itself, without the pairs of an image with itself."""
        return total(x, x, members, members) - (kernel(np.square(x).sum(axis=1), x.shape[1]) * members).sum()

    def kid(fake, real):
        """Features (n, d) and (n, d) -> the mean over subsets of unbiased MMD^2; NaN with fewer than three images."""
        size, draw = subset_size(len(real)), numpy_generator(0, "kid")
        if size < 2:
            return float("nan")
        fake, real = fake.astype(np.float64), real.astype(np.float64)
        members = np.zeros((2, SUBSETS, len(real)))  # of fake and real, by subset
        for subset in range(SUBSETS):
            for of in range(2):
                members[of, subset, draw.choice(len(real), size, replace=False)] = 1
        inside = (within(fake, members[0]) + within(real, members[1])) / (size * (size - 1))
        return float(inside - 2 * total(fake, real, *members) / size**2) / SUBSETS

    return kid
