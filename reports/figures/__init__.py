"""Figures of a report: each module draws one, as PNG bytes that depend on nothing but its input."""
