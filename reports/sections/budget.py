"""What each arm was given: generator updates and images seen, because equal in one is not equal in both."""

from __future__ import annotations

from reports.page import Page
from reports.wording import NOTHING, listed


def budget(page: Page) -> str:
    kinds: dict[tuple[str, str], list[str]] = {}
    for arm in page.order:
        kinds.setdefault(_given(page, arm), []).append(arm)
    if set(kinds) == {(NOTHING, NOTHING)}:
        return ""
    if len(kinds) == 1:
        text = f"Every arm: {_said(*next(iter(kinds)))}."
    else:
        groups = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
        lines = [f"- {_said(*given)}: {_members(arms, first=not i)}" for i, (given, arms) in enumerate(groups)]
        text = "Arms differ in updates or images; differences between them include that.\n\n" + "\n".join(lines)
    return f"## Budget\n\n{text}"


def _said(updates: str, images: str) -> str:
    return f"{updates} generator updates, {images} images seen"


def _members(arms: list[str], *, first: bool) -> str:
    """The largest group is everything that the other lines do not name."""
    return f"the other {len(arms)} arms" if first and len(arms) > 6 else listed(arms, most=40)


def _given(page: Page, name: str) -> tuple[str, str]:
    """As planned; as run where the plan does not say."""
    arm = page.arm(name)
    done = next((run.result for run in page.results.of(name) if run.done), None)
    updates = arm.generator_updates if arm.generator_updates is not None else done and (done.steps or None)
    images = arm.images if arm.images is not None else done and (done.images or None)
    return _count(updates), _count(images)


def _count(number: int | None) -> str:
    return f"{number:,}" if number else NOTHING
