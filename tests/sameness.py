"""What of a study has to be equal between two runs of it, however often one of them was killed (on a CPU)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ablate.records import StudyFolder, TrialFolder

OF_THIS_RUN = ("hours.png", "cost.png")  # figures of the report's provenance


def weights(folder: TrialFolder) -> str | None:
    """A digest of the final generator, tensor by tensor; None where there is none."""
    import torch

    path = folder.checkpoints / "generator.pt"
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True, map_location="cpu")["generator"]
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def report(folder: StudyFolder) -> dict[str, bytes]:
    """The report's files without what depends on time and place: its provenance."""
    found = {name: data for name, data in files(folder.report).items() if Path(name).name not in OF_THIS_RUN}
    for name, mark in (("report.md", b"## Provenance"), ("report.html", b"<h2>Provenance</h2>")):
        if name in found:
            found[name] = found[name].partition(mark)[0]
    if "report.json" in found:
        document = json.loads(found["report.json"])
        document.pop("provenance", None)
        found["report.json"] = json.dumps(document).encode()
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
