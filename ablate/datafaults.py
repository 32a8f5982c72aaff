"""What is wrong with a data set, in plain words: what was found, what it may cost, and what to set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

import numpy as np

from ablate.datachecked import Checked, clipped_shares
from trainers.checks.alignment import BEYOND, SHIFTED, Alignment, SceneShift
from trainers.checks.leaks import Finding
from trainers.pairs import some

CLIPPED = 0.05  # share of a band's values outside its range
BRIGHT = 0.1  # share of a pair's pixels that are near white
MASKED = 0.25
DEFORMED = 1.0  # px over a scene
SHIFT_COST = ((1.0, 2.0), (2.0, 3.5), (4.0, 5.0))  # px of shift -> what it adds to G_L1 at lambda 100, on real tiles


@dataclass(frozen=True)
class Fault:
    """`code` is for scripts; `cost` and `remedy` may be empty."""

    code: str
    what: str
    cost: str = ""
    remedy: str = ""


def faults(found: Checked) -> Iterator[Fault]:
    """Everything worth a word, the gravest first."""
    yield from _pairing(found)
    yield from _leaking(found)
    yield from _left(found)
    yield from _shifted(found)
    yield from _values(found)
    yield from _tiles(found)


def _pairing(found: Checked) -> Iterator[Fault]:
    alignment = found.alignment
    if alignment is not None and alignment.verdict == "unpaired":
        yield Fault(
            "unpaired",
            f"SAR and optical images don't show the same ground: edges agree no better than those of shuffled pairs "
            f"(peak {alignment.peak:.3f} against {alignment.shuffled_peak or 0:.3f})",
            "a generator can learn nothing but the mean picture: G_L1 stays near that of the mean colour or above",
            "check how names pair up and that both sides are on one grid; a shift above 8 px looks like this too",
        )
    votes = [look.swapped for look in found.looks if look.swapped is not None]
    if votes and sum(votes) * 2 > len(votes):
        yield Fault(
            "swapped", f"SAR and optical are probably in each other's place (so in {sum(votes)} of {len(votes)} pairs)",
            "the study would learn optical -> SAR", "exchange the two folders or columns",
        )  # fmt: skip


def _leaking(found: Checked) -> Iterator[Fault]:
    if found.unsplit:
        yield Fault("split", found.unsplit)
    for finding in (finding for finding in found.leaks if finding.leaking):
        first = finding.leaks[0]
        yield Fault(
            f"leak_{finding.method}", _leak_words(finding, first.one, first.other, first.splits),
            "scores on validation reward memory: on real data a linear map beat the mean colour by 0.3 dB under a "
            "leaking split, and lost to it with scenes kept whole",
            _leak_remedy(finding),
        )  # fmt: skip


def _leak_words(finding: Finding, one: str, other: str, splits: tuple[str, str]) -> str:
    what = {
        "scene": "scenes stand in two splits", "bounds": "images of different splits overlap on the ground",
        "borders": "tiles of different splits continue one another at their borders",
        "overlap": "tiles of different splits overlap", "duplicates": "images stand in two splits",
        "likeness": "tiles of different splits are nearly the same",
    }.get(finding.method, f"{finding.method} between splits")  # fmt: skip
    return f"{what}: {finding.found} found, such as {one} ({splits[0]}) and {other} ({splits[1]})"


def _leak_remedy(finding: Finding) -> str:
    if finding.method == "bounds":
        return "set data.split.guard to 1 or more (px): images nearer than that stay in one split"
    return (
        "name scenes so that neighbours share one (column group, option scene_pattern); or accept it with "
        "data.allow_leak: true, which the report prints"
    )


def _left(found: Checked) -> Iterator[Fault]:
    left = found.examination.left
    by_reason: dict[str, list[str]] = {}
    for one in left:
        by_reason.setdefault(one.reason, []).append(one.detail)
    for reason, details in sorted(by_reason.items()):
        can = any("data.resample" in detail for detail in details)
        remedy = "set data.resample: bilinear to bring the optical images onto the SAR's grid" if can else ""
        yield Fault(
            f"dropped_{reason}", f"{len(details)} can't be used: {some(details)}",
            "`ablate run` refuses the data set as long as they are there", remedy,
        )  # fmt: skip


def _shifted(found: Checked) -> Iterator[Fault]:
    alignment = found.alignment
    if alignment is None:
        return
    if alignment.verdict == "shifted":
        yield _all_shifted(alignment) if _length(alignment) > SHIFTED else _some_shifted(alignment)
    bent = [(one.scene, change) for one in alignment.scenes if (change := _change(one)) > DEFORMED]
    if bent:
        worst = max(bent, key=lambda pair: pair[1])
        yield Fault(
            "deformed", f"the shift changes over {len(bent)} scenes, over {worst[0]} by {worst[1]:.1f} px",
            "no single offset brings such a scene into place", "resample one side with ground control points",
        )  # fmt: skip
    if alignment.verdict == "unclear":
        alone = alignment.shuffled_peak is None
        why = "there is no other pair to compare with" if alone else "too few pixels or edges"
        yield Fault("unclear", f"whether the pairs are aligned can't be told: {why}")


def _all_shifted(alignment: Alignment) -> Fault:
    where = f"{abs(alignment.median_dx):.1f} px {'right' if alignment.median_dx >= 0 else 'left'} of and "
    where += f"{abs(alignment.median_dy):.1f} px {'below' if alignment.median_dy >= 0 else 'above'} the SAR's"
    return Fault(
        "shifted",
        f"optical content lies {where} (median); {alignment.share_beyond_2px:.0%} lies beyond 2 px",
        f"about {_cost(_length(alignment))} of G_L1 at lambda 100 that no generator can win back; a shift that all "
        "scenes share is learnt with the translation, one that differs from scene to scene blurs",
        "co-register the pairs",
    )


def _some_shifted(alignment: Alignment) -> Fault:
    """Few scenes lie apart, the most do not."""
    apart = [one for one in alignment.scenes if one.clear and one.estimate.length > BEYOND]
    named = [f"{one.scene} (dx {one.estimate.dx:+.1f}, dy {one.estimate.dy:+.1f})" for one in apart]
    longest = max(one.estimate.length for one in apart)
    return Fault(
        "shifted",
        f"{len(apart)} of {len(alignment.scenes)} scenes lie more than {BEYOND:g} px apart: {some(named)}; the median "
        f"is dx {alignment.median_dx:+.1f}, dy {alignment.median_dy:+.1f} px",
        f"in them up to about {_cost(longest)} of G_L1 at lambda 100; a shift that differs from scene to scene blurs",
        "co-register those scenes, or leave them out",
    )


def _length(alignment: Alignment) -> float:
    return hypot(alignment.median_dy, alignment.median_dx)


def _change(scene: SceneShift) -> float:
    """By how many px the shift changes over a scene, corner to corner; 0 where it isn't known, or is scatter."""
    if scene.affine is None or scene.extent is None:
        return 0.0
    slopes = scene.affine.matrix[:, :2]
    change = max(float(np.hypot(*(slopes @ np.array([scene.extent[0], sign * scene.extent[1]])))) for sign in (1, -1))
    return change if change > 2 * scene.affine.residual else 0.0


