"""`ablate show`: one trial, from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablate import events
from ablate.problems import Problem, StudyError
from ablate.readings import in_words
from ablate.records import KEPT, SLUG, StudyFolder, TrialFolder
from ablate.stored import read_cells, read_spec

APPLY = """\
import torch
from trainers.apply import load_generator
generator = load_generator({path!r})   # SAR to optical, both in [-1, 1]
with torch.no_grad():
    optical = generator(torch.zeros(1, generator.bands_in, {tile}, {tile}))"""

UNFLAGGED = {"healthy": "nothing was flagged", "unjudged": "too short a run to be judged"}
PASSED = "nothing of what was flagged holds at the end"


def find_trial(id: str, runs: Path) -> TrialFolder:
    """The folder of the trial whose id starts so, as `ID` or `STUDY/ID`. Raises StudyError if it is not one."""
    study, _, start = id.rpartition("/")
    named = not study or SLUG.fullmatch(study)
    folders = runs.glob(f"{study or '*'}/trials/*/spec.json") if named else ()
    found = sorted(path.parent for path in folders if _matches(path.parent.name, start))
    if len(found) == 1:
        return TrialFolder(found[0])
    if not found:
        message = f"no trial whose id starts so under {runs}/; `ablate status STUDY` lists them"
    else:
        names = ", ".join(f"{path.parent.parent.name}/{path.name}" for path in found[:6])
        message = f"{len(found)} trials start so, name one of them: {names}"
    raise StudyError([Problem(id or "TRIAL", 0, 0, "", message)])


def _matches(name: str, start: str) -> bool:
    """Whether an id starts so; what was put aside after a failure is no trial of its own."""
    return bool(start) and name.startswith(start) and "." not in name


def trial_document(folder: TrialFolder) -> dict[str, Any]:
    """Everything there is to say about a trial, as plain data."""
    spec = read_spec(folder)
    result = events.fold(spec["id"], events.read(folder.events))
    health = {
        key: rows[-1][2]
        for (split, key), rows in result.curves.items()
        if split == "train" and key.startswith("health/")
    }
    files = sorted(path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file())
    return {
        "id": spec["id"], "study": folder.root.parent.parent.name, "seed": spec["seed"],
        "arms": _arms(folder, spec["id"]),
        "status": str(result.status), "why": result.why, "steps": result.steps, "images": result.images,
        "stages_began": result.stages_began, "seconds": round(result.seconds, 2),
        "scores": dict(result.scores), "health": health,
        "diagnosis": result.diagnosis, "evidence": dict(result.evidence), "findings": dict(result.findings),
        "warnings": list(result.warnings), "recipe": spec["recipe"], "ranks": spec["ranks"],
        "threads": spec["threads"], "keep": spec.get("keep", KEPT[0]), "device": spec["device"], "data": spec["data"],
        "folder": str(folder.root), "files": files,
    }  # fmt: skip


def _arms(folder: TrialFolder, id: str) -> list[str]:
    study = folder.root.parent.parent
    cells = read_cells(StudyFolder(study.parent, study.name))
    return [cell["arm"] for cell in cells if cell["trial"] == id]


def describe(document: dict[str, Any]) -> str:
    """The trial for people: outcome first, then recipe, health and files."""
    d = document
    head = f"{d['id']}  {' = '.join(d['arms'])} · seed {d['seed']} of {d['study']}"
    outcome = f"{d['status']} after {d['steps']} generator updates, {d['images']} images, {d['seconds']:.1f} s"
    lines = [head, outcome + (f": {d['why']}" if d["why"] else "")]
    lines += [f"stage {stage} began after {updates} of them" for stage, updates in d["stages_began"].items()]
    lines += ["", *_diagnosis(d)] if d["diagnosis"] else []
    lines += ["", "scores (validation)", *_rows(d["scores"]), "", "health (last reading)", *_rows(d["health"])]
    lines += [f"  {warning}" for warning in d["warnings"] if not _found(warning, d["findings"])]
    lines += ["", "recipe", *(f"  {key}: {json.dumps(value)}" for key, value in d["recipe"].items())]
    lines += [f"  ranks: {d['ranks']}, threads: {d['threads']}, device: {d['device']}, data: {d['data']}"]
    lines += ["", f"files in {d['folder']}", *(f"  {name}" for name in d["files"])]
    generator = "checkpoints/generator.pt"
    if generator in d["files"]:
        code = APPLY.format(path=f"{d['folder']}/{generator}", tile=d["recipe"]["data"]["tile"])
        lines += ["", "apply its generator", *(f"  {line}" for line in code.splitlines())]
    elif d["keep"] == "nothing":
        lines += ["", "its generator was not kept (`keep: nothing` in the study)"]
    return "\n".join(lines)


def _found(warning: str, findings: dict[str, str]) -> bool:
    """Whether a finding says the same: it begins with its warning, and may go on to say when it passed."""
    return any(message.startswith(warning) for message in findings.values())


def _diagnosis(d: dict[str, Any]) -> list[str]:
    """The diagnosis first, then what it was read from in plain words, then what else was found."""
    unflagged = PASSED if d["findings"] and d["diagnosis"] == "healthy" else UNFLAGGED.get(d["diagnosis"])
    said = d["findings"].get(d["diagnosis"]) or unflagged or d["diagnosis"]
    others = [message for kind, message in d["findings"].items() if kind != d["diagnosis"]]
    lines = [f"diagnosis: {d['diagnosis']}", f"  {said}", *(f"    {line}" for line in in_words(d["evidence"]))]
    return lines + (["also found", *(f"  {message}" for message in others)] if others else [])


def _rows(values: dict[str, float]) -> list[str]:
    return [f"  {key:<28} {value:.6g}" for key, value in sorted(values.items())]
