"""What a reader has to know before anything else: the study's own check of itself has failed."""

from __future__ import annotations

from reports.findings import TwinCheck
from reports.page import Page
from reports.wording import code, count, p_value


def alarm(page: Page) -> str:
    twin = page.analysis.twin
    if twin is None or not twin.differs:
        return ""
    base = code(page.analysis.baseline)
    return (
        f"> **WARNING: {base} differs from its own A/A twin by {twin_difference(page, twin)}.** "
        "Both have the same recipe, the same seeds and the same data order; only their random streams differ. The "
        "numbers of this study move by more than its intervals allow for: rely on no comparison below until it is "
        f"known why. (Such a check raises a false alarm in about {100 * page.analysis.alpha:.0f} of 100 studies.)"
    )


def twin_difference(page: Page, twin: TwinCheck) -> str:
    """The twin minus the baseline, with interval and p where there are any."""
    said = f"{page.numbers.difference(twin.difference)}{page.numbers.suffix}"
    if twin.low is not None:
        said += f" {page.numbers.interval(twin.low, twin.high)}"
    p = f"{p_value(twin.p)}, " if twin.p is not None else ""
    return f"{said} ({p}{count(twin.pairs, 'seed')})"
