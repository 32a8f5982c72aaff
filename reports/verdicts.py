"""What may be said about one difference: the ladder from a single run to a claim."""

from __future__ import annotations

from reports.contrasts import Contrast

BETTER, WORSE, EQUIVALENT, UNRESOLVED = "better", "worse", "equivalent", "unresolved"
SMALL = ", smaller than the smallest effect of interest"
BETTER_SMALL, WORSE_SMALL = BETTER + SMALL, WORSE + SMALL
BETTER_WHEN_IT_TRAINS = "better when it trains, fails more often"
NO_VARIATION = "unresolved, no variation"
SINGLE = "single run, ordering not supported"
SCREENING = "screening, estimate only"
TOO_FEW_PAIRS = "too few shared seeds, estimate only"
NO_COMPARISON = "not comparable"
STOPPED = "stopped early, no verdict"
ABOVE_SUM, BELOW_SUM = "together above their sum", "together below their sum"

CLAIMS = (BETTER, WORSE, BETTER_SMALL, WORSE_SMALL, BETTER_WHEN_IT_TRAINS)


def against(verdict: str, baseline: str) -> str:
    """The verdict in a sentence: `better than BASELINE`, `equivalent to BASELINE`, what follows a comma at the end."""
    head, comma, tail = verdict.partition(",")
    first, *words = head.split(" ")
    return " ".join([first, "to" if verdict == EQUIVALENT else "than", baseline, *words]) + comma + tail


def judge(contrast: Contrast, *, goal: str, blocks: int, smallest_effect: float | None, fails_more: bool) -> str:
    """The verdict on one arm against the baseline; `blocks` counts the study's paired seeds."""
    if (short := _unsupported(contrast, blocks)) is not None:
        return short
    negligible = smallest_effect is not None and max(-contrast.low, contrast.high) < smallest_effect
    if contrast.low <= 0 <= contrast.high:
        return EQUIVALENT if negligible else UNRESOLVED
    better = (contrast.difference > 0) == (goal == "max")
    if better and fails_more:
        return BETTER_WHEN_IT_TRAINS
    return (BETTER if better else WORSE) + (SMALL if negligible else "")


def judge_interaction(contrast: Contrast, *, goal: str, blocks: int, smallest_effect: float | None) -> str:
    """The same for a difference of differences: whether levels together are above or below the sum of each."""
    said = judge(contrast, goal=goal, blocks=blocks, smallest_effect=smallest_effect, fails_more=False)
    if said not in CLAIMS:
        return said
    return (ABOVE_SUM if contrast.difference > 0 else BELOW_SUM) + (SMALL if said.endswith(SMALL) else "")


def _unsupported(contrast: Contrast, blocks: int) -> str | None:
    """What is said where the data support no interval; None where they do."""
    if blocks < 3:
        return SCREENING if blocks == 2 else SINGLE
    if contrast.se == 0:
        return NO_VARIATION
    return TOO_FEW_PAIRS if contrast.pairs < 2 or contrast.low != contrast.low else None
