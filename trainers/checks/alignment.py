"""Whether pairs show the same ground: the shifts of scenes, and the verdict on a data set.

Peaks of all pairs pooled, right and shuffled: synthetic 0.33 and 0.006 (434 tiles of 64 px), ombria 0.29 and 0.001,
terramind 0.17 and 0.009 (5 tiles of 224 px), bigearthnet 0.08 and 0.013 (6 patches of 120 px).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainers.checks.deformation import Affine, fit_affine
from trainers.checks.shift import REACH, Edges, Estimate, Surface, correlate, edges, locate, pool

Tile = tuple[np.ndarray, np.ndarray, np.ndarray]  # SAR and optical (C, H, W) in [-1, 1], valid (H, W)
Verdict = Literal["aligned", "shifted", "unpaired", "unclear"]

SHUFFLES = 4
PAIRED = 3.0  # times the peak of shuffled pairs
# Below the peak of every set of right pairs at hand. Above it, though shuffled pairs come near, too few pixels are
# there to tell.
FAINT = 0.07
SHIFTED = 1.0  # px of the median: costs about 2 of 12 in G_L1
BEYOND = 2.0  # px
SHARE_BEYOND = 0.1


@dataclass(frozen=True)
class SceneShift:
    """The shift of one scene, from all its tiles.

    `estimate` is None where no tile has an edge. `spread` is the median distance in px of clear tile shifts from
    the scene's; `affine` describes how they change over the scene. Both None with too few clear tiles.
    """

    scene: str
    num_tiles: int
    estimate: Estimate | None
    spread: float | None
    affine: Affine | None
    extent: tuple[float, float] | None = None  # (rows, columns) between its outermost places, px

    @property
    def clear(self) -> bool:
        return self.estimate is not None and self.estimate.clear


@dataclass(frozen=True)
class Alignment:
    """Misregistration of a data set. Shifts in px: dx, dy > 0 where optical content lies right of, below the SAR's.

    `median_dy`, `median_dx`, `spread` (within a scene) and `share_beyond_2px` are over tiles, each with the shift of
    its scene, in scenes with a clear one; without any, the shift of all pairs pooled stands for all. None where
    nothing is clear or pairs are unpaired. `peak` is that of all pairs pooled, `shuffled_peak` the median over several
    wrong pairings of as many; None where there are no edges, or no other partner.

    `unpaired`: a peak below three times the shuffled one, which is also what a shift far beyond the reach looks like.
    `unclear`: too few pixels or edges to tell. `shifted`: the median shift is above 1 px, or more than a tenth of the
    tiles lie beyond 2 px.
    """

    verdict: Verdict
    median_dy: float | None
    median_dx: float | None
    spread: float | None
    share_beyond_2px: float | None
    peak: float | None
    shuffled_peak: float | None
    scenes: tuple[SceneShift, ...]


def align(
    tiles: Iterable[Tile],
    scenes: Sequence[str],
    *,
    places: Sequence[tuple[float, float] | None] | None = None,
    reach: int = REACH,
) -> Alignment:
    """The alignment of tiles of equal size: `scenes` names the scene of each, `places` where its middle lies
    there (y, x; px), None where that isn't known.

    Tiles are read once, one by one, and kept as edges: 24 bytes a pixel. Raises ValueError where lengths differ.
    """
    images = [(edges(sar, mask), edges(optical, mask)) for sar, optical, mask in tiles]
    if len(images) != len(scenes) or (places is not None and len(places) != len(scenes)):
        raise ValueError(f"{len(images)} tiles, but {len(scenes)} scenes and {len(places or scenes)} places")
    surfaces = [correlate(sar, optical, reach=reach) for sar, optical in images]
    members: dict[str, list[int]] = {}
    for index, scene in enumerate(scenes):
        members.setdefault(scene, []).append(index)
    found = tuple(
        _scene_shift(scene, [surfaces[i] for i in chosen], _known([places[i] for i in chosen] if places else []))
        for scene, chosen in sorted(members.items())
    )
    pooled = locate(pool(surfaces)) if surfaces else None
    return _alignment(found, pooled, shuffled_peak(images, scenes, reach=reach))


def _known(places: list[tuple[float, float] | None]) -> list[tuple[float, float]] | None:
    """Places of all tiles of a scene; None where one of them isn't known."""
    return None if not places or None in places else places


