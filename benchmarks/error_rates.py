"""How often the analysis claims what is not there, finds what is, and keeps the best arm: seeded simulations.

    python benchmarks/error_rates.py --out rates.json

Each cell is a number of null studies of one kind (default 2,000). Cells that the file holds already are not run again,
so that a run which was ended goes on. The table of docs/statistics.md is what this prints.

A study has 10 arms; half of the variance of a run is shared by its seed. The residual standard deviation is 1. Where
runs collapse, every study has correlations of its own: multipliers are of 8,192 draws there instead of 65,536.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from reports import maxt
from reports.bestset import best_set
from reports.contrasts import Contrast, simultaneous
from reports.dunnett import against_baseline
from reports.factors import factor_contrasts
from reports.findings import FactorPlan
from reports.fit import Fit, fit
from reports.pairs import all_pairs

K, FEWEST = 10, 3
DRAWS = maxt.DRAWS
SEEDS = (3, 5, 8)
EFFECT = 2 * np.sqrt(2)  # two total standard deviations, as half of the variance is the seed's
Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # (k, n) errors around 0


def normal(sds: Callable[[int], np.ndarray]) -> Draw:
    return lambda random, k, n: random.normal(size=(k, n)) * sds(k)[:, None]


def skewed(random: np.random.Generator, k: int, n: int) -> np.ndarray:
    """Exponential errors: skewness 2."""
    return random.exponential(size=(k, n)) - 1


def collapsing(random: np.random.Generator, k: int, n: int) -> np.ndarray:
    """8 % of the runs have no value."""
    errors = random.normal(size=(k, n))
    errors[random.random((k, n)) < 0.08] = np.nan
    return errors


KINDS: Mapping[str, Draw] = {
    "equal variances": normal(np.ones),
    "unequal variances (sd 0.5 to 2)": normal(lambda k: np.linspace(0.5, 2, k)),
    "baseline three times noisier": normal(lambda k: np.array([3.0] + [1.0] * (k - 1))),
    "skewed errors": skewed,
    "8 % collapses": collapsing,
}


def study(random: np.random.Generator, draw: Draw, n: int, k: int = K) -> np.ndarray:
    return draw(random, k, n) + random.normal(size=n)


def claimed(contrast: Contrast) -> bool:
    return contrast.pairs >= 2 and (contrast.low > 0 or contrast.high < 0)


def enough(fitted: Fit) -> bool:
    """Paired seeds of the study that allow claims."""
    return int((fitted.seen[0] & fitted.seen[1:].any(axis=0)).sum()) >= FEWEST


def both(factors: int) -> FactorPlan:
    """One factor at a time, and the full recipe without each."""
    names = [chr(ord("a") + index) for index in range(factors)]
    sets = [(), *((name,) for name in names), tuple(names), *(tuple(o for o in names if o != name) for name in names)]
    arms = {"+".join(some) or "base": dict.fromkeys(some, "on") for some in sets}
    return FactorPlan("both", {name: ("base", "on") for name in names}, arms, dict.fromkeys(names, "on"))


PLAN = both(5)


def factor_claims(random: np.random.Generator, draw: Draw, n: int) -> bool:
    """Whether a null study of `both` with five factors claims any effect of a factor."""
    arms = tuple(PLAN.combinations)
    fitted = fit(study(random, draw, n, len(arms)))
    present = [bool(island == fitted.island[0] >= 0) for island in fitted.island]
    named, _ = factor_contrasts(PLAN, arms, present)
    if not named or (fitted.seen.sum(axis=0) > 1).sum() < FEWEST:
        return False
    weights = np.array([effect.weights for effect in named])
    return any(map(claimed, simultaneous(fitted, weights).contrasts))


def cell(kind: str, n: int, studies: int) -> dict[str, float]:
    """Rates of one kind of study with n seeds."""
    random = np.random.default_rng([zlib.crc32(kind.encode()), n])
    draw = KINDS[kind]
    maxt.DRAWS = 2**13 if draw is collapsing else DRAWS
    counts = dict.fromkeys(("dunnett", "pairs", "factors", "power", "covered"), 0)
    kept, noisiest = 0.0, 0
    for _ in range(studies):
        values = study(random, draw, n)
        fitted = fit(values)
        sure = enough(fitted)
        counts["dunnett"] += sure and any(map(claimed, against_baseline(fitted).contrasts))
        counts["pairs"] += sure and bool(all_pairs(fitted, range(K)).separated())
        members = best_set(fitted, goal="max") if sure else range(K)
        present = np.flatnonzero(fitted.seen.any(axis=1))
        kept += np.isin(present, members).mean()
        noisiest += (0 if kind.startswith("baseline") else K - 1) in members
        counts["factors"] += factor_claims(random, draw, n)
        counts["covered"] += _covered(random, values, sure)
        values[-1] += EFFECT
        found = against_baseline(fit(values)).of_arm.get(K - 1)
        counts["power"] += bool(sure and found and claimed(found) and found.low > 0)
    rates = {name: float(count) / studies for name, count in counts.items()}
    return rates | {"kept": float(kept / studies), "noisiest": noisiest / studies}


def _covered(random: np.random.Generator, values: np.ndarray, sure: bool) -> bool:
    """Whether all intervals hold the truth, with arms that differ."""
    truth = random.normal(0, 2, K)
    found = against_baseline(fit(values + truth[:, None])).of_arm
    return not sure or all(
        contrast.low <= truth[arm] - truth[0] <= contrast.high for arm, contrast in found.items() if contrast.pairs >= 2
    )


def usual_ways(studies: int = 20_000, n: int = 3) -> dict[str, float]:
    """The chance of at least one false claim against the baseline by ways that are not used here, equal arms."""
    from scipy.stats import t

    random = np.random.default_rng(1)
    values = random.normal(size=(studies, K, n)) + random.normal(size=(studies, 1, n))
    differences, means = values[:, 1:] - values[:, :1], values.mean(axis=2)
    statistics = differences.mean(axis=2) / differences.std(axis=2, ddof=1) * np.sqrt(n)
    sds, gaps = values.std(axis=2, ddof=1), np.abs(means[:, 1:] - means[:, :1])
    alike = (differences > 0).all(axis=2) | (differences < 0).all(axis=2)
    found = {
        "bold print on the best mean": means.argmax(axis=1) != 0,
        "uncorrected paired t": (np.abs(statistics) > t.ppf(0.975, n - 1)).any(axis=1),
        "percentile bootstrap, Bonferroni (all seeds of one sign)": alike.any(axis=1),
        "bars of one sd do not overlap": (gaps > sds[:, 1:] + sds[:, :1]).any(axis=1),
        "bars of one standard error do not overlap": (gaps * np.sqrt(n) > sds[:, 1:] + sds[:, :1]).any(axis=1),
    }
    return {name: float(claims.mean()) for name, claims in found.items()}


COLUMNS = {
    "dunnett": "against the baseline", "pairs": "all pairs", "factors": "factor effects", "covered": "coverage",
    "power": "power", "kept": "a tied arm stays", "noisiest": "noisiest stays",
}  # fmt: skip


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| kind of study | n | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for name, rates in found.items():
        kind, _, n = name.rpartition(", n = ")
        lines.append(f"| {kind} | {n} | " + " | ".join(f"{rates[column]:.3f}" for column in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("rates.json"))
    parser.add_argument("--only", default="", help="kinds whose name holds this text")
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for kind in KINDS:
        for n in SEEDS:
            name = f"{kind}, n = {n}"
            if name not in found and arguments.only in kind:
                found[name] = cell(kind, n, arguments.studies)
                arguments.out.write_text(json.dumps(found, indent=1))
                print(name, found[name], flush=True)
    ordered = {name: found[name] for kind in KINDS for n in SEEDS if (name := f"{kind}, n = {n}") in found}
    print(table(ordered))
    for way, rate in usual_ways().items():
        print(f"{way}: {rate:.2f}")


if __name__ == "__main__":
    main()
