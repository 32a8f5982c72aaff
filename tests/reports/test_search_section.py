"""What a report says of a search, from its folder."""

from __future__ import annotations

import json

import pytest

from ablate.records import StudyFolder
from reports.load import load
from reports.markdown import markdown
from reports.page import compose
from reports.scoring import analyse_results
from reports.sections.search import search
from tests.reports.factory import GMSD, study, table

SPACE = {
    "optimizer.lr": {"low": 5e-5, "high": 2e-3, "log": True},
    "generator.width": {"low": 4, "high": 16, "step": 4},
    "objective.name": {"values": ["vanilla", "hinge"]},
    "objective.smoothing": {"values": [[1.0, 0.0], [0.9, 0.0]], "when": {"objective.name": ["vanilla"]}},
}
SEARCH = {"sampler": "random", "trials": 3, "seed": 0, "objectives": ["psnr"], "pruner": "none", "seeds_per_arm": 4,
          "space": SPACE}  # fmt: skip
IMPORTANCES = {
    "method": "fANOVA", "arms": 12, "shuffles": 5, "values": {"optimizer.lr": 0.8, "generator.width": 0.05},
    "decoys": {"optimizer.lr": 0.07, "generator.width": 0.02}, "highest": 0.07, "left_out": ["objective.smoothing"],
}  # fmt: skip


def arm(name: str, index: int) -> dict:
    sampled = {"optimizer.lr": 1e-4 * index, "generator.width": 4 * index, "objective.name": "hinge"}
    differences = {path: [None, value] for path, value in sampled.items()}
    return {"name": name, "changes": {}, "differences": differences, "terms": ["l1"], "generator_updates": 20,
            "images": 80, "notes": [], "sampled": sampled, "marks": {}}  # fmt: skip


def page_of(tmp_path, *, importances=None, **changes):
    scores = table({"base": 20.0, "s001": 21.0, "s002": 19.0, "s003": 20.5}, 4)
    base = {"name": "base", "changes": {}, "differences": {}}
    arms = [base, *(arm(f"s00{index}", index) for index in (1, 2, 3))]
    found = {"design": "search", "search": {**SEARCH, **changes}, "properties": {"refused": []}}
    folder = study(tmp_path, scores, **{"arms": arms, **found})
    if importances:
        StudyFolder(tmp_path, "remedies").search.write_text(json.dumps({"importances": importances}))
    results = load(folder)
    return compose(results, analyse_results(results))


def test_a_search_is_reported_with_its_space_its_best_and_what_it_cannot_say(tmp_path):
    text = search(page_of(tmp_path))
    assert "3 arms of 3 were drawn, independently of each other, each on 4 seeds" in text
    assert "in steps of" in text and "log scale" in text and "(where `objective.name` is `vanilla`)" in text
    assert "does not say what single settings do" in text and "Confirm it on fresh seeds" in text
    rows = [line for line in text.splitlines() if line.startswith("| `s00")]
    assert rows[0].startswith("| `s001`") and len(rows) == 3 and "`0.0001`" in rows[0]
    assert text in markdown(page_of(tmp_path / "again"))


def test_importances_stand_beside_their_decoys(tmp_path):
    text = search(page_of(tmp_path, importances=IMPORTANCES))
    assert "Above every decoy: `optimizer.lr`." in text and "| `optimizer.lr` | 0.80 | 0.07 |" in text
    assert "Left out, as not every arm has them: `objective.smoothing`." in text


def test_importances_that_would_mislead_are_not_given(tmp_path):
    text = search(page_of(tmp_path, importances={"why": "tpe draws where earlier arms were good"}))
    assert "Not given: tpe draws where earlier arms were good." in text and "decoy" not in text


@pytest.mark.parametrize("word", ["significan", "trend", "no effect", "because of"])
def test_nothing_in_it_claims_more_than_a_search_can(tmp_path, word):
    assert word not in search(page_of(tmp_path, importances=IMPORTANCES))


def test_several_objectives_give_the_arms_that_no_other_beats(tmp_path):
    text = search(page_of(tmp_path, sampler="nsga2", objectives=["psnr", "gmsd"]))
    assert GMSD["label"] in text or "no other arm is ahead" not in text


def test_other_studies_have_no_such_section(tmp_path):
    folder = study(tmp_path, table({"base": 20.0, "a": 21.0}, 3))
    results = load(folder)
    assert search(compose(results, analyse_results(results))) == ""
