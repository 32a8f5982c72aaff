"""What each arm was given: generator updates and images seen, because equal in one is not equal in both."""

from __future__ import annotations

from reports.page import Page
from reports.wording import NOTHING, code, table


def budget(page: Page) -> str:
    rows = {arm.name: _given(page, arm.name) for arm in page.results.arms}
    kinds = set(rows.values())
    if len(kinds) == 1:
        updates, images = kinds.pop()
        text = f"Every arm: {updates} generator updates, {images} images seen."
    else:
        body = [[code(name), *rows[name]] for name in page.order]
        text = "Arms differ in one of the two; differences between them include that.\n\n" + table(
            ["arm", "generator updates", "images seen"], body, right=[1, 2]
        )
    return f"## Budget\n\n{text}"


def _given(page: Page, name: str) -> tuple[str, str]:
    """As planned; as run where the plan does not say."""
    arm = page.arm(name)
    done = next((run.result for run in page.results.of(name) if run.done), None)
    updates = arm.generator_updates if arm.generator_updates is not None else done and done.steps
    images = arm.images if arm.images is not None else done and done.images
    return _count(updates), _count(images)


def _count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"
