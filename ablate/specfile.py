"""What a job finds in its trial's folder when it begins: the specification."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate import startfiles
from ablate.branching import Branch, for_worker
from ablate.failpoints import failpoint
from ablate.records import TrialFolder, TrialSpec, write_atomically

CACHE = "../../../cache"  # of the runs folder, from a trial's


def write_spec(folder: TrialFolder, spec: TrialSpec, metrics: Sequence[str], branches: Mapping[str, Branch]) -> None:
    """Written once, so that a trial that is taken up again finds the same bytes; anew where they are damaged, or ask
    for other metrics (which make no other trial) and it has not begun.
    """
    stated = _stated(folder.spec)
    begun = folder.events.exists() and folder.events.stat().st_size > 0
    if stated and (begun or stated.get("metrics") == list(metrics)):
        return
    start = {role: f"{CACHE}/{place}" for role, place in startfiles.for_worker(spec.recipe).items()}
    document = {"spec": spec.to_json(), "metrics": list(metrics), "cache": f"{CACHE}/{spec.data}"}
    document |= {"start": start} if start else {}
    document |= for_worker(spec.id, branches)
    write_atomically(folder.spec, json.dumps(document, indent=1))
    failpoint("spec-written")


def _stated(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