def _scene_shift(scene: str, surfaces: list[Surface], places: list[tuple[float, float]] | None) -> SceneShift:
    estimate, extent = locate(pool(surfaces)), None
    single = [locate(surface) for surface in surfaces]
    clear = [index for index, each in enumerate(single) if each is not None and each.clear]
    shifts = np.array([(single[index].dy, single[index].dx) for index in clear]).reshape(-1, 2)
    spread = affine = None
    if estimate is not None and len(clear) > 1:
        spread = float(np.median(np.hypot(*(shifts - (estimate.dy, estimate.dx)).T)))
    if places is not None and clear:
        affine, extent = fit_affine(np.array(places, float)[clear], shifts), tuple(np.ptp(places, axis=0).tolist())
    return SceneShift(scene, len(surfaces), estimate, spread, affine, extent)


def shuffled_peak(images: Sequence[tuple[Edges, Edges]], scenes: Sequence[str], *, reach: int = REACH) -> float | None:
    """The median peak of wrong pairings, each pooled over as many pairs as the right one; None where there are none."""
    peaks = []
    for partner in partners(scenes):
        surfaces = (correlate(images[i][0], images[j][1], reach=reach) for i, j in enumerate(partner))
        found = locate(pool(surfaces))
        peaks += [] if found is None else [found.peak]
    return float(np.median(peaks)) if peaks else None


def partners(scenes: Sequence[str]) -> list[list[int]]:
    """Up to four permutations without a fixed point, always the same ones: for each tile a wrong partner.

    It is of another scene unless one scene holds more than half of the tiles; then it is at least a third of the list
    away.
    """
    count = len(scenes)
    if count < 2:
        return []
    order = sorted(range(count), key=lambda index: (scenes[index], index))
    largest = max(Counter(scenes).values())
    least = largest if 2 * largest <= count else max(1, count // 3)
    found = []
    for offset in sorted(set(np.linspace(least, count - least, SHUFFLES).round().astype(int).tolist())):
        turned = dict(zip(order, order[offset:] + order[:offset], strict=True))
        found.append([turned[index] for index in range(count)])
    return found


def _alignment(scenes: tuple[SceneShift, ...], pooled: Estimate | None, shuffled: float | None) -> Alignment:
    peak = None if pooled is None else pooled.peak
    unpaired = peak is not None and shuffled is not None and peak < PAIRED * shuffled
    clear = [(scene.estimate, scene.num_tiles) for scene in scenes if scene.estimate and scene.clear]
    if not clear and pooled is not None and pooled.clear:
        clear = [(pooled, 1)]
    if unpaired or not clear:
        verdict = "unpaired" if unpaired and peak < FAINT else "unclear"
        return Alignment(verdict, None, None, None, None, peak, shuffled, scenes)
    dy, dx, lengths = (
        np.repeat([getattr(estimate, name) for estimate, _ in clear], [count for _, count in clear])
        for name in ("dy", "dx", "length")
    )
    median_dy, median_dx, beyond = float(np.median(dy)), float(np.median(dx)), float(np.mean(lengths > BEYOND))
    shifted = np.hypot(median_dy, median_dx) > SHIFTED or beyond > SHARE_BEYOND
    verdict = "unclear" if shuffled is None else "shifted" if shifted else "aligned"
    return Alignment(verdict, median_dy, median_dx, _spread(scenes), beyond, peak, shuffled, scenes)


def _spread(scenes: tuple[SceneShift, ...]) -> float | None:
    known = [(scene.spread, scene.num_tiles) for scene in scenes if scene.spread is not None and scene.clear]
    return float(np.median(np.repeat(*map(np.array, zip(*known, strict=True))))) if known else None
