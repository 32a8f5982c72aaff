"""Results to statistics to figures to markdown: pure functions of study folders."""
