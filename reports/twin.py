"""The A/A check: the baseline run twice, with its own random numbers, must not differ from itself."""

from __future__ import annotations

import numpy as np

from reports.contrasts import NOISY, own_errors
from reports.findings import TwinCheck
from reports.fit import Fit
from reports.maxt import student_p, student_quantile


def twin_check(fitted: Fit, twin: np.ndarray, *, alpha: float) -> TwinCheck | None:
    """Twin minus baseline over their shared seeds, (n,) each; None where they share none.

    The error is the larger of the model's and the pair's own; no interval below three pairs.
    """
    differences = twin - fitted.values[0]
    pairs = int(np.isfinite(differences).sum())
    if not pairs:
        return None
    difference = float(differences[np.isfinite(differences)].mean())
    if pairs < 3 or not fitted.sigma > 0:
        return TwinCheck(difference, None, None, None, pairs, differs=False)
    model = fitted.sigma * np.sqrt(2 / pairs)
    ratio = float(own_errors(differences[None])[0][0] / model)
    se, t = model * max(1.0, ratio), abs(difference) / (model * max(1.0, ratio))
    critical, p = student_quantile(1 - alpha / 2, fitted.nu), float(student_p(t, fitted.nu))
    if ratio**2 > NOISY:
        critical = max(critical, student_quantile(1 - alpha / 2, pairs - 1))
        p = max(p, float(student_p(t, pairs - 1)))
    low, high = float(difference - critical * se), float(difference + critical * se)
    return TwinCheck(difference, low, high, p, pairs, differs=low > 0 or high < 0)
