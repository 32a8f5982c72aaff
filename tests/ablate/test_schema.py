from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.resolve import KEYS as RECIPE_KEYS
from ablate.resolve import resolve
from ablate.schema import schema
from ablate.study import KEYS, load
from ablate.yamlfile import read_yaml
from trainers.families import TERMS
from trainers.recipe import PARTS

STUDIES = Path(__file__).parents[2] / "studies"
FILE = STUDIES / "study.schema.json"
SCHEMA = schema()
LEVEL = SCHEMA["$defs"]["level"]["anyOf"][0]


def leaves(document: dict, above: str = ""):
    for key, value in document.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")


def test_the_file_for_editors_is_the_schema_of_this_version():
    """Written anew by: ablate schema > studies/study.schema.json"""
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(SCHEMA))


def test_every_top_level_key_and_no_other_is_in_the_schema():
    assert set(SCHEMA["properties"]) == set(KEYS) and SCHEMA["additionalProperties"] is False


def test_a_level_may_name_every_place_of_every_resolved_recipe():
    base = load(STUDIES / "quick.yaml").base
    patches = [{"data.tile": 256, "terms": {name: 1 for name in TERMS.names()}}]
    patches += [{f"objective.{PARTS['objective'].key}": name} for name in PARTS["objective"].names()]
    for patch in patches:
        places = set(leaves(resolve(base, patch).document))
        assert places <= set(LEVEL["properties"])
    assert set(RECIPE_KEYS) < set(LEVEL["properties"]) and "resources.ranks" in LEVEL["properties"]


@pytest.mark.parametrize("key", PARTS)
def test_a_part_is_one_alternative_with_its_options_and_a_description(key):
    family = PARTS[key]
    alternatives = LEVEL["properties"][key]["oneOf"]
    assert [part["properties"][family.key]["const"] for part in alternatives] == family.names()
    for name, part in zip(family.names(), alternatives, strict=True):
        own = set(family.options(name).__dataclass_fields__)
        assert own <= set(part["properties"]) and part["description"] and not part["additionalProperties"]


def test_the_schema_is_self_contained_plain_json():
    text = json.dumps(SCHEMA, allow_nan=False)
    assert json.loads(text) == SCHEMA or json.dumps(json.loads(text)) == text
    assert text.count("$ref") == text.count("#/$defs/level") == 1 and "Options" not in text


def validator():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, of the test extra, is not installed")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def minimal(**changes) -> dict:
    study = {
        "name": "a",
        "base": {"budget": {"images": 8}, "evaluate": {"every": 8}},
        "factors": {"f": {"l": {"batch": 2}}},
        "metric": {"name": "psnr"},
    }
    return {**study, **changes}


GOOD = [
    minimal(),
    minimal(seeds=[1, 2], design={"factorial": ["f"]}, never=[{"f": ["l", "base"]}], tracking={"mlflow": None}),
    minimal(also=None, design=None, resources=None, tracking=None, seeds=None, question=None),
    minimal(design={"list": {"x": {"f": "l"}}}, failure={"score": 0.5}, resources={"slots": 2}),
    minimal(factors={"f": {"0.5": {"terms.l1": None, "terms.ssim": 3, "data.sar.domain": "db"}}}),
    minimal(factors={"f": {"h": {"objective": {"name": "hinge", "smoothing": [0.9, 0.0]}}}}),
    {"extends": "b.yaml", "name": "c", "base.data.tile": 128, "factors.f.l": {"batch": 4}, "seeds": 5},
]
BAD = [
    minimal(colour="red"),
    minimal(name="a/b"),
    minimal(seeds=0),
    minimal(seeds=[1, 1]),
    minimal(metric={"name": "lpps"}),
    minimal(design="one_at_time"),
    minimal(resources={"ranks": 0}),
    minimal(factors={"f": {"l": {"optimizer.lrr": 1}}}),
    minimal(factors={"f": {"l": {"optimizer.lr": "1e-4"}}}),
    minimal(factors={"f": {"l": {"objective.name": "hinge2"}}}),
    minimal(factors={"f": {"l": {"terms.l1": -1}}}),
    minimal(base={"generator": {"name": "unet", "norm": "instanc"}}),
    minimal(base={"data": {"sar": {"hue": 1}}}),
    {"base": {}},
]


@pytest.mark.parametrize("study", GOOD, ids=range(len(GOOD)))
def test_what_check_accepts_an_editor_accepts(study):
    assert [error.message for error in validator().iter_errors(study)] == []


@pytest.mark.parametrize("study", BAD, ids=range(len(BAD)))
def test_what_is_plainly_wrong_an_editor_underlines(study):
    assert not validator().is_valid(study)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_repositorys_studies_satisfy_the_schema(path):
    document = read_yaml(path.read_bytes(), name=path.name).data
    assert [error.message for error in validator().iter_errors(document)] == []
