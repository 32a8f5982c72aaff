"""`ablate data cache`: what is prepared under a runs folder, and which studies use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablate.records import StudyFolder
from trainers.pairs import DataError
from trainers.tiles import damage


def entries(runs: Path) -> list[dict[str, Any]]:
    """Every prepared data set: its fingerprint, layout, tiles, bytes, and the studies under `runs` that use it."""
    cache = StudyFolder(runs, "").cache
    used = users(runs)
    return [
        _entry(folder) | {"studies": sorted(used.get(folder.name, ()))}
        for folder in sorted(cache.glob("*"))
        if folder.is_dir() and (folder / "mask.npy").is_file()
    ]


def users(runs: Path) -> dict[str, set[str]]:
    """Fingerprint -> names of the studies whose trials were made with it. Raises DataError for a broken file."""
    found: dict[str, set[str]] = {}
    for path, read in [
        *((spec, _of_spec) for spec in runs.glob("*/trials/*/spec.json")),
        *((plan, _of_plan) for plan in runs.glob("*/plan.json")),
    ]:
        try:
            name = path.relative_to(runs).parts[0]
            for fingerprint in read(json.loads(path.read_text())):
                found.setdefault(fingerprint, set()).add(name)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{path}: damaged, so which data sets its study uses is not known") from None
    return found


def _of_spec(document: Any) -> list[str]:
    return [document["spec"]["data"]]


def _of_plan(document: Any) -> list[str]:
    """The base's data set, and those of all arms where the plan names them."""
    return [document["data"]["fingerprint"], *document.get("data_sets", ())]


def prune_unused(runs: Path) -> list[dict[str, Any]]:
    """Remove what no study uses; the entries that were removed."""
    from trainers.prepare import prune

    before = {entry["fingerprint"]: entry for entry in entries(runs)}
    removed = prune(StudyFolder(runs, "").cache, keep={name for name, entry in before.items() if entry["studies"]})
    return [before[name] | {"removed": True} for name in removed if name in before]


def _entry(folder: Path) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in folder.iterdir())
    if damage(folder) is not None:
        return {"fingerprint": folder.name, "layout": "damaged", "tile": 0, "tiles": 0, "bytes": size}
    meta = json.loads((folder / "meta.json").read_text())
    return {"fingerprint": folder.name, "layout": meta["layout"], "tile": meta["tile"],
            "tiles": len(meta["tiles"]["name"]), "bytes": size}  # fmt: skip


def describe(found: list[dict[str, Any]], runs: Path) -> str:
    if not found:
        return f"nothing is prepared under {runs}/ that could be listed here"
    removed = any(entry.get("removed") for entry in found)
    lines = [
        f"{entry['fingerprint']}  {entry['layout']:<10} {entry['tiles']:>6} tiles of {entry['tile']} px "
        f"{entry['bytes'] / 2**20:>8.1f} MiB  {', '.join(entry['studies']) or 'used by no study'}"
        for entry in found
    ]
    total = sum(entry["bytes"] for entry in found) / 2**20
    return "\n".join([*lines, f"{'removed' if removed else 'together'} {total:.1f} MiB"])
