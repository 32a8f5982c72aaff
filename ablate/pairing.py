"""Whether prepared tiles look like pairs: asked of a few before anything is trained."""

from __future__ import annotations

from pathlib import Path

LOOKED_AT = 48  # training tiles


def unpaired(prepared: Path) -> str | None:
    """What to say where a sample of prepared tiles shows no sign that SAR and optical are pairs; None where it does."""
    from trainers.checks.alignment import align
    from trainers.tiles import Tiles, probe

    tiles = Tiles.open(prepared)
    chosen = probe(tiles, LOOKED_AT, split="train")
    sar, optical, mask = tiles.read(chosen)
    triples = ((s, o, m[0] > 0) for s, o, m in zip(sar, optical, mask, strict=True))
    found = align(triples, [tiles.scenes[index] for index in chosen])
    if found.verdict != "unpaired":
        return None
    return (
        f"edges of SAR and optical agree no better than those of shuffled pairs (peak {found.peak:.3f} against "
        f"{found.shuffled_peak:.3f}): are they pairs, and on one grid? `ablate data check` looks at all of them"
    )
