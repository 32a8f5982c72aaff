"""One look for all figures: colour-blind safe, legible at the width of a page, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reports import verdicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, DPI = 7.2, 190  # inches: the text width of a printed page, so that a font of 8 points is printed as one
# Okabe and Ito, 2008: distinguishable with any colour vision.
BLUE, VERMILION, GREEN, GREY, SKY, ORANGE, PURPLE = (
    "#0072B2", "#D55E00", "#009E73", "#666666", "#56B4E9", "#E69F00", "#CC79A7",
)  # fmt: skip
SEED_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
SEED_MARKERS = "osD^vP"
# Shape and colour both tell the verdict apart.
CLAIM_STYLES = {
    verdicts.BETTER: (BLUE, "^"),
    verdicts.BETTER_SMALL: (BLUE, "^"),
    verdicts.BETTER_WHEN_IT_TRAINS: (ORANGE, "^"),
    verdicts.WORSE: (VERMILION, "v"),
    verdicts.WORSE_SMALL: (VERMILION, "v"),
    verdicts.EQUIVALENT: (GREEN, "s"),
}
OTHER_STYLE = (GREY, "o")
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "text.parse_math": False,  # an arm's name is never markup
}


@contextmanager
def sheet(height: float, *, layout: str | None = None) -> Iterator[Figure]:
    """A figure as wide as the page and `height` inches high, free of the user's own matplotlib settings.

    Without a layout engine (which takes longer than the drawing) margins are the caller's.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield Figure(figsize=(WIDTH, height), layout=layout)


def png(figure: Figure) -> bytes:
    """The picture without date or version, so that equal figures are equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def short(name: str, length: int = 26) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def axis_label(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label


def seed_style(index: int) -> dict[str, str]:
    return {
        "color": SEED_COLOURS[index % len(SEED_COLOURS)],
        "marker": SEED_MARKERS[(index // len(SEED_COLOURS) + index) % len(SEED_MARKERS)],
    }
