"""Sections of a report: each module writes one from a page, as markdown; an empty text leaves it out."""
