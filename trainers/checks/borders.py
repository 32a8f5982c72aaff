"""Leakage that pixels tell: borders that continue, tiles cut with overlap, and duplicates.

Each tile is read once for its signature: whitened lines (its borders, and rows and columns at quarters of it), a
whitened thumbnail and digests. Two signatures' dot product is the correlation of what they are made of.

What is a match. All lines of one kind are compared with all of the other kind across splits. Correlations of
unrelated lines are normal about 0 once a line is whitened by octaves and its jumps are clipped, so that no single
road or nodata edge decides. Their spread is measured on the same lines mirrored (right against left turned upside
down: equal statistics, no ground in common) and on the bulk of the pairs themselves, the larger of both, and is wider
for a line that is smoother. A match is the best of both its lines and lies beyond the height that EXPECTED_FALSE
pairs of a whole comparison pass by chance. Mirrored pairs beyond it are counted as decoys (Elias and Gygi, 2007,
https://doi.org/10.1038/nmeth1019); where there are any, matches must outnumber them significantly for the split to
leak. Two lines that several overlapping tiles hold are one piece of evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainers.checks.leaks import Finding, Leak, Tile, certain, in_order, leak, split_codes
from trainers.checks.signatures import LINES, QUARTERS, Signature, even

EXPECTED_FALSE = 0.05  # matches by chance in a whole comparison: two matches then have a chance of 0.0012
IDENTICAL = 0.7  # correlation of whitened thumbnails; two strangers with equal nodata wedges in ombria reach 0.54
PRIOR = 100  # pairs that the spread expected beforehand counts for, where few are compared
ROWS = 512  # lines compared with all others at once
SAMPLES = 20_000  # correlations of each such block that show where the bulk lies
NEIGHBOURS = (("right", "left"), ("bottom", "top"))


def by_borders(tiles: Sequence[Tile], signatures: Sequence[Signature]) -> Finding:
    """Tiles whose outermost row or column continues in a tile of another split: neighbours, cut side by side.

    `evidence` of each: correlation in [-1, 1] and its height in sigma above chance. One match of four sides a tile.
    """
    return _by_lines("borders", tiles, signatures, [(*sides, 0) for sides in NEIGHBOURS])


def by_overlap(tiles: Sequence[Tile], signatures: Sequence[Signature]) -> Finding:
    """Tiles whose left or top border is a column or row at 1/4, 1/2 or 3/4 of a tile of another split.

    Those are tiles cut with an overlap of 3/4, 1/2 or 1/4 along one axis. `evidence`: correlation, sigma and
    shift_px, by how much the one tile lies right of or below the other.
    """
    side = signatures[0].tile if signatures else 0
    kinds = [
        (f"{kind} {quarter}/4", border, quarter * side // 4)
        for kind, border in (("column", "left"), ("row", "top"))
        for quarter in QUARTERS
    ]
    return _by_lines("overlap", tiles, signatures, kinds)


def by_duplicates(tiles: Sequence[Tile], signatures: Sequence[Signature]) -> Finding:
    """Tiles with the same SAR or the same optical values in two splits.

    Of tiles that are all alike in two splits one pair is named. `evidence`: correlation 1.
    """
    leaks, found = [], 0
    order = sorted(zip(tiles, signatures, strict=True), key=lambda pair: pair[0].name)
    for kind in ("sar", "optical"):
        alike: dict[bytes, dict[str, list[str]]] = {}
        for tile, known in order:
            digest = getattr(known, kind)
            if digest is not None:
                alike.setdefault(digest, {}).setdefault(tile.split, []).append(tile.name)
        for parts in alike.values():
            first, *rest = sorted(parts.items(), key=lambda part: part[1][0])
            for split, names in rest:
                found += len(first[1]) * len(names)
                how = f"equal {kind} values"
                leaks.append(leak("duplicates", first[1][0], names[0], (first[0], split), how, correlation=1.0))
    return certain("duplicates", leaks, found=found, compared=len(tiles))


def by_likeness(tiles: Sequence[Tile], signatures: Sequence[Signature]) -> Finding:
    """Tiles that are near-identical in two splits: copied with other compression, stretch, noise or a pixel's shift.

    `evidence`: correlation of the whitened thumbnails, at least 0.7, and its sigma. Decoys are turned by 180 degrees.
    """
    return _by_lines("likeness", tiles, signatures, [("thumbnail", "thumbnail", 0)], lowest=IDENTICAL)


def methods_by_content(tiles: Sequence[Tile], signatures: Sequence[Signature]) -> list[Finding]:
    """The findings of all methods that look at pixels."""
    return [method(tiles, signatures) for method in (by_duplicates, by_likeness, by_borders, by_overlap)]


@dataclass(frozen=True)
class _Best:
    """Mutual best pairs of one comparison: their indices, correlations and heights in sigma above chance.

    `decoys` and `decoy_sigma` are those of the mutual best mirrored pairs.
    """

    one: np.ndarray
    other: np.ndarray
    correlation: np.ndarray
    sigma: np.ndarray
    decoys: np.ndarray
    decoy_sigma: np.ndarray
    compared: int


def _by_lines(
    method: str,
    tiles: Sequence[Tile],
    signatures: Sequence[Signature],
    kinds: Sequence[tuple[str, str, int]],
    *,
    lowest: float = -1.0,
) -> Finding:
    from scipy import special

    _refuse_mixed(signatures)
    order = sorted(range(len(tiles)), key=lambda index: tiles[index].name)
    tiles, signatures = [tiles[i] for i in order], [signatures[i] for i in order]
    codes = split_codes(tiles)
    if len(set(codes.tolist())) < 2:
        return Finding(method, (), 0, 0)
    bests = [_compare(signatures, one, other, codes) for one, other, _ in kinds]
    compared = sum(best.compared for best in bests)
    if not compared:
        return Finding(method, (), 0, 0)
    height = -special.ndtri(EXPECTED_FALSE / compared)
    leaks: dict[tuple[str, str, str], Leak] = {}
    decoys, evident = 0, set()
    for (one, other, shift), best in zip(kinds, bests, strict=True):
        decoys += int(((best.decoy_sigma >= height) & (best.decoys >= lowest)).sum())
        for index in np.flatnonzero((best.sigma >= height) & (best.correlation >= lowest)):
            a, b = tiles[best.one[index]], tiles[best.other[index]]
            numbers = {"correlation": best.correlation[index], "sigma": best.sigma[index]}
            evidence = {key: round(float(value), 3) for key, value in numbers.items()}
            evidence |= {"shift_px": shift} if shift else {}
            how = "near-identical" if one == other else f"{one} of {a.name} is {other} of {b.name}"
            found = leak(method, a.name, b.name, (a.split, b.split), how, **evidence)
            leaks[found.one, found.other, found.how] = found
            lines = [_line(signatures[i], kind) for i, kind in ((best.one[index], one), (best.other[index], other))]
            evident.add(frozenset(line.tobytes() for line in lines))
    chance = _chance(len(evident), decoys)
    return Finding(method, in_order(list(leaks.values())), len(leaks), compared, EXPECTED_FALSE, decoys, chance)


def _chance(matches: int, decoys: int) -> float:
    """Probability of so many matches, or more, if none is real.

    Without decoys a Poisson count about EXPECTED_FALSE; with decoys the normal law has failed, and a match is as
    likely as a decoy.
    """
    from scipy import special

    if not matches:
        return 1.0
    poisson = float(special.pdtrc(matches - 1, EXPECTED_FALSE))
    return max(poisson, float(special.bdtrc(matches - 1, matches + decoys, 0.5))) if decoys else poisson


def _refuse_mixed(signatures: Sequence[Signature]) -> None:
    shapes = sorted({(known.tile, known.lines.shape[1]) for known in signatures})
    if len(shapes) > 1:
        raise ValueError(f"tiles of {len(shapes)} kinds (side in px, bands): {shapes}; compare tiles of one kind")


def _compare(signatures: Sequence[Signature], one: str, other: str, codes: np.ndarray) -> _Best:
    lines = _stack(signatures, one)
    return _best(lines, _stack(signatures, other), codes, even(one, lines.shape[2]))


def _stack(signatures: Sequence[Signature], kind: str) -> np.ndarray:
    """One line, or the thumbnail, of all tiles (N, B, K)."""
    return np.stack([_line(known, kind) for known in signatures]).astype(np.float32)


def _line(known: Signature, kind: str) -> np.ndarray:
    return known.thumbnail if kind == "thumbnail" else known.lines[LINES.index(kind)]


def _best(one: np.ndarray, other: np.ndarray, codes: np.ndarray, alternate: np.ndarray) -> _Best:
    """The pairs across splits that are the best of both their lines (N, B, K), and the same for mirrored ones.

    Mirroring changes the sign of every other coefficient of a cosine transform: sum and difference of the products
    of even and of odd ones are what a line has in common with the other and with its mirror image.
    """
    halves = [[lines[:, :, half].reshape(len(lines), -1) for half in (alternate, ~alternate)] for lines in (one, other)]
    real, mirrored, null = _Mutual(len(one)), _Mutual(len(one)), _Null(len(one), 1 / (2 * one.shape[2]))
    for rows, columns in _blocks(one, other, codes):
        evens, odds = (a[rows] @ b[columns].T for a, b in zip(*halves, strict=True))
        scores, decoys = evens + odds, odds - evens
        real.add(scores, rows, columns)
        mirrored.add(decoys, rows, columns)
        null.add(scores, decoys, rows, columns)
    pairs, unreal = real.pairs(), mirrored.pairs()
    sigma, decoy_sigma = null.sigma(*pairs), null.sigma(*unreal, centred=False)
    return _Best(*pairs, sigma, unreal[2], decoy_sigma, null.compared)


def _blocks(one: np.ndarray, other: np.ndarray, codes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of rows and columns of blocks that hold each pair of telling lines of two splits once."""
    telling = [np.abs(lines).max(axis=(1, 2), initial=0) > 0 for lines in (one, other)]
    for code in np.unique(codes):
        rows = np.flatnonzero((codes == code) & telling[0])
        columns = np.flatnonzero((codes != code) & telling[1])
        for start in range(0, len(rows) if len(columns) else 0, ROWS):
            yield rows[start : start + ROWS], columns


