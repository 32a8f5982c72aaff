"""A new loss term is one file: it shows up in the schema, in checks, in the docs' list and in the laws by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainers.terms
from ablate import parts
from ablate.resolve import resolve
from ablate.schema import schema
from tests.trainers import tiny
from trainers.families import TERMS
from trainers.launcher import _part_modules
from trainers.recipe import DEFAULTS, Recipe

REPOSITORY = Path(__file__).parents[2]

TOY = '''"""Squared error, of a toy that lives in a test.

Gauss, 1809.
"""

from __future__ import annotations

from trainers.options import NonNegative, Positive, options


@options
class Options:
    weight: NonNegative = 5.0
    power: Positive = 2.0


def refuse(part: Options, recipe) -> list[str]:
    return ["toy: powers above 8 are refused"] if part.power > 8 else []


def build(part: Options):
    from trainers.masks import masked_mean

    def toy(fake, real, mask):
        """Mean of abs(d)^power per image: tensors (B, C, H, W) in [-1, 1] -> (B,)."""
        return masked_mean((fake - real).abs() ** part.power, mask)

    return toy
'''

STUDY = """\
name: toys
base:
  data: {{layout: synthetic, tile: 32, scenes: 4, size: 64}}
  generator: {{width: 4, norm: instance}}
  discriminator: {{width: 4, layers: 2, norm: instance}}
  terms: {terms}
  batch: 4
  budget: {{generator_updates: 6}}
  evaluate: {{every: 3}}
factors:
  power:
    four: {{terms.toy.power: 4}}
    one: {{terms.toy.power: 1.5}}
seeds: 2
metric: {{name: psnr, smallest_effect: 0.1}}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """The folder of the one file; it is forgotten afterwards."""
    folder = tmp_path / "terms"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    monkeypatch.setattr(trainers.terms, "__path__", [*trainers.terms.__path__, str(folder)])
    yield folder
    sys.modules.pop("trainers.terms.toy", None)
    vars(trainers.terms).pop("toy", None)


def test_without_the_file_there_is_no_such_term():
    assert "toy" not in TERMS.names()


def test_it_is_in_the_schema_with_its_ranges(toy):
    found = schema()["properties"]["base"]["properties"]["terms"]["properties"]["toy"]
    weight, options, _ = found["anyOf"]
    assert weight["minimum"] == 0 and options["properties"]["power"]["exclusiveMinimum"] == 0
    assert found["description"].startswith("Squared error, of a toy")


def test_it_is_on_the_page_of_parts(toy):
    page = parts.markdown()
    assert "### toy\n\nSquared error, of a toy that lives in a test.\n" in page
    assert "| `power` | a number above 0 | `2.0` |" in page


def test_it_is_loaded_before_ranks_are_forked(toy):
    assert "trainers.terms.toy" in _part_modules()


def child(toy: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a new interpreter in which the folder of the toy is one of the terms'."""
    site = toy.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(f"import trainers.terms\ntrainers.terms.__path__.append({str(toy)!r})\n")
    paths = os.pathsep.join([str(site), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=300)  # fmt: skip


def test_ablate_check_takes_it_and_locates_what_is_wrong_with_it(toy, tmp_path):
    good, wrong, refused = (tmp_path / f"{name}.yaml" for name in ("good", "wrong", "refused"))
    good.write_text(STUDY.format(terms="{l1: 100, toy: 3}"))
    wrong.write_text(STUDY.format(terms="{l1: 100, toy: -3}"))
    refused.write_text(STUDY.format(terms="{l1: 100, toy: {weight: 3, power: 9}}"))
    check = ("-m", "ablate.cli", "check")
    done = child(toy, *check, "good.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = child(toy, *check, "wrong.yaml", cwd=tmp_path)
    assert done.returncode != 0
    assert "wrong.yaml:6:20: base.terms.toy.weight" in done.stdout + done.stderr
    assert "expected a number of at least 0, found -3" in done.stdout + done.stderr
    done = child(toy, *check, "refused.yaml", cwd=tmp_path)
    assert done.returncode != 0 and "powers above 8 are refused" in done.stdout + done.stderr


def test_it_resolves_and_trains(toy, tmp_path):
    base = {**DEFAULTS, "data": {"layout": "synthetic", "tile": tiny.TILE},
            "generator": {"name": "unet", "width": 4}, "discriminator": {"name": "patchgan", "width": 4, "layers": 2},
            "budget": {"generator_updates": 6}, "evaluate": {"every": 6}, "batch": 4}  # fmt: skip
    resolved = resolve(base, {"terms": {"toy": {"power": 4}}})
    assert resolved.document["terms"] == {"toy": {"weight": 5.0, "power": 4}}
    of = Recipe.from_document(resolved.document)
    training = tiny.training(of, tiny.prepared(tmp_path / "data"))
    before = tiny.tensors(training.generator.state_dict())
    training.advance()
    values = tiny.logged(training)
    assert values["weighted/toy"] == pytest.approx(5 * values["term/toy"]) and values["term/toy"] > 0
    assert not tiny.equal(before, tiny.tensors(training.generator.state_dict()))


def test_the_laws_over_all_terms_hold_it_too(toy):
    """The same tests that hold every term, in a process that finds one more."""
    done = child(toy, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "tests/trainers/test_terms.py", "-k", "toy",
                 cwd=REPOSITORY)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    laws = [line for line in done.stdout.splitlines() if "[toy]" in line]
    assert len(laws) >= 8 and all("PASSED" in line for line in laws)
