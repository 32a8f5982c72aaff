"""The report as markdown: its sections in order."""

from __future__ import annotations

from reports.page import Page
from reports.sections.answer import answer
from reports.sections.budget import budget
from reports.sections.failures import failures
from reports.sections.figures import figures
from reports.sections.health import health
from reports.sections.method import method
from reports.sections.notes import notes
from reports.sections.provenance import provenance
from reports.sections.ranking import ranking
from reports.sections.search import search
from reports.wording import escape

SECTIONS = (answer, ranking, search, failures, health, figures, budget, notes, method, provenance)


def markdown(page: Page) -> str:
    written = [section(page) for section in SECTIONS]
    return "\n\n".join([f"# {escape(page.results.name)}", *filter(None, written)]) + "\n"
