"""Study files by the hundred: the same study in any writing has the same trials; a broken one ends in sentences.

`ABLATE_FUZZ=5000 pytest tests/ablate/test_fuzz_studies.py` tries that many of each kind.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.plan import Plan, make_plan
from ablate.problems import StudyError, printable
from ablate.study import load
from ablate.yamlfile import read_yaml, write_yaml
from tests.ablate.test_study import GOOD
from tests.ablate.yamlstyles import Style, broken, encoded

EXAMPLES = int(os.environ.get("ABLATE_FUZZ", "40"))
SECONDS = 2  # of this process
many = settings(max_examples=EXAMPLES, deadline=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory):
    """The first plan loads what the others find loaded."""
    path = tmp_path_factory.mktemp("first") / "s.yaml"
    path.write_text(GOOD)
    make_plan(load(path))


LEVELS: dict[str, dict[str, dict[str, Any]]] = {
    "lr_ratio": {"half": {"optimizer.lr_ratio": 0.5}, "0.25": {"optimizer.lr_ratio": 0.25}},
    "objective": {"hinge": {"objective.name": "hinge"},
                  "wgan_gp": {"objective.name": "wgan_gp", "optimizer.betas": [0.0, 0.9]}},
    "loss": {"ssim": {"terms.ssim": 10}, "charbonnier": {"terms": {"charbonnier": 100}}},
    "width": {"16": {"generator.width": 16}, "both": {"generator.width": 16, "discriminator.width": 16}},
}  # fmt: skip
NUMBERS = st.sampled_from([2e-4, 1e-4, 0.0005, 1e-3, 3.5e-5])
FACTORS = st.lists(st.sampled_from(sorted(LEVELS)), min_size=1, max_size=2, unique=True)
DOCUMENTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["good", "a.b-c_d", "2026", "no"]),
        "question": st.sampled_from(["Does it work?", "Größe: 'wie' \"gut\"? # nicht", "a - b, [c]"]),
        "base": st.fixed_dictionaries(
            {
                "data": st.just({"layout": "synthetic", "tile": 64, "scenes": 8}),
                "generator": st.just({"name": "unet", "width": 8, "norm": "instance"}),
                "discriminator": st.just({"name": "patchgan", "width": 8, "norm": "instance"}),
                "optimizer": st.fixed_dictionaries({"lr": NUMBERS}),
                "batch": st.sampled_from([2, 4, 8]),
                "budget": st.just({"generator_updates": 20}),
                "evaluate": st.just({"every": 10}),
            },
            optional={"terms": st.fixed_dictionaries({"l1": st.sampled_from([50, 100, 12.5])})},
        ),
        "factors": FACTORS.map(lambda names: {name: LEVELS[name] for name in names}),
        "seeds": st.integers(1, 4) | st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True),
        "metric": st.fixed_dictionaries({"name": st.sampled_from(["psnr", "gmsd"])}),
    },
    optional={"design": st.sampled_from(["one_at_a_time", "factorial"]), "also": st.just(["ssim", "mae"]),
              "resources": st.fixed_dictionaries({"ranks": st.sampled_from([1, 2])})},
)  # fmt: skip


def trials(plan: Plan) -> dict[tuple[frozenset, int], str]:
    """Levels of the arm and seed -> id; an arm's name follows the order in which its factors are written."""
    levels = {arm.name: frozenset(arm.arm.changes.items()) for arm in plan.arms}
    return {(levels[cell.arm], cell.seed): cell.trial for cell in plan.cells}


def written(folder: Path, content: bytes, name: str = "study.yaml") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@settings(many, max_examples=max(5, EXAMPLES // 4))  # three plans each
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_a_study_in_any_writing_has_the_same_trials(tmp_path, document, draw):
    expected = make_plan(load(written(tmp_path, write_yaml(document).encode())))
    content = encoded(Style(draw).document(document), draw)
    study = load(written(tmp_path, content, "other.yaml"))
    plan = make_plan(study)
    assert trials(plan) == trials(expected) and len(plan.cells) == len(expected.cells), content.decode()
    assert (study.name, study.question, study.metric) == (document["name"], document["question"],
                                                           expected.study.metric)  # fmt: skip
    again = make_plan(load(written(tmp_path, write_yaml(study.text).encode(), "again.yaml")))
    assert trials(again) == trials(expected)


@many
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_what_is_written_in_any_style_reads_as_the_same_data(document, draw):
    content = encoded(Style(draw).document(document), draw)
    found = read_yaml(content, name="s.yaml")
    assert found.data == document and not found.problems, content.decode()
    assert all(mark >= (1, 1) for mark in found.marks.values())


def answered(path: Path) -> str:
    """`right`, or `refused` with every sentence in its place, within the time."""
    began = time.process_time()
    try:
        make_plan(load(path))
        said = "right"
    except StudyError as error:
        said = "refused"
        for problem in error.problems:
            assert problem.message and (problem.line >= 1 and problem.column >= 1 or problem.path), problem
            assert printable(str(problem)) == str(problem) and len(str(problem)) < 3000
    assert time.process_time() - began < SECONDS
    return said


@settings(many, max_examples=4 * EXAMPLES)
@given(st.randoms(use_true_random=False))
def test_a_broken_study_ends_in_located_sentences_and_in_nothing_else(tmp_path, draw):
    answered(written(tmp_path, broken(GOOD, draw)))


@many
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_a_study_of_any_style_may_be_broken_too(tmp_path, document, draw):
    answered(written(tmp_path, broken(Style(draw).document(document), draw)))


def test_most_of_the_broken_ones_are_broken_and_some_are_not(tmp_path):
    import random

    said = [answered(written(tmp_path, broken(GOOD, random.Random(seed)))) for seed in range(60)]
    assert 30 < said.count("refused") < 60
