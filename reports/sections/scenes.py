"""Does a difference hold across scenes? Counts, and intervals with scenes as units."""

from __future__ import annotations

from reports.page import Page
from reports.wording import NOTHING, code, table, unbroken


def scenes(page: Page) -> str:
    found = page.analysis.scenes
    shown = [arm for arm in page.rows if arm in found]
    if not shown:
        return ""
    many = max(effect.scenes for effect in found.values())
    head = ["arm", "scenes", "difference, 95 % interval over scenes", "difference, 95 % interval over seeds"]
    rows = [_row(page, arm) for arm in shown]
    return "\n\n".join([
        "## Scenes",
        f"Differences from {code(page.analysis.baseline)} with scenes as units (means over seeds; df = scenes - 1). "
        f"The intervals over seeds above hold for these {many} scenes only; those over scenes ask what other "
        "scenes like these would show, with these seeds. They are not corrected for the number of arms and carry no "
        "verdict.",
        table(head, rows, right=[2, 3]),
    ])  # fmt: skip


def on_scenes(page: Page, arm: str) -> str:
    """`better on 4 of 5 scenes`; empty where scenes are not known."""
    found = page.analysis.scenes.get(arm)
    return f"better on {found.better_on} of {found.scenes} scenes" if found else ""


def _row(page: Page, arm: str) -> list[str]:
    numbers, found, effect = page.numbers, page.analysis.scenes[arm], page.analysis.effect(arm)
    over_scenes = f"{numbers.difference(found.difference)} {unbroken(numbers.interval(found.low, found.high))}"
    over_seeds = NOTHING
    if effect and effect.low is not None:
        over_seeds = f"{numbers.difference(effect.difference)} {unbroken(numbers.interval(effect.low, effect.high))}"
    return [code(arm), on_scenes(page, arm), over_scenes, over_seeds]
