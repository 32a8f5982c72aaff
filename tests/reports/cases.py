"""The studies whose reports are kept as golden text: one for every way a study can turn out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.reports.factory import REFERENCES, study, table

ARMS = {"base": 17.0, "lr_ratio=tenth": 17.9, "batch=8": 17.6, "objective=wgan_gp": 16.2, "norm=spectral": 17.1}


def _scores(seeds: int, arms: Mapping[str, float] = ARMS, **options) -> dict[str, list]:
    return {arm: list(row) for arm, row in table(arms, seeds, **options).items()}


def normal(runs: Path) -> Path:
    return study(runs, _scores(5), pictures=True, provenance={"host": "here", "versions": {"torch": "2.13"}})


def failures(runs: Path) -> Path:
    """Diverged, collapsed, lost to the machine, broken by its own recipe, and stopped by a race."""
    scores = _scores(4)
    scores["objective=wgan_gp"][1:3] = ["diverged", "collapsed"]
    scores["batch=8"][3] = "failed"
    scores["batch=8"][2] = "arm"
    scores["norm=spectral"][3] = "stopped"
    flags = {(arm, seed): ("D dominates: right on 98%", 60 + seed) for arm in ("base", "batch=8") for seed in (1, 2)}
    return study(runs, scores, flags=flags)


def one_seed(runs: Path) -> Path:
    return study(runs, _scores(1))


def two_seeds(runs: Path) -> Path:
    return study(runs, _scores(2))


def two_arms(runs: Path) -> Path:
    return study(runs, _scores(3, {"base": 17.0, "lr_ratio=tenth": 19.0}), also=())


def constant(runs: Path) -> Path:
    return study(runs, {arm: [17.0] * 3 for arm in ARMS})


def missing_block(runs: Path) -> Path:
    """Killed on the way: seed 4 half done, one trial still running, seed 5 not begun."""
    scores = _scores(5)
    for place, row in enumerate(scores.values()):
        row[4] = None
        row[3] = "running" if place == 2 else None if place > 2 else row[3]
    return study(runs, scores)


def not_begun(runs: Path) -> Path:
    return study(runs, {arm: [None] * 3 for arm in ARMS}, references={})


def unlearnt(runs: Path) -> Path:
    """No arm beats a predictor without training; an alias, inert settings, a warning and markup in the text."""
    references = {**REFERENCES, "linear_map": {"psnr": 30.0, "gmsd": 0.1}}
    return study(
        runs, _scores(3), references=references, aliases={"lambda=100": "base"},
        question="Is *this* <b>safe</b> | `really`?\n# Yes", warnings=["- norm=spectral: batch of 2 | `small`"],
    )  # fmt: skip


def ratios(runs: Path) -> Path:
    metric = {"name": "lpips", "label": "LPIPS", "unit": "", "goal": "min", "split": "validation"}
    arms = {"base": 0.40, "lr_ratio=tenth": 0.30, "batch=8": 0.41, "norm=spectral": 0.39}
    return study(
        runs, _scores(4, arms, spread=0.01, block=0.02), metric=metric, references={"mean_colour": {"lpips": 0.7}}
    )


CASES: dict[str, Callable[[Path], Path]] = {
    case.__name__: case
    for case in (
        normal, failures, one_seed, two_seeds, two_arms, constant, missing_block, not_begun, unlearnt, ratios,
    )
}  # fmt: skip
