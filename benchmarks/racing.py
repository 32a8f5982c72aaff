"""What a race saves and what it risks: simulated studies, stopped by the rule that `ablate run` uses.

    python benchmarks/racing.py                     about ten minutes on one core
    python benchmarks/racing.py --studies 200       a quick look

Ten arms, the base among them, on 5 or 8 seeds; looks from seed 3 on, at 0.05 split evenly. Means are in residual
standard deviations (1). `saved` is the share of trials that are not run; `best lost` the share of studies in which the
truly best arm was stopped (any one of several that tie); `wrong` the share in which an arm was stopped that is no worse
than every other. Halving keeps the better half of the arms after 2 and 4 of 8 seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ablate.race import Race, decide
from reports.race import leaving

ARMS = 10


@dataclass(frozen=True)
class Case:
    """True means (larger is better) and residual sds of the arms, the base first."""

    name: str
    means: np.ndarray
    sds: np.ndarray


def cases() -> list[Case]:
    even, ones = np.zeros(ARMS), np.ones(ARMS)
    spread = np.linspace(0, 6, ARMS)
    lone, pair, noisy = even.copy(), even.copy(), ones.copy()
    lone[-1], pair[-2:], noisy[0] = 4.0, 4.0, 3.0
    uneven = np.linspace(0.5, 1.5, ARMS)
    return [
        Case("means spread evenly over 6", spread, ones),
        Case("one arm ahead by 4", lone, ones),
        Case("two arms ahead by 4, tied", pair, ones),
        Case("spread, sds from 0.5 to 1.5", spread, uneven),
        Case("spread, base three times noisier", spread, noisy),
        Case("all equal", even, ones),
        Case("all equal, sds from 0.5 to 1.5", even, uneven),
    ]


def run_race(race: Race, values: np.ndarray) -> tuple[dict[int, int], int]:
    """Arms that were stopped with their number of seeds, and trials run, of one study `values` (k, n)."""
    alive, stopped, trials = list(range(len(values))), {}, 0
    for seeds in range(1, values.shape[1] + 1):
        trials += len(alive)
        if seeds not in race.looks:
            continue
        table = {("base" if arm == 0 else str(arm)): values[arm, :seeds] for arm in alive}
        found = decide(race, seeds, table, table, goal="max", metric="", judge=leaving)
        stopped |= {int(arm): seeds for arm in found.stopped}
        alive = [arm for arm in alive if arm not in stopped]
    return stopped, trials


def simulate(case: Case, race: Race, seeds: int, *, studies: int, draw: int = 0) -> dict[str, float]:
    """Shares over many studies; a block effect of the seed is shared by all arms."""
    random = np.random.default_rng(draw)
    best = np.flatnonzero(case.means == case.means.max())
    watched = int(best[-1])
    saved, lost, wrong = [], 0, 0
    for _ in range(studies):
        noise = random.normal(0, 1, (ARMS, seeds)) * case.sds[:, None] + random.normal(0, 1, seeds)
        stopped, trials = run_race(race, case.means[:, None] + noise)
        saved.append(1 - trials / (ARMS * seeds))
        lost += watched in stopped
        wrong += any(arm in stopped for arm in best)
    return {"saved": float(np.mean(saved)), "lost": lost / studies, "wrong": wrong / studies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    print(
        f"{studies} studies a row\n\n| case | seeds | rule | saved | best lost | wrong |\n|---|---:|---|---:|---:|---:|"
    )
    rules: Mapping[str, tuple[Callable[[int], Race], tuple[int, ...]]] = {
        "race": (lambda seeds: Race(tuple(range(3, seeds))), (5, 8)),
        "halving": (lambda seeds: Race((2, 4), 0.5), (8,)),
    }
    for case in cases():
        for rule, (race, numbers) in rules.items():
            for seeds in numbers:
                found = simulate(case, race(seeds), seeds, studies=studies)
                row = " | ".join(f"{100 * found[key]:.1f} %" for key in ("saved", "lost", "wrong"))
                print(f"| {case.name} | {seeds} | {rule} | {row} |", flush=True)


if __name__ == "__main__":
    main()
