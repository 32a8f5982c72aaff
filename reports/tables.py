"""The results as data: table.csv for spreadsheets, report.json for programs; full precision."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from reports.page import Page
from reports.scoring import mean_of

SCHEMA = 1
COLUMNS = (
    "rank", "arm", "changes", "n_ok", "n_planned", "mean", "sd", "difference", "low", "high", "shrunken", "verdict",
    "p_adjusted", "p_best", "best_set",
)  # fmt: skip
MORE = ("n_failed", "score", "worst", "p_beats", "rank_low", "rank_high", "same_as")


def rows(page: Page) -> list[dict[str, Any]]:
    """One row per planned arm, best first; None where a number is undefined.

    A further name of an arm follows it with the same numbers and `same_as` set.
    """
    found = []
    for name in page.order:
        row = _row(page, name)
        found.append(row)
        found += [row | {"arm": alias, "same_as": name} for alias in page.arm(name).aliases]
    return found


def _row(page: Page, name: str) -> dict[str, Any]:
    summary, effect = page.analysis.arms[name], page.analysis.effect(name)
    arm = page.arm(name)
    return {
        "rank": page.place(name),
        "arm": name,
        "changes": "; ".join(f"{factor}={level}" for factor, level in arm.changes.items()) or None,
        "n_ok": summary.n_ok,
        "n_planned": summary.n_planned,
        "mean": summary.mean,
        "sd": summary.sd,
        "difference": effect.difference if effect else None,
        "low": effect.low if effect else None,
        "high": effect.high if effect else None,
        "shrunken": effect.shrunken if effect else None,
        "verdict": effect.verdict if effect else "baseline",
        "p_adjusted": effect.p_adjusted if effect else None,
        "p_best": summary.p_best,
        "best_set": name in page.analysis.best_set if page.analysis.best_set else None,
        **{metric.name: mean_of(page.results, name, metric.name) for metric in page.results.also},
        "n_failed": summary.n_failed,
        "score": summary.score,
        "worst": summary.worst,
        "p_beats": summary.p_beats,
        "rank_low": summary.ranks[0] if summary.ranks else None,
        "rank_high": summary.ranks[1] if summary.ranks else None,
        "same_as": None,
    }


def table_csv(page: Page) -> str:
    also = [metric.name for metric in page.results.also]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *also, *MORE], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows(page):
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else value


def report_json(page: Page) -> str:
    """Everything the report says, as one document; `provenance` alone depends on time and place."""
    results = page.results
    document = {
        "schema": SCHEMA,
        "study": results.name,
        "question": results.question,
        "metric": asdict(results.metric) | {"split": results.split},
        "unavailable": {metric.name: why for metric, why in results.unavailable},
        "plan": results.hash,
        "trials": {"planned": len(results.all_runs), "settled": sum(not run.missing for run in results.all_runs)},
        "analysis": asdict(page.analysis),
        "table": rows(page),
        "stability": asdict(page.stability) if page.stability else None,
        "confirms": dict(results.confirms) or None,
        "test_reads": results.test_reads,
        "references": results.references,
        "runs": [
            {"arm": run.arm, "seed": run.seed, "trial": run.trial, "outcome": run.outcome,
             "score": run.score(results.metric.name), "flags": dict(run.flags)}
            for run in results.all_runs
        ],
        "provenance": results.provenance,
    }  # fmt: skip
    return json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
