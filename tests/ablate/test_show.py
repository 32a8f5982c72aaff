"""What `ablate show` and `ablate status` say about the health of trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate import show, status, status_words
from ablate.events import CHECKSUM, Ended, EventWriter, Measured, Started, Warned
from ablate.readings import WORDS, in_words
from ablate.records import StudyFolder, TrialFolder, TrialSpec

SPEC = TrialSpec({"data": {"tile": 64}}, 1, ranks=1, threads=1, device="cpu", data="d")
DOMINANT = {
    "diagnosis": "d_dominant",
    "evidence": {"health/accuracy_real": 0.98, "health/accuracy_fake": 0.99, "health/odd": 2.0},
    "findings": {"d_dominant": "D dominates: right on 98% of patches", "overrun": "The adversarial part overruns: it"},
}


def trial(runs: Path, **health) -> TrialFolder:
    """A study of one trial that has ended, with what was diagnosed."""
    study = StudyFolder(runs, "s")
    folder = study.trial(SPEC.id)
    folder.root.mkdir(parents=True)
    study.plan.write_text(json.dumps({"cells": [{"arm": "base", "seed": 1, "trial": SPEC.id}]}))
    folder.spec.write_text(json.dumps({"spec": SPEC.to_json()}))
    writer = EventWriter(folder.events, clock=lambda: 0.0)
    writer.append(Started, world_size=1, threads=1, device="cpu")
    writer.append(Measured, step=9, images=9, split="train", values={"health/accuracy_real": 0.97})
    for message in health.get("findings", {}).values():
        writer.append(Warned, step=5, message=message)
    writer.append(Ended, step=9, images=9, status="done", **health)
    writer.close()
    return folder


def test_the_diagnosis_stands_with_its_evidence_in_plain_words_and_what_else_was_found(tmp_path):
    said = show.describe(show.trial_document(trial(tmp_path, **DOMINANT)))
    assert "diagnosis: d_dominant\n  D dominates: right on 98% of patches\n" in said
    assert "    D takes 98% of real patches for real\n    D takes 99% of generated patches for generated\n" in said
    assert "health/odd: 2" in said
    assert "also found\n  The adversarial part overruns: it" in said
    assert said.count("D dominates: right on 98% of patches") == 1  # not once more as a warning


@pytest.mark.parametrize(
    ("kind", "words"), [("healthy", "nothing was flagged"), ("unjudged", "too short a run to be judged")]
)
def test_a_run_without_a_finding_says_so(tmp_path, kind, words):
    said = show.describe(show.trial_document(trial(tmp_path, diagnosis=kind)))
    assert f"diagnosis: {kind}\n  {words}" in said and "also found" not in said


def test_what_had_passed_by_the_end_is_no_diagnosis_and_is_said_once(tmp_path):
    folder = trial(tmp_path, diagnosis="healthy", findings={"d_blind": "D is blind: its loss is 1.00"})
    text = CHECKSUM.sub("}\n", folder.events.read_text())  # of the last line, which is changed below
    warning, finding = text.rpartition("its loss is 1.00")[::2]
    folder.events.write_text(f"{warning}its loss is 1.00; passed by 60%{finding}")
    said = show.describe(show.trial_document(folder))
    assert "diagnosis: healthy\n  nothing of what was flagged holds at the end\n" in said
    assert "also found\n  D is blind: its loss is 1.00; passed by 60%" in said and said.count("D is blind") == 1


def test_a_last_stage_that_was_not_judged_says_why(tmp_path):
    why = "Its last stage was not judged: it began at 90% of the budget, too late for 3 windows"
    folder = trial(tmp_path, diagnosis="unjudged", findings={"unjudged": why})
    assert f"diagnosis: unjudged\n  {why}\n" in show.describe(show.trial_document(folder))
    assert "1 Its last stage was not judged" in status_words.describe(status.study_status(tmp_path, "s"))


def test_a_trial_of_before_there_were_diagnoses_shows_none(tmp_path):
    assert "diagnosis" not in show.describe(show.trial_document(trial(tmp_path)))


def test_it_says_when_the_stages_of_training_began(tmp_path):
    folder = trial(tmp_path)
    assert "began after" not in show.describe(show.trial_document(folder))
    lines = folder.events.read_text().splitlines(keepends=True)
    staged = [json.loads(lines[1]) | {"step": step, "values": {"stage": stage, "stage_began": began}}
              for step, stage, began in ((6, 1.0, 0.0), (8, 3.0, 7.0), (9, 3.0, 7.0))]  # fmt: skip
    folder.events.write_text(lines[0] + "".join(json.dumps(line) + "\n" for line in staged) + lines[-1])
    document = show.trial_document(folder)
    assert document["stages_began"] == {3: 7}  # the second was shorter than the way between two readings
    assert "\nstage 3 began after 7 of them\n" in show.describe(document)


def test_the_status_counts_diagnoses_and_names_each_on_request(tmp_path):
    trial(tmp_path, **DOMINANT)
    found = status.study_status(tmp_path, "s")
    assert found["trials"][0]["diagnosis"] == "d_dominant"
    assert "health: 1 D dominates" in status_words.describe(found)
    assert "done, D dominates" in status_words.describe(found, every=True)


def test_the_status_of_older_trials_has_no_word_on_health(tmp_path):
    trial(tmp_path)
    assert "health" not in status_words.describe(status.study_status(tmp_path, "s"))


def test_every_reading_that_a_diagnosis_rests_on_has_plain_words():
    from trainers.pathologies import PATHOLOGIES

    read = {f"health/{name}" for pathology in PATHOLOGIES for name in pathology.reads}
    assert read <= WORDS.keys()
    assert all(line and "{" not in line for line in in_words(dict.fromkeys(WORDS, 0.5)))
