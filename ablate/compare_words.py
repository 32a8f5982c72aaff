"""The document of `ablate compare` in words: sections of changes, a table of numbers, and an honest sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ablate.analyse_words import difference

SHOWN = 12  # changes of one section
UNKNOWN = "unknown: one of the two does not say"
WIDEST = 48  # characters of a value


def describe(found: Mapping[str, Any]) -> str:
    """The whole comparison as plain text."""
    a, b = found["a"]["name"], found["b"]["name"]
    title = f"A: {a}   B: {b}" + (f"   (baselines {found['a']['baseline']} and {found['b']['baseline']})"
                                  if found["a"]["baseline"] != found["b"]["baseline"] else "")  # fmt: skip
    sections = {
        "recipe": _recipe(found["recipe"]), "data": _data(found["data"]), "code": _code(found["code"]),
        "plan": _plan(found["plan"]), "machine": _machine(found["machine"]),
    }  # fmt: skip
    lines = [title, ""]
    for name, said in sections.items():
        lines += [f"{name}: {said[0]}", *(f"  {line}" for line in said[1:])]
    return "\n".join([*lines, "", *_numbers(found["numbers"]), "", *answer(found)])


def answer(found: Mapping[str, Any]) -> list[str]:
    """Whether the two differ beyond their errors, and whether equal runs gave equal values."""
    return [*_apart(found["numbers"]), *_verdicts(found["numbers"]), *_reproduced(found)]


def _apart(numbers: Mapping[str, Any]) -> list[str]:
    if not numbers["compared"]:
        return [f"The numbers are not compared: {numbers['why']}."]
    rows = numbers["arms"]
    claims = [row for row in rows if row["verdict"] == "differs"]
    judged = [row for row in rows if row["low"] is not None]
    if not judged:
        if all(row["verdict"] == "no variation" for row in rows):
            return [_unvaried(rows)]
        return ["Fewer than 3 usable seeds, or no error estimate: the changes are estimates only, without a claim."]
    if not claims:
        many = "the one common arm's difference" if len(judged) == 1 else f"any of the {len(judged)} arms' differences"
        return [f"The errors of the two studies do not allow to say that {many} from the baseline changed (95 %,"
                " simultaneous). That does not show that they are equal."]  # fmt: skip
    log = numbers["metric"]["scale"] == "log"
    named = "; ".join(f"{row['arm']} by {difference(row['change'], log)} {_interval(row, log)}" for row in claims)
    return [f"From A to B the difference from the baseline changed beyond the errors of both studies (95 %,"
            f" simultaneous) in {len(claims)} of {len(judged)} arms: {named}."]  # fmt: skip


def _unvaried(rows: list[Mapping[str, Any]]) -> str:
    """All seeds agree to the last digit: most often because they are the same runs."""
    if all(row["change"] == 0 for row in rows):
        return "Every common arm has the same difference from the baseline in both, seed by seed."
    return "The changes are the same for every seed: there is no variation to compare them with, and no claim."


def _verdicts(numbers: Mapping[str, Any]) -> list[str]:
    if not numbers["compared"]:
        return []
    rows = {row["arm"]: row for row in numbers["arms"]}
    said = [f"{arm}: {rows[arm]['a']['verdict']} -> {rows[arm]['b']['verdict']}" for arm in numbers["verdicts_changed"]]
    if not said:
        return ["No verdict changed." if rows else "There is no common arm."]
    return [f"Verdicts that changed: {'; '.join(said)}. A verdict may change where the arm's difference did not."]


def _reproduced(found: Mapping[str, Any]) -> list[str]:
    """Runs with one id differ only by code, versions and machine."""
    facts = found["reproduced"]
    if not facts["trials"]:
        return []
    if facts["identical"] == facts["trials"]:
        return [f"Reproduced: the {facts['trials']} trials that both share ended with identical values."]
    apart = facts["trials"] - facts["identical"]
    said = (f"{apart} of the {facts['trials']} trials that both share (same recipe, seed, data and ranks) ended with"
            f" different values, by {facts['largest_difference']:.3g} at most")  # fmt: skip
    if found["code"]["same"]:
        return [f"Not reproduced: {said}, though recipe, data and code are the same. What is left is the machine, the"
                " other packages, or training that does not repeat."]  # fmt: skip
    which = "their training code or torch differs" if found["code"]["same"] is False else "their code is not known"
    return [f"Not reproduced: {said}; {which}."]


# -- sections ----------------------------------------------------------------------------------------


def _recipe(facts: Mapping[str, Any]) -> list[str]:
    if not facts["known"]:
        return [UNKNOWN]
    arms = facts["arms"]
    lines = _changes(facts["base"], prefix="base ")
    lines += [f"arm added: {name}" for name in arms["added"]] + [f"arm removed: {name}" for name in arms["removed"]]
    lines += [f"arm renamed: {old} -> {new}" for old, new in arms["renamed"].items()]
    for name, paths in arms["changed"].items():
        lines += [f"arm {name}: {line}" for line in _changes(paths, none="as the base")]
    return _headed(lines, "the same base and the same arms")


def _data(facts: Mapping[str, Any]) -> list[str]:
    if not facts["known"]:
        return [UNKNOWN]
    lines = _changes(facts["changed"]) + _changes(facts["options"])
    lines += [f"scenes moved in or out of {split}: {_few(scenes)}" for split, scenes in facts["scenes_moved"].items()]
    for side, said in facts["cautions"].items():
        lines += [f"only {side.upper()} has the caution: {text}" for text in said]
    return _headed(lines, "the same")


def _code(facts: Mapping[str, Any]) -> list[str]:
    if not facts["known"]:
        return [UNKNOWN, *_changes(facts["versions"])] if facts["versions"] else [UNKNOWN]
    lines = [] if facts["same"] else [f"training code: {_few(facts['training'][0])} -> {_few(facts['training'][1])}"]
    return _headed(lines + _changes(facts["versions"]), "the same training code, torch and packages")


def _plan(facts: Mapping[str, Any]) -> list[str]:
    lines = _changes(facts["changed"])
    return _headed(lines, "the same" if facts["known"] else UNKNOWN)


def _machine(facts: Mapping[str, Any]) -> list[str]:
    costs = [f"{_cost(side, value)}" for side, value in zip("AB", facts["cost"]["trial_seconds"], strict=True)]
    lines = _changes(facts["changed"]) + [f"training: {', '.join(costs)}"] * any(facts["cost"]["trial_seconds"])
    if not facts["known"]:
        return [UNKNOWN, *lines]
    return ["the same", *lines] if not facts["changed"] else ["changed", *lines]


def _cost(side: str, seconds: float | None) -> str:
    return f"{side} unknown" if seconds is None else f"{side} {seconds / 3600:.3g} h"


def _headed(lines: list[str], same: str) -> list[str]:
    return ["changed", *lines] if lines else [same]


def _changes(pairs: Mapping[str, Any], *, prefix: str = "", none: str = "none") -> list[str]:
    lines = [f"{prefix}{path}: {_value(old, none)} -> {_value(new, none)}" for path, (old, new) in pairs.items()]
    return lines[:SHOWN] + ([f"... and {len(lines) - SHOWN} more (--json has all)"] if len(lines) > SHOWN else [])


def _value(value: Any, none: str) -> str:
    text = none if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# -- numbers -----------------------------------------------------------------------------------------


def _numbers(facts: Mapping[str, Any]) -> list[str]:
    if not facts["compared"]:
        return ["numbers: not compared"]
    metric, log = facts["metric"], facts["metric"]["scale"] == "log"
    way = "higher" if metric["goal"] == "max" else "lower"
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    means = " and ".join("unknown" if mean is None else f"{mean:.4g}" for mean in facts["baseline_means"])
    lines = [f"numbers: differences from each study's own baseline on {metric['label']}{unit}, {way} is better",
             f"  the baselines' own means are {means}{_own(facts, log)}", f"  {_pairing(facts)}"]  # fmt: skip
    head = ("arm", "A", "verdict", "B", "verdict", "B minus A", "")
    rows = [_row(row, log) for row in facts["arms"]]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    return [*lines, *("  " + "  ".join(row).rstrip() for row in padded)]


def _own(facts: Mapping[str, Any], log: bool) -> str:
    """The change of the baseline's mean with its own interval."""
    row, where = facts["baseline"], " over the shared seeds" if facts["paired"] else ""
    if row["low"] is None:
        return ""
    return f", B minus A{where} {difference(row['change'], log)} {_interval(row, log)}: {row['verdict']}"


def _pairing(facts: Mapping[str, Any]) -> str:
    if facts["paired"]:
        return f"same data and seeds: the changes are taken seed by seed over {', '.join(map(str, facts['seeds']))}"
    a, b = facts["seeds_of"]
    return f"not paired by seed: {len(a)} and {len(b)} seeds, the errors of both studies add up"


def _row(row: Mapping[str, Any], log: bool) -> tuple[str, ...]:
    sides = [f"{difference(row[side]['difference'], log)} {_interval(row[side], log)}".strip() for side in ("a", "b")]
    change = f"{difference(row['change'], log)} {_interval(row, log)}".strip()
    return (row["arm"], sides[0], row["a"]["verdict"], sides[1], row["b"]["verdict"], change, row["verdict"])


def _interval(row: Mapping[str, Any], log: bool) -> str:
    return "" if row["low"] is None else f"[{difference(row['low'], log)}, {difference(row['high'], log)}]"
