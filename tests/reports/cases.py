"""The studies whose reports are kept as golden text: one for every way a study can turn out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.reports.factory import GMSD, PSNR, REFERENCES, SSIM, study, table

ARMS = {"base": 17.0, "lr_ratio=tenth": 17.9, "batch=8": 17.6, "objective=wgan_gp": 16.2, "norm=spectral": 17.1}

SPLITS = {
    "tiles": "96 train, 24 validation, 24 test",
    "splits": {"train": ["moor", "lake"], "validation": ["port", "hills", "delta", "sea"], "test": ["cape"]},
}


def _scores(seeds: int, arms: Mapping[str, float] = ARMS, **options) -> dict[str, list]:
    return {arm: list(row) for arm, row in table(arms, seeds, **options).items()}


def normal(runs: Path) -> Path:
    """Everything that a study can have: pictures, scenes, times."""
    return study(
        runs, _scores(5), pictures=True, provenance={"host": "here", "versions": {"torch": "2.13"}}, tick=60.0,
        scenes={"scene_00": 0.2, "scene_01": -0.1, "scene_02": 0.0, "scene_03": -0.1}, data=SPLITS,
    )  # fmt: skip


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


def nan_in_one_image(runs: Path) -> Path:
    """One scene's tiles hold no valid pixel, and one run's network gave NaN: its metric is not finite."""
    scores = _scores(5)
    scores["batch=8"][2] = float("nan")
    scenes = {"port": 0.1, "hills": -0.1, "delta": 0.0, "sea": float("nan")}
    return study(runs, scores, scenes=scenes, pictures=True, data=SPLITS)


def forty_arms(runs: Path) -> Path:
    arms = {"base": 17.0} | {f"remedy={i:02d}": 16.6 + 0.03 * i + 0.8 * (i == 20) for i in range(39)}
    scores = _scores(3, arms)
    scores["remedy=03"][1] = "diverged"
    flags = {(f"remedy={i:02d}", seed): ("D dominates: right on 98%", 60) for i in range(0, 39, 3) for seed in (1, 2)}
    return study(runs, scores, flags=flags)


def disagreeing(runs: Path) -> Path:
    """What is good by the primary metric is bad by SSIM, on which one arm was trained."""
    arms = ARMS | {"loss=ssim": 16.5}
    values = {"ssim": {arm: 0.9 - 0.03 * mean for arm, mean in arms.items()}}
    return study(runs, _scores(5, arms), also=(GMSD, SSIM), values=values, terms={"loss=ssim": ["ssim"]})


FACTORS = {"loss": ["l1", "ssim"], "norm": ["instance", "spectral"], "lr": ["equal", "half"]}
FULL = {"loss": "ssim", "norm": "spectral", "lr": "half"}


def both_design(runs: Path) -> Path:
    """Each change alone and each taken from the full recipe; two of them are worth more together."""
    names = [f"{factor}={level}" for factor, level in FULL.items()]
    alone = {name: 17.0 + gain for name, gain in zip(names, (0.6, 0.2, 0.0), strict=True)}
    without = {"+".join(names[:i] + names[i + 1 :]): mean for i, mean in enumerate((17.2, 17.6, 18.8))}
    arms = {"base": 17.0, **alone, **without, "+".join(names): 18.8}
    return study(runs, _scores(5, arms), design="both", family="factor_effects", factors=FACTORS, full=FULL,
                 question="Which of three changes is worth its place in the full recipe?")  # fmt: skip


def twin_alarm(runs: Path) -> Path:
    scores = _scores(5)
    return study(runs, scores, twin=[score + 1.5 for score in scores["base"]])


def twin_quiet(runs: Path) -> Path:
    scores = _scores(5)
    return study(runs, scores, twin=[score + 0.1 * (-1) ** place for place, score in enumerate(scores["base"])])


def confirming(runs: Path) -> Path:
    """What two selected arms do on fresh seeds and the test split."""
    arms = {arm: ARMS[arm] for arm in ("base", "lr_ratio=tenth", "batch=8")}
    return study(
        runs, _scores(5, arms, draw=3), name="remedies-confirm", metric={**PSNR, "split": "test"}, design="list",
        confirms={"study": "remedies", "plan": "0123456789ab", "arms": list(arms), "seeds": [11, 12, 13]},
        data={**SPLITS, "test_reads": 2}, question="Does what remedies selected hold on fresh seeds and test scenes?",
    )  # fmt: skip


def confirmed(runs: Path) -> Path:
    """The selecting study, with its confirmation beside it."""
    confirming(runs)
    return study(runs, _scores(3))


def search(runs: Path) -> Path:
    """Thirty random recipes of two parameters and a choice, one of which applies to one choice only."""
    random = np.random.default_rng(4)
    drawn, arms = {}, {"base": 17.0}
    for index in range(1, 31):
        objective = ("vanilla", "hinge")[random.integers(2)]
        rate, weight = 10 ** random.uniform(-4, -3), random.uniform(0, 20)
        name = f"s{index:03d}"
        drawn[name] = {"optimizer.lr": float(f"{rate:.3g}"), "objective": objective}
        drawn[name] |= {"terms.ssim": float(f"{weight:.3g}")} if objective == "hinge" else {}
        arms[name] = 17 - 2 * (np.log10(rate) + 3.5) ** 2 + 0.02 * weight * (objective == "hinge")
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-3, "log": True}, "objective": {"values": ["vanilla", "hinge"]},
             "terms.ssim": {"low": 0, "high": 20, "when": {"objective": ["hinge"]}}}  # fmt: skip
    told = {
        "sampler": "random",
        "trials": 30,
        "seed": 0,
        "seeds_per_arm": 3,
        "objectives": ["psnr", "gmsd"],
        "space": space,
    }
    return study(runs, _scores(3, arms), design="search", search=told, drawn=drawn, tick=7.0)


def racing(runs: Path) -> Path:
    """Two arms that a race stopped after three of eight seeds."""
    scores = _scores(8, ARMS | {"a=1": 15.0, "b=2": 15.2})
    for arm in ("a=1", "b=2"):
        scores[arm][3:] = ["spared"] * 5  # their remaining cells have that outcome
    stopped = dict.fromkeys(("a=1", "b=2"), "left the best set at look 1 of 3")
    return study(runs, scores, looks=[{"after": 3, "stopped": stopped}, {"after": 5, "stopped": {}}])


def all_pairs(runs: Path) -> Path:
    return study(runs, _scores(5), family="all_pairs")


CASES: dict[str, Callable[[Path], Path]] = {
    case.__name__: case
    for case in (
        normal, failures, one_seed, two_seeds, two_arms, constant, missing_block, not_begun, unlearnt, ratios,
        nan_in_one_image, forty_arms, disagreeing, both_design, twin_alarm, twin_quiet, confirming, confirmed, search,
        racing, all_pairs,
    )
}  # fmt: skip
