"""Which arms of a finished study are worth confirming."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reports.load import load
from reports.scoring import analyse_results


@dataclass(frozen=True)
class Selection:
    """`arms`: the best set and the leader of the table without the baseline, best first; empty below three seeds.

    `planned` counts the study's trials, `open` those without an outcome.
    """

    arms: tuple[str, ...]
    planned: int
    open: int


def selection(study_folder: Path) -> Selection:
    """What `ablate confirm` trains anew, from a study's folder."""
    results = load(Path(study_folder))
    analysis = analyse_results(results)
    runs = results.all_runs
    best = [arm for arm in analysis.ranking if arm in analysis.best_set or arm == analysis.ranking[0]]
    arms = tuple(arm for arm in best if arm != results.baseline) if analysis.best_set else ()
    return Selection(arms, len(runs), sum(run.missing for run in runs))