def _cost(pixels: float) -> str:
    """What a shift adds to G_L1, between the lengths that were measured."""
    before = (0.0, 0.0)
    for length, cost in SHIFT_COST:
        if pixels <= length:
            share = (pixels - before[0]) / (length - before[0])
            return f"{before[1] + share * (cost - before[1]):.1f}"
        before = (length, cost)
    return f"{SHIFT_COST[-1][1]:.0f} or more"


def _values(found: Checked) -> Iterator[Fault]:
    for side, scaling, shares in zip(("sar", "optical"), found.scalings, clipped_shares(found.looks), strict=True):
        for band, share in enumerate(shares, start=1):
            if share > CLIPPED:
                low, high = scaling.low[band - 1], scaling.high[band - 1]
                key = "low and high" if side == "sar" else "range"
                outside = f"{share:.0%} of {side} band {band} lies outside {low:g}..{high:g}"
                yield Fault(
                    f"clipped_{side}", f"{outside} and is clipped",
                    "what is clipped is lost to the networks",
                    f"is data.{side}.domain right?" if side == "sar" and share > 0.5
                    else f"set data.{side}.{key}, or take percentiles",
                )  # fmt: skip


def _tiles(found: Checked) -> Iterator[Fault]:
    small = [look.pair.name for look in found.looks if not look.tiles and not look.dropped_tiles]
    if small:
        yield Fault("small", f"{len(small)} pairs are smaller than data.tile {found.data.tile}: {some(small)}",
                    "they are left out", "set data.tile to their size or below")  # fmt: skip
    kinds = (
        ("constant_sar", "SAR images show one value", [look.pair.name for look in found.looks if look.constant_sar]),
        ("constant_optical", "optical images show one colour",
         [look.pair.name for look in found.looks if look.constant_optical]),
        ("bright", f"optical images are near white (cloud, snow, ice) on {BRIGHT:.0%} of their pixels or more",
         [look.pair.name for look in found.looks if look.bright > BRIGHT]),
        ("nodata", f"pairs are masked on {MASKED:.0%} of their pixels or more",
         [look.pair.name for look in found.looks if look.masked > MASKED]),
    )  # fmt: skip
    for code, words, names in kinds:
        if names:
            yield Fault(code, f"{len(names)} {words}: {some(names)}", "", "take them out, unless they are meant")
