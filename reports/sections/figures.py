"""The figures with captions that say what is and is not shown."""

from __future__ import annotations

from collections import Counter

from reports.page import Page
from reports.wording import code, escape


def figures(page: Page) -> str:
    parts = [
        f"### {title}\n\n![{title}](figures/{name})\n\n{caption(page)}"
        for name, (title, caption) in CAPTIONS.items()
        if name in page.figures
    ]
    return "\n\n".join(["## Figures", *parts]) if parts else ""


def _forest(page: Page) -> str:
    text = f"Difference from {code(page.analysis.baseline)}, in the order of the table; small marks are single seeds. "
    if all(effect.low is None for effect in page.analysis.effects):
        return text + "Points only: these runs support no interval."
    return text + (
        "Bars are simultaneous 95 % intervals; a bar that reaches 0 is unresolved. In the shaded band lie "
        "differences that this study finds with less than 80 % probability."
    )


def _pictures(page: Page) -> str:
    tiles = ", ".join(code(name) for name in page.grid.tiles)
    seeds = Counter(page.grid.seeds.values())
    usual = min(seeds, key=lambda seed: (-seeds[seed], seed))
    others = ", ".join(f"{code(arm)} {seed}" for arm, seed in page.grid.seeds.items() if seed != usual)
    shown = f"seed {usual}" + (f", but {others}" if others else "")
    return f"Tiles fixed before training: {tiles}. Each arm by its median seed: {shown}."


def _slopes(page: Page) -> str:
    shared = ": same data order, same initial weights of shared parts" if page.results.hash else ""
    return (
        f"Each line is one seed, from {code(page.analysis.baseline)} to the arm{shared}. "
        "Parallel lines mean that seeds agree."
    )


def _curves(page: Page) -> str:
    label, split = escape(page.results.metric.label), escape(page.results.split)
    return (
        f"{label} on the {split} split against images seen, all seeds. The scale is that of the later half of the "
        "finished runs; earlier readings may lie outside."
    )


CAPTIONS = {
    "forest.png": ("Forest plot", _forest),
    "slopes.png": ("Per-seed slopes", _slopes),
    "curves.png": ("Learning curves", _curves),
    "pictures.png": ("Picture grid", _pictures),
}