class _Mutual:
    """The best partner of each row and of each column over blocks of scores."""

    def __init__(self, count: int):
        self._best = np.full((2, count), -np.inf, np.float32)
        self._partner = np.full((2, count), -1)

    def add(self, scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        for axis, (own, partners) in enumerate(((rows, columns), (columns, rows))):
            where = scores.argmax(axis=1 - axis)
            best = np.take_along_axis(scores, np.expand_dims(where, 1 - axis), 1 - axis).ravel()
            better = best > self._best[axis, own]
            self._best[axis, own[better]] = best[better]
            self._partner[axis, own[better]] = partners[where[better]]

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and scores of the pairs that are each other's best."""
        rows = np.flatnonzero(self._partner[0] >= 0)
        columns = self._partner[0, rows]
        mutual = self._partner[1, columns] == rows
        return rows[mutual], columns[mutual], self._best[0, rows[mutual]]


class _Null:
    """How unrelated lines correlate. `white` is the variance of two bands of independent coefficients.

    A line's own spread counts where it is the larger: few slow waves correlate by chance more than many do.
    """

    def __init__(self, count: int, white: float):
        self.compared = 0
        self._white = white
        self._squares, self._counts = np.zeros((2, count)), np.zeros((2, count))
        self._samples: list[np.ndarray] = []

    def add(self, scores: np.ndarray, decoys: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        self.compared += scores.size
        self._samples.append(scores.ravel()[:: 1 + scores.size // SAMPLES])
        for axis, (own, sums) in enumerate(((rows, "ij,ij->i"), (columns, "ij,ij->j"))):
            self._squares[axis, own] += np.einsum(sums, decoys, decoys)
            self._counts[axis, own] += decoys.shape[1 - axis]

    def sigma(self, one: np.ndarray, other: np.ndarray, scores: np.ndarray, *, centred: bool = True) -> np.ndarray:
        """Heights of the scores of these pairs above chance; `centred` ones above the bulk of all real pairs."""
        if not self.compared:
            return np.zeros(len(scores))
        bulk = np.concatenate(self._samples)
        median = float(np.median(bulk))
        variance = max(self._squares[0].sum() / self.compared, (1.4826 * float(np.median(np.abs(bulk - median)))) ** 2)
        variance = (self.compared * variance + PRIOR * self._white) / (self.compared + PRIOR)
        own = (self._squares + PRIOR * variance) / (self._counts + PRIOR)
        widths = np.sqrt(np.maximum(own / variance, 1))
        centre = max(0.0, median) * self.compared / (self.compared + PRIOR) if centred else 0.0
        return (scores - centre) / (np.sqrt(variance) * widths[0, one] * widths[1, other])
