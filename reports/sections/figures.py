"""The figures with captions that say what is and is not shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from reports.page import PANELS, ROWS, Page
from reports.sections.claims import role
from reports.wording import code, count, escape, listed

Caption = Callable[[Page], str]


def figures(page: Page) -> str:
    parts = shown(page, CAPTIONS)
    return "\n\n".join(["## Figures", *parts]) if parts else ""


def shown(page: Page, captions: Mapping[str, tuple[str, Caption]]) -> list[str]:
    """Heading, picture and caption of each figure that could be drawn."""
    metric, arms = escape(page.results.metric.label), count(page.analysis.k, "arm")
    return [
        f"### {title}\n\n![{title}, {metric}, {arms}: described below](figures/{name})\n\n{caption(page)}"
        for name, (title, caption) in captions.items()
        if name in page.figures
    ]


def _forest(page: Page) -> str:
    text = f"Difference from {code(page.analysis.baseline)}, in the order of the table; small marks are single seeds. "
    text += _excerpt(page, ROWS)
    if all(effect.low is None for effect in page.analysis.effects):
        return text + "Points only: these runs support no interval."
    return text + (
        "Bars are simultaneous 95 % intervals; a bar that reaches 0 is unresolved. In the shaded band lie "
        "differences that this study finds with less than 80 % probability."
    )


def _ties(page: Page) -> str:
    return (
        f"Arms at their means, all pairs compared; {role(page, claims='all_pairs')}. A bar joins the arms at its "
        "ticks: those share a letter, the data do not separate them, and that does not make them equal. "
        f"{_excerpt(page, ROWS)}".strip()
    )


def _slopes(page: Page) -> str:
    shared = ": same data order, same initial weights of shared parts" if page.results.hash else ""
    return (
        f"Each line is one seed, from {code(page.analysis.baseline)} to the arm{shared}. "
        f"Parallel lines mean that seeds agree. {_excerpt(page, PANELS)}".strip()
    )


def _curves(page: Page) -> str:
    label, split = escape(page.results.metric.label), escape(page.results.split)
    return (
        f"{label} on the {split} split against images seen, all seeds. The scale is that of the later half of the "
        f"finished runs; earlier readings may lie outside. {_excerpt(page, PANELS)}".strip()
    )


def _effects(page: Page) -> str:
    return (
        f"Factor effects, {role(page, claims='factor_effects')}: bars from 0 to the size, lines are simultaneous 95 % "
        "intervals. A filled mark is one whose interval excludes 0; an interaction is neither better nor worse."
    )


def _pareto(page: Page) -> str:
    reading = escape(page.stability.reading)
    return (
        f"Quality against how restless training ends (sd of {reading} over the last 20 % of its readings, mean over "
        "finished runs). Squares: no other arm equals or beats them in both means. Exploratory: the means carry noise, "
        "and so does the front."
    )


def _parallel(page: Page) -> str:
    drawn = [arm for arm in page.results.arms if arm.name != page.analysis.baseline]
    return (
        f"{count(len(drawn), 'sampled recipe')}, one line each; the tenth with the best scores is thick. A mark "
        "below an axis: the parameter does not apply. A pattern here is a hint for a small factorial, not an effect."
    )


def _expected(page: Page) -> str:
    from reports.sampling import INDEPENDENT

    if page.results.search.get("sampler") in INDEPENDENT:
        text = (
            "Line: the expected best score of that many recipes, drawn from those that were scored (Dodge et al., "
            "2019, https://doi.org/10.18653/v1/D19-1224)."
        )
    else:
        text = "Line: the best score so far; this sampler learns from its trials, so their order matters."
    return text + " A best score is partly luck: the more recipes, the more of it. `ablate confirm` takes it out."


def _objectives(page: Page) -> str:
    return (
        "The search's first two objectives, means over finished runs. Squares: no other recipe equals or beats them in "
        "both. The means carry noise, and so does the front."
    )


def _pictures(page: Page) -> str:
    tiles = ", ".join(code(name) for name in page.grid.tiles)
    seeds = Counter(page.grid.seeds.values())
    usual = min(seeds, key=lambda seed: (-seeds[seed], seed))
    others = ", ".join(f"{code(arm)} {seed}" for arm, seed in page.grid.seeds.items() if seed != usual)
    chosen = f"seed {usual}" + (f", but {others}" if others else "")
    text = f"Tiles fixed before training: {tiles}. Each arm by its median seed: {chosen}."
    return f"{text} {_excerpt(page, PANELS)}".strip()


def _worst(page: Page) -> str:
    tiles = page.worst.tiles
    kept, scored = (max(getattr(one, name) for one in tiles.values()) for name in ("kept", "scored"))
    overall = [arm for arm, one in tiles.items() if one.overall]
    text = (
        f"Of each arm's median seed the worst tile by {escape(page.results.metric.label)}, among the {kept} whose "
        f"pictures are kept (of {scored} scored); from left to right SAR, truth, generated, error. "
    )
    if kept < scored:
        text += f"Worst of all tiles: of {listed(overall)}. " if overall else "For no arm is it the worst of all. "
    shared = Counter(one.tile for one in tiles.values()).most_common(1)[0]
    each = f"for {shared[1]} of {len(tiles)} arms {code(shared[0])}" if shared[1] > 1 else ""
    return f"{text}{each and f'The tile is {each}.'}".strip()


def _excerpt(page: Page, most: int) -> str:
    arms = len(page.analysis.ranking)
    return f"The first, the last and the baseline of {arms} arms. " if arms > most else ""


CAPTIONS: dict[str, tuple[str, Caption]] = {
    "forest.png": ("Forest plot", _forest),
    "ties.png": ("Tie diagram", _ties),
    "effects.png": ("Factor effects", _effects),
    "slopes.png": ("Per-seed slopes", _slopes),
    "curves.png": ("Learning curves", _curves),
    "pareto.png": ("Quality and stability", _pareto),
    "parallel.png": ("Parallel coordinates of the search", _parallel),
    "expected.png": ("Expected best against budget", _expected),
    "objectives.png": ("Objectives of the search", _objectives),
    "pictures.png": ("Picture grid", _pictures),
    "worst.png": ("Where each arm fails", _worst),
}
