"""Regular fractions of two-level factorials: which runs, which effects they can't tell apart.

Runs are rows of 0 (the base's level) and 1. A fraction that holds the base is a linear code over the field of two
elements, its defining words the dual code (Box and Hunter, 1961, https://doi.org/10.1080/00401706.1961.10489951): a
word is a set of factors of which every run has an even number on. The resolution is the length of the shortest word.
pydoe generates; nothing it says is believed before it is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

Run = tuple[int, ...]
Effect = tuple[str, ...]  # the factors whose product it is: ("norm",), ("loss", "norm")
MAX_FACTORS = 16
RESOLUTIONS = (3, 4, 5)


@dataclass(frozen=True)
class Fraction:
    """`runs` hold the base (all 0) first; `words` are the whole defining relation but the empty word.

    `resolution` is None for the full factorial, which has no words.
    """

    factors: tuple[str, ...]
    runs: tuple[Run, ...]
    generators: tuple[str, ...]  # `e = -a:b` in signs, the base being -1
    words: tuple[Effect, ...]

    @property
    def resolution(self) -> int | None:
        return min(map(len, self.words), default=None)

    @property
    def aliases(self) -> tuple[tuple[str, ...], ...]:
        """Main effects and interactions of two factors that can't be told apart, in groups of two or more."""
        seen: set[Effect] = set()
        groups = []
        for effect in effects(self.factors):
            if effect not in seen:
                group = [effect, *(other for word in self.words if 0 < len(other := self._times(effect, word)) <= 2)]
                seen.update(group)
                groups.append(tuple(name(one) for one in sorted(set(group), key=self._order)))
        return tuple(group for group in groups if len(group) > 1)

    def _times(self, effect: Effect, word: Effect) -> Effect:
        return tuple(factor for factor in self.factors if (factor in effect) != (factor in word))

    def _order(self, effect: Effect) -> tuple[int, list[int]]:
        return len(effect), [self.factors.index(factor) for factor in effect]


def effects(factors: tuple[str, ...]) -> list[Effect]:
    """Main effects, then interactions of two factors."""
    return [effect for order in (1, 2) for effect in combinations(factors, order)]


def name(effect: Effect) -> str:
    """`norm`, `loss:norm`."""
    return ":".join(effect)


@lru_cache(maxsize=32)
def fraction(factors: tuple[str, ...], resolution: int) -> Fraction:
    """The smallest regular fraction of these factors with at least that resolution (3, 4 or 5), the base among it.

    Signs of generators are chosen so that the base is a run, and no effect's alias group depends on them. Where no
    fraction is small enough it is the full factorial.
    """
    columns = _generated(len(factors), resolution)
    base = columns[0]
    runs = sorted({tuple(int(value != low) for value, low in zip(run, base, strict=True)) for run in columns})
    found = Fraction(factors, tuple(runs), *_relation(factors, runs))
    _check(found, resolution)
    return found


def _generated(number: int, resolution: int) -> list[Run]:
    """pydoe's design, the finest of those that are as small; its first run is taken for the base, which only flips
    signs of generators.
    """
    if number < 2:
        return [(0,) * number, (1,) * number]
    from pydoe import fracfact_by_res

    designs = [fracfact_by_res(number, finer) for finer in range(resolution, max(RESOLUTIONS) + 1)]
    finest = [design for design in designs if len(design) == len(designs[0])][-1]
    return [tuple(map(int, row)) for row in finest]


def _relation(factors: tuple[str, ...], runs: list[Run]) -> tuple[tuple[str, ...], tuple[Effect, ...]]:
    """Generators and all words of a linear code, from its runs."""
    basis: dict[int, int] = {}  # column -> its bits over the runs, for columns that are independent
    words, generators = [], []
    for column, factor in enumerate(factors):
        bits = sum(run[column] << at for at, run in enumerate(runs))
        made_of = next((chosen for size in range(len(basis) + 1) for chosen in combinations(basis, size)
                        if _sum(basis, chosen) == bits), None)  # fmt: skip
        if made_of is None:
            basis[column] = bits
        else:
            words.append(frozenset((*made_of, column)))
            sign = "" if len(made_of) % 2 else "-"
            generators.append(f"{factor} = {sign}{name(tuple(factors[at] for at in made_of))}")
    spanned = {frozenset()}
    for word in words:
        spanned |= {word ^ other for other in spanned}
    ordered = sorted((sorted(word) for word in spanned if word), key=lambda word: (len(word), word))
    return tuple(generators), tuple(tuple(factors[at] for at in word) for word in ordered)


def _sum(basis: dict[int, int], chosen: tuple[int, ...]) -> int:
    total = 0
    for column in chosen:
        total ^= basis[column]
    return total


def _check(found: Fraction, resolution: int) -> None:
    """Our own bug or the generator's: the base, balance, pairwise orthogonality, and the resolution asked for."""
    runs, number = found.runs, len(found.runs)
    assert not any(runs[0]) and len(set(runs)) == number, "the base is one run, and every run is there once"
    columns = list(zip(*runs, strict=True))
    assert all(2 * sum(column) == number for column in columns), "every factor is on in half of the runs"
    assert all(4 * sum(a * b for a, b in zip(*pair, strict=True)) == number for pair in combinations(columns, 2)), (
        "every two factors are on together in a quarter of the runs"
    )
    assert number * (len(found.words) + 1) == 2 ** len(found.factors), "the words account for the whole fraction"
    assert found.resolution is None or found.resolution >= resolution, "the resolution is at least that asked for"
