"""What rows of results may not hold: unknown outcomes, a run listed twice; and what has to be said of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablate.problems import Problem, StudyError, did_you_mean, quoted
from ablate.readers.found import LISTED, Found
from ablate.records import Status

if TYPE_CHECKING:
    import pandas

# What other programs call a finished run.
DONE = frozenset({"", "done", "finished", "complete", "completed", "success", "succeeded", "ok"})


def outcomes(found: Found, problems: list[Problem]) -> tuple[list[str], list[str]]:
    """The outcome of every row, and what has to be said of it."""
    if stated := found.columns.get(("fact", "status")):
        return list(stated), []
    key = found.key("status", ("column",))
    if key is None:
        return ["done"] * len(found.places), ["There is no column status: all runs count as finished, none as failed."]
    names = [str(status) for status in Status]
    read = ["" if value is None else str(value).strip().lower() for value in found.columns[key]]
    unknown = [(text, place) for text, place in zip(read, found.places, strict=True) if text not in DONE | set(names)]
    for text, place in unknown[:LISTED]:
        said = f"status: {quoted(text)} is unknown; there are {', '.join(names)}{did_you_mean(text, names)}"
        problems.append(found.problem(said, place))
    return ["done" if text in DONE else text for text in read], []


def check_rows(
    found: Found, frame: pandas.DataFrame, *, measured: Sequence[str]
) -> tuple[pandas.DataFrame, list[str]]:
    """The frame less runs that were lost and run again. Raises StudyError for a run that is listed twice."""
    frame, rerun = _without_reruns(frame)
    cell = ["arm", "seed", *(["scene"] if "scene" in frame.columns else [])]
    twice = frame[frame.duplicated(cell, keep=False)]
    if len(twice):
        raise StudyError(_twice(found, twice, cell))
    if "scene" in frame.columns:
        _check_outcomes_of_runs(found, frame)
    return frame, [*rerun, *_near_names(frame), *_same_values(frame, measured[0]), *_holes(frame)]


def _without_reruns(frame: pandas.DataFrame) -> tuple[pandas.DataFrame, list[str]]:
    """A run that the machine lost and that was run again counts by what came of it then."""
    cells = frame["arm"] + "\0" + frame["seed"].astype(str)
    lost = frame["status"] == Status.failed
    again = lost & cells.isin(set(cells[~lost]))
    if not again.any():
        return frame, []
    count = int(again.sum())
    said = "One failed run was" if count == 1 else f"{count} failed runs were"
    return frame[~again].reset_index(drop=True), [f"{said} run again with the same seed: the later outcome counts."]


def _twice(found: Found, twice: pandas.DataFrame, cell: list[str]) -> list[Problem]:
    groups = [(key, list(rows["place"])) for key, rows in twice.groupby(cell, sort=False)]
    problems = []
    for key, places in groups[:LISTED]:
        named = ", ".join(f"{noun} {value}" for noun, value in zip(cell, key, strict=True))
        more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
        problems.append(found.problem(f"{named} is listed {len(places)} times: {', '.join(places[:LISTED])}{more}"))
    if len(groups) > LISTED:
        problems.append(found.problem(f"{len(groups) - LISTED} more are listed more than once"))
    if "scene" not in cell:
        problems.append(found.problem("if these rows are scenes or images of one run, name their column: --scene-from"))
    return problems


def _check_outcomes_of_runs(found: Found, frame: pandas.DataFrame) -> None:
    counts = frame.groupby(["arm", "seed"], sort=False)["status"].nunique()
    mixed = [f"arm {arm}, seed {seed}" for arm, seed in counts[counts > 1].index]
    if mixed:
        raise found.refusal(f"the rows of one run have different outcomes: {'; '.join(mixed[:LISTED])}")


def _near_names(frame: pandas.DataFrame) -> list[str]:
    """Arms whose names differ by case or inner spaces alone."""
    alike: dict[str, list[str]] = {}
    for arm in dict.fromkeys(frame["arm"]):
        alike.setdefault("".join(arm.lower().split()), []).append(arm)
    first = frame.drop_duplicates("arm").set_index("arm")["place"]
    return [
        "Arms " + " and ".join(f"{arm!r} ({first[arm]})" for arm in arms)
        + " differ only by case or spaces: they are analysed as different arms."
        for arms in alike.values()
        if len(arms) > 1
    ]  # fmt: skip


def _same_values(frame: pandas.DataFrame, metric: str) -> list[str]:
    """Arms that share every value: one run under two names, or a copy."""
    if "scene" in frame.columns or frame["trial"].notna().any():
        return []
    alike: dict[tuple, list[str]] = {}
    for arm, rows in frame[frame[metric].notna()].groupby("arm", sort=True):
        alike.setdefault(tuple(sorted(zip(rows["seed"], rows[metric], strict=True))), []).append(arm)
    return [
        f"{' and '.join(arms)} have equal values for every seed: if they are one arm with two names, leave one out."
        for values, arms in alike.items()
        if len(arms) > 1 and len({value for _, value in values}) > 1
    ]


def _holes(frame: pandas.DataFrame) -> list[str]:
    """Cells of the table of arms and seeds that have no row."""
    seen = set(zip(frame["arm"], frame["seed"], strict=True))
    arms, seeds = sorted(set(frame["arm"])), sorted(set(frame["seed"]))
    missing = len(arms) * len(seeds) - len(seen)
    if not missing:
        return []
    named = [f"{arm} seed {seed}" for arm in arms for seed in seeds if (arm, seed) not in seen][:LISTED]
    more = f" and {missing - LISTED} more" if missing > LISTED else ""
    return [f"No row for {', '.join(named)}{more}: arms are compared over the seeds that they share."]
