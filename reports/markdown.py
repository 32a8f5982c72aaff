"""The report as markdown: its sections in order."""

from __future__ import annotations

from reports.page import Page
from reports.sections.alarm import alarm
from reports.sections.answer import answer
from reports.sections.beliefs import beliefs
from reports.sections.budget import budget
from reports.sections.checklist import checklist
from reports.sections.effects import effects
from reports.sections.failures import failures
from reports.sections.figures import figures
from reports.sections.health import health
from reports.sections.method import method
from reports.sections.notes import notes
from reports.sections.others import others
from reports.sections.provenance import provenance
from reports.sections.ranking import ranking
from reports.sections.scenes import scenes
from reports.sections.search import search
from reports.wording import escape

SECTIONS = (
    alarm, answer, ranking, beliefs, others, effects, search, scenes, failures, health, figures, budget, notes, method,
    checklist, provenance,
)  # fmt: skip


def markdown(page: Page) -> str:
    """The page; a section without a fact to tell is left out, heading and all."""
    written = [section(page) for section in SECTIONS]
    return "\n\n".join([f"# {escape(page.results.name)}", *filter(None, written)]) + "\n"
