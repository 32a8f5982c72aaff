"""The page of parts is what the parts themselves say."""

from __future__ import annotations

import os
from pathlib import Path

from ablate.parts import HEADINGS, markdown
from trainers.families import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "parts.md"


def test_the_page_is_up_to_date():
    if os.environ.get("ABLATE_REGENERATE"):
        PAGE.write_text(markdown())
    assert PAGE.read_text() == markdown(), "run: python -m ablate.parts > docs/parts.md"


def test_every_part_and_metric_is_on_the_page():
    page = markdown()
    for _, _, family in HEADINGS:
        assert all(f"### {name}\n" in page for name in family.names())
    assert all(f"| `{name}` |" in page for name in METRICS.names())
