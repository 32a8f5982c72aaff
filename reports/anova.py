"""Type II analysis of variance of a factorial: exploratory, beside the effects of factors.

Each term is asked beside all terms that don't contain it, so that an order of the factors plays no
part when failures unbalance the table. Langsrud, 2003, https://doi.org/10.1023/A:1023260610025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from reports.findings import FactorPlan, FactorTest

Term = tuple[str, ...]


def type_two(values: np.ndarray, arms: Sequence[str], plan: FactorPlan | None) -> tuple[FactorTest, ...]:
    """Main effects and, where the arms allow them, interactions of two factors; seeds are blocks.

    `values` (k, n), NaN for a missing cell. Empty without degrees of freedom or an error.
    """
    if plan is None or plan.design not in ("factorial", "fractional"):
        return ()
    arm, seed = np.nonzero(np.isfinite(values))
    inside = np.isin(arm, [row for row, name in enumerate(arms) if name in plan.combinations])
    arm, seed = arm[inside], seed[inside]
    if not len(arm):
        return ()
    y = values[arm, seed] - values[arm, seed].mean()
    columns = _columns(plan, [arms[row] for row in arm])
    blocks = (seed[:, None] == np.arange(values.shape[1])).astype(float)
    terms: list[Term] = list(columns)
    if plan.design == "fractional" and (plan.resolution or 0) < 5:
        terms = [term for term in terms if len(term) == 1]
    error, df_error = _left(y, blocks, [columns[term] for term in terms])
    if df_error <= 0 or error <= 1e-18 * max(float(y @ y), 1e-300):
        return ()
    tests = (_test(y, blocks, columns, terms, term, error / df_error, df_error) for term in terms)
    return tuple(test for test in tests if test is not None)


def _test(
    y: np.ndarray,
    blocks: np.ndarray,
    columns: Mapping[Term, np.ndarray],
    terms: Sequence[Term],
    term: Term,
    scale: float,
    df_error: int,
) -> FactorTest | None:
    from scipy.special import fdtrc

    beside = [columns[other] for other in terms if not set(term) <= set(other)]
    without, df_without = _left(y, blocks, beside)
    whole, df_whole = _left(y, blocks, [*beside, columns[term]])
    df = df_without - df_whole
    if df == 0:
        return None
    f = max(without - whole, 0.0) / df / scale
    return FactorTest(" : ".join(term), float(f), df, df_error, float(fdtrc(df, df_error, f)))


def _columns(plan: FactorPlan, arm_of_row: list[str]) -> dict[Term, np.ndarray]:
    """Dummy columns of each main effect and of each interaction of two factors."""
    mains = {}
    for factor, levels in plan.levels.items():
        held = np.array([plan.combinations[arm].get(factor, levels[0]) for arm in arm_of_row])
        mains[factor,] = np.column_stack([held == level for level in levels[1:]]).astype(float)
    both = {
        (one, other): (mains[one,][:, :, None] * mains[other,][:, None, :]).reshape(len(arm_of_row), -1)
        for one, other in combinations(plan.levels, 2)
    }
    return mains | both


def _left(y: np.ndarray, blocks: np.ndarray, columns: list[np.ndarray]) -> tuple[float, int]:
    """(residual sum of squares, residual degrees of freedom) of least squares."""
    matrix = np.hstack([blocks, *columns])
    solution, _, rank, _ = np.linalg.lstsq(matrix, y, rcond=1e-10)
    rest = y - matrix @ solution
    return float(rest @ rest), len(y) - int(rank)
