from __future__ import annotations

import itertools
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.problems import StudyError
from ablate.resolve import resolve
from ablate.study import Study, load
from ablate.yamlfile import write_yaml
from tests.ablate import studies

REPOSITORY = Path(__file__).parents[2]
STUDIES = sorted((REPOSITORY / "studies").glob("*.yaml"))

GOOD = """\
name: good
question: Does it work?
trainer: pix2pix
base:
  data: {layout: synthetic, tile: 64, scenes: 8}
  generator: {name: unet, width: 8, norm: instance}
  discriminator: {name: patchgan, width: 8, norm: instance}
  batch: 4
  budget: {generator_updates: 20}
  evaluate: {every: 10}
factors:
  lr_ratio:
    half: {optimizer.lr_ratio: 0.5}
    0.25: {optimizer.lr_ratio: 0.25}
  objective:
    hinge: {objective.name: hinge}
    wgan_gp: {objective.name: wgan_gp, optimizer.betas: [0.0, 0.9]}
design: one_at_a_time
seeds: 3
metric: {name: psnr, smallest_effect: 0.1}
also: []
resources: {ranks: 2}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return Path(name)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def problems(path: Path, **options) -> list[str]:
    with pytest.raises(StudyError) as caught:
        load(path, **options)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def content(study: Study) -> tuple:
    """Everything about a study but where it came from."""
    arms = [resolve(study.base, patch, ranks=study.resources.ranks).document
            for patch in ({}, *(p for levels in study.factors.values() for p in levels.values()))]  # fmt: skip
    return (study.name, study.question, study.factors, study.conditions, study.design, study.seeds, study.aa,
            study.metric, study.also, study.failure, study.resources, study.tracking, arms)  # fmt: skip


def test_a_good_study_is_read_as_it_is_written(folder):
    study = load(write(folder, GOOD))
    assert study.name == "good" and study.seeds == (1, 2, 3) and study.metric.name == "psnr"
    assert study.factors["lr_ratio"] == {"half": {"optimizer.lr_ratio": 0.5}, "0.25": {"optimizer.lr_ratio": 0.25}}
    assert study.resources.ranks == 2 and study.tracking.mlflow == "auto" and study.failure.score == "mean_colour"
    assert resolve(study.base, {}).document["terms"] == {"l1": {"weight": 100.0}}
    assert study.source == folder / "study.yaml" and study.sets == ()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_repository_is_right_and_read_quickly(path):
    began = time.perf_counter()
    study = load(path)
    assert study.name == path.stem and study.factors
    assert time.perf_counter() - began < 2


def test_ten_mistakes_give_ten_located_sentences_and_nothing_is_written(folder):
    text = """\
name: ten/mistakes
colour: red
base:
  generator: {name: unet, width: "8", norm: instance}
  discriminator: {name: patchgan, norm: batch}
  batch: 4
  budget: {generator_updates: 20}
  evaluate: {every: 40}
factors:
  objective:
    hinge2: {objective.name: hinge2}
    wgan_gp: {objective.name: wgan_gp}
    same: {objective.name: vanilla}
seeds: [1, 1]
metric: {name: pnsr}
resources: {ranks: 0}
"""
    began = time.perf_counter()
    found = problems(write(folder, text))
    assert time.perf_counter() - began < 2
    expected = [
        ("1:1: name: ", "'ten/mistakes' is not a name; expected up to 64 letters"),
        ("2:1: colour: ", "no such key: 'colour'; there are aa, also, base, confirms"),
        (
            "4:27: base.generator.width: ",
            "expected a whole number of at least 1, found text '8'; write 8 without quotes",
        ),
        ("8:14: base.evaluate.every: ", "40 is over the budget of 20 generator updates"),
        ("11:14: factors.objective.hinge2.objective.name: ", "no such objective: 'hinge2'; there are hinge, lsgan"),
        ("12:5: factors.objective.wgan_gp: ", "discriminator.norm: batch with the gradient penalty of wgan_gp"),
        ("13:5: factors.objective.same: ", "changes nothing: the base is like that already"),
        ("14:12: seeds[1]: ", "1 stands twice; a repeated seed adds no evidence"),
        ("15:10: metric.name: ", "no such metric: 'pnsr'; there are "),
        ("16:13: resources.ranks: ", "expected a whole number from 1 to 1024, found 0"),
    ]
    assert len(found) == 10
    for line, (place, message) in zip(found, expected, strict=True):
        assert line.startswith(f"study.yaml:{place}{message}")
    assert found[4].endswith("; did you mean hinge?") and found[8].endswith("; did you mean psnr?")
    assert [path.name for path in folder.rglob("*")] == ["study.yaml"]


HALF = "half: {optimizer.lr_ratio: 0.5}"
BAD = [
    ("name: good", "name: a/b", "1:1: name: 'a/b' is not a name"),
    ("name: good", "name: ../up", "1:1: name:"),
    ("name: good", "name: a..b", "1:1: name:"),
    ("name: good", "name: -rf", "1:1: name:"),
    ("name: good", "name: cache", "1:1: name: 'cache' is taken"),
    ("name: good", "name: 3", "1:1: name: expected text, found 3"),
    ("name: good", "title: good", "1:1: title: no such key: 'title'"),
    ("trainer: pix2pix", "trainer: pix2pixhd", "3:1: trainer: no such trainer: 'pix2pixhd'; there is pix2pix; did you"),
    ("question:", "questoin:", "did you mean question?"),
    ("batch: 4", "batch: 010", "8:10: base.batch: '010' can be read in two ways"),
    ("batch: 4", "batch: 3", "8:3: base.batch: 3 can't be divided among 2 ranks"),
    ("batch: 4", "batch: 12:30:45", "8:10: base.batch: '12:30:45' can be read in two ways"),
    ("batch: 4", "batch: 4\n  batch: 8", "9:3: base.batch: stands twice; first in line 8"),
    ("{generator_updates: 20}", "{generator_updates: 0}", "9:12: base.budget.generator_updates: expected"),
    ("{generator_updates: 20}", "{generator_updates: 20, images: 5}", "9:3: base.budget: expected either"),
    ("  budget: {generator_updates: 20}\n", "", "4:1: base.budget: is missing"),
    ("{every: 10}", "{every: 21}", "10:14: base.evaluate.every: 21 is over the budget of 20"),
    ("seeds: 3", "seeds: 0", "19:1: seeds: expected a number of seeds from 1 to 1000"),
    ("seeds: 3", "seeds: [1, 2, 1]", "19:15: seeds[2]: 1 stands twice"),
    ("seeds: 3", "seeds: [-1]", "19:9: seeds[0]: expected a whole number from 0"),
    ("seeds: 3", "seeds: []", "19:1: seeds: expected"),
    ("seeds: 3", "seeds: '3'", "19:1: seeds: expected a number of seeds from 1 to 1000"),
    ("seeds: 3", "seeds: true", "19:1: seeds: expected"),
    ("name: psnr", "name: lpps", "20:10: metric.name: no such metric: 'lpps'"),
    ("name: psnr", "name: ''", "20:10: metric.name: no such metric: ''"),
    ("{name: psnr, smallest_effect: 0.1}", "{smallest_effect: 0.1}", "20:1: metric.name: is missing; expected text"),
    ("name: psnr", "name: psnr, split: test", "20:22: metric.split: test scenes are kept for"),
    ("smallest_effect: 0.1", "smallest_effect: -0.1", "20:22: metric.smallest_effect: expected a number of at least 0"),
    ("also: []", "also: ssim", "21:1: also: expected a list of metrics"),
    ("also: []", "also: [psnr]", "21:8: also[0]: psnr is the metric"),
    ("ranks: 2", "ranks: 0", "22:13: resources.ranks: expected a whole number from 1 to 1024, found 0"),
    ("ranks: 2", "ranks: 2, slots: fast", "22:23: resources.slots: expected auto or a whole number of at least 1"),
    ("ranks: 2", "ranks: 2, device: gpu", "expected one of auto, cpu, cuda, found text 'gpu'"),
    ("design: one_at_a_time", "design: one_at_time", "did you mean one_at_a_time?"),
    ("design: one_at_a_time", "design: list", "18:1: design: expected arms"),
    ("design: one_at_a_time", "design: {factorial: [lr]}", "18:22: design.factorial[0]: no such factor: 'lr'"),
    ("design: one_at_a_time", "design: {factorial: [objective, objective]}", "'objective' stands twice"),
    ("design: one_at_a_time", "design: {list: {a: {lr_ratio: full}}}", "no such level of lr_ratio: 'full'"),
    ("design: one_at_a_time", "design: {list: {a: {lr_ratio: base}}}", "design.list.a: changes nothing"),
    ("design: one_at_a_time", "design: {list: {a: {lr_ratio: half}, b: {lr_ratio: half}}}", "same levels as a"),
    ("design: one_at_a_time", "design: {list: {base: {lr_ratio: half}}}", "'base' is taken"),
    ("design: one_at_a_time", "never: [{objective: base}]", "18:9: never[0]: excludes the base itself"),
    ("design: one_at_a_time", "never: [{norm: batch}]", "never[0].norm: no such factor: 'norm'"),
    (HALF, "half: {}", "13:5: factors.lr_ratio.half: changes nothing"),
    (HALF, "half:", "13:5: factors.lr_ratio.half: expected what it changes"),
    (HALF, "half: {optimizer.lr_ratio: 1}", "13:5: factors.lr_ratio.half: changes nothing"),
    (HALF, "base: {optimizer.lr_ratio: 0.5}", "13:5: factors.lr_ratio.base: 'base' is taken"),
    (HALF, "0.9/0.1: {optimizer.lr: 1e-3}", "'0.9/0.1' is not a name"),
    (HALF, "half: {optimizer.ratio: 0.5}", "13:12: factors.lr_ratio.half.optimizer.ratio: no"),
    (HALF, "half: {lr_ratio: 0.5}", "no such recipe key: 'lr_ratio'"),
    (HALF, "half: {optimizer..lr: 0.5}", "is not a path"),
    (HALF, "half: {optimizer: {lr: 1e-3}, optimizer.lr: 1}", "lies inside 'optimizer'"),
    (HALF, "half: {batch: 3}", "13:12: factors.lr_ratio.half.batch: 3 can't be divided"),
    (HALF, "half: {resources.ranks: 3}", "batch: 4 can't be divided among 3 ranks"),
    ("norm: instance}\n  batch", "norm: batch}\n  batch", "factors.objective.wgan_gp: discriminator.norm: batch with"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "says"), BAD, ids=[f"{n}-{new[:25]}" for n, (_, new, _) in enumerate(BAD)])
def test_a_bad_value_is_refused_where_it_stands(folder, old, new, says):
    found = problems(write(folder, changed(old, new)))
    assert any(says in line and re.match(r"study\.yaml:\d+:\d+: ", line) for line in found), found


@pytest.mark.parametrize("factors", ["", " {}", " []", " 3", "\n  lr:", "\n  lr: {}", "\n  lr: half", "\n  lr: [half]"])
def test_factors_without_levels_are_refused(folder, factors):
    text = re.sub(r"factors:\n( .*\n)+", f"factors:{factors}\n", GOOD)
    assert any("factors" in line and "found" in line for line in problems(write(folder, text)))


def test_every_kind_of_value_in_every_place_gives_sentences_never_a_traceback(folder):
    tops = [line.split(":")[0] for line in GOOD.splitlines() if not line.startswith(" ")] + [
        "never",
        "failure",
        "tracking",
        "extends",
    ]
    for key, value in itertools.product(tops, ["", "3", "text", "true", "[1, [2]]", "{a: {b: 1}}", "-1.5", "[]", "{}"]):
        text = f"{key}: {value}\n" + re.sub(rf"(?m)^{key}:.*\n( .*\n)*", "", GOOD)
        try:
            load(write(folder, text))
        except StudyError as error:
            assert error.problems and all(problem.message for problem in error.problems), (key, value)


PATHS = """
    name question trainer base base.batch base.data base.data.sar base.terms base.terms.l1 base.objective.name
    base.objective base.budget base.evaluate.every base.x.y factors factors.lr_ratio factors.f.l factors.lr_ratio.half
    factors.lr_ratio.half.batch never design design.list.a seeds metric also failure.score resources.slots tracking
""".split()
ATOMS = [None, True, 0, 1, -2, 0.5, 1e300, 2**40, "", "a", "base", "hinge", "folders", "ssim", "1e-4", "a.b", "ä"]
NAMES = st.sampled_from(["a", "name", "layout", "l1", "list", "lr_ratio", "terms.l1", "a..b", "batch"])
TREES = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(PATHS), TREES, min_size=1, max_size=3))
def test_any_setting_gives_a_study_that_reads_back_or_sentences(folder, places):
    sets = [f"{path}={write_yaml(value).removesuffix('...' + chr(10))}" for path, value in places.items()]
    try:
        study = load(write(folder, GOOD), sets=sets)
    except StudyError as error:
        assert error.problems and all(problem.message for problem in error.problems)
    else:
        assert content(load(write(folder, write_yaml(study.text), "again.yaml"))) == content(study)


def test_a_mistake_of_the_base_is_told_once_and_not_again_for_each_level(folder):
    found = problems(write(folder, changed("width: 8, norm: instance}\n  disc", "width: 0, norm: instance}\n  disc")))
    assert len(found) == 1 and found[0].startswith("study.yaml:6:27: base.generator.width: ")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_order_quoting_and_line_endings_change_nothing(folder, newline):
    reference = content(load(write(folder, GOOD)))
    blocks = re.findall(r"(?m)^\w.*\n(?: .*\n)*", GOOD)
    random.Random(1).shuffle(blocks)
    text = "# a comment\n" + "".join(blocks).replace("name: unet", "\"name\": 'unet'").replace("0.25:", "'0.25':")
    (folder / "other.yaml").write_bytes(("\ufeff" + text.replace("\n", newline)).encode())
    assert content(load("other.yaml")) == reference


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_merged_document_reads_back_as_the_same_study(folder, path):
    study = load(path, sets=["seeds=[4, 2]", "base.optimizer.lr=1e-4"])
    again = load(write(folder, write_yaml(study.text)))
    assert content(again) == content(study) and again.text == study.text and again.seeds == (4, 2)


def test_a_study_extends_another_by_dotted_keys_and_whole_values(folder):
    write(folder, GOOD, "sub/parent.yaml")
    child = """\
extends: sub/parent.yaml
name: child
base.data.tile: 128
base.terms.ssim: 10
base.budget: {images: 800}
base.evaluate: {every: 80}
factors.objective.wgan_gp: null
factors.lr_ratio.0.25: {optimizer.lr_ratio: 0.2}
factors.lr_ratio.half.optimizer.lr: 1e-3
factors.batch: {"8": {batch: 8}}
seeds: [7]
"""
    study = load(write(folder, child))
    document = resolve(study.base, {}).document
    assert study.name == "child" and study.question == "Does it work?" and study.seeds == (7,)
    assert document["data"]["tile"] == 128 and document["data"]["scenes"] == 8
    assert document["budget"] == {"generator_updates": None, "images": 800} and set(document["terms"]) == {"l1", "ssim"}
    assert list(study.factors) == ["lr_ratio", "objective", "batch"] and list(study.factors["objective"]) == ["hinge"]
    assert study.factors["lr_ratio"]["0.25"] == {"optimizer.lr_ratio": 0.2}
    assert study.factors["lr_ratio"]["half"] == {"optimizer.lr_ratio": 0.5, "optimizer.lr": 1e-3}


def test_a_mistake_is_shown_in_the_file_it_comes_from(folder):
    write(folder, changed("batch: 4", "batch: 0"), "sub/parent.yaml")
    child = write(
        folder, "extends: sub/parent.yaml\nname: child\nbase.optimizer.lr: -1\nfactors.f: {a: {batch: x}}\nseed: 3\n"
    )
    found = problems(child)
    assert len(found) == 4
    assert found[0].startswith("study.yaml:3:1: base.optimizer.lr: expected a number above 0")
    assert found[1].startswith("study.yaml:4:17: factors.f.a.batch: expected a whole number")
    assert found[2].startswith("study.yaml:5:1: seed: no such key: 'seed'") and "did you mean seeds?" in found[2]
    assert found[3].startswith("sub/parent.yaml:8:3: base.batch: expected a whole number")


def test_a_mistake_that_the_child_mends_is_none(folder):
    write(folder, changed("batch: 4", "batch: 0"), "parent.yaml")
    assert load(write(folder, "extends: parent.yaml\nname: child\nbase.batch: 2\n")).base["batch"] == 2


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"study.yaml": "extends: study.yaml\n"}, "study.yaml:1:1: extends: study.yaml extends this file in turn"),
        ({"study.yaml": "extends: b.yaml\n", "b.yaml": "extends: study.yaml\n"}, "b.yaml:1:1: extends:"),
        ({"study.yaml": "name: a\nextends: c.yaml\n"}, "study.yaml:2:1: extends: c.yaml: no such file"),
        ({"study.yaml": "extends: 3\n"}, "study.yaml:1:1: extends: expected the path of a study file, found 3"),
        ({"study.yaml": "extends: .\n"}, "is a folder"),
        ({"study.yaml": "extends: b.yaml\n", "b.yaml": "a: [\n"}, "b.yaml:2:1: not YAML"),
        ({"study.yaml": "extends: b.yaml\n", "b.yaml": ""}, "b.yaml:1:1: expected keys such as name, base"),
        ({f"{'study' if n == 0 else n}.yaml": f"extends: {n + 1}.yaml\n" for n in range(30)}, "that is the limit"),
    ],
)  # fmt: skip
def test_what_can_not_be_extended_is_said_where_it_is_asked(folder, texts, says):
    for name, text in texts.items():
        write(folder, text, name)
    found = problems(Path("study.yaml"))
    assert len(found) == 1 and says in found[0]


@pytest.mark.parametrize(("name", "says"), [("no.yaml", "no such file"), ("studdy.yaml", "did you mean study.yaml?"),
                                            (".", "is a folder"), ("/dev/null", "is not a regular file")])  # fmt: skip
def test_a_study_that_is_no_file_is_refused_by_name(folder, name, says):
    write(folder, GOOD)
    (line,) = problems(Path(name))
    assert line.startswith(f"{name}: ") and says in line


@pytest.mark.parametrize(("text", "says"), [("", "the file is empty"), ("# only this\n", "the file is empty"),
                                            ("- a\n", "found [a]"), ("fast\n", "found text 'fast'")])  # fmt: skip
def test_a_file_that_holds_no_mapping_is_refused(folder, text, says):
    (line,) = problems(write(folder, text))
    assert line.startswith("study.yaml:1:1: expected keys such as name, base, factors; ") and says in line


def test_settings_change_any_place_and_are_recorded(folder):
    sets = ["name=mine", "base.data.tile=128", "base.terms.l1=50", "base.terms.l1.weight=60", "seeds=[5]",
            "factors.lr_ratio.half.optimizer.lr=1e-3", "metric.name=ssim", "resources={ranks: 1}"]  # fmt: skip
    study = load(write(folder, GOOD), sets=sets)
    assert study.sets == tuple(sets) and (study.name, study.seeds, study.metric.name) == ("mine", (5,), "ssim")
    assert study.base["data"] == {"layout": "synthetic", "tile": 128, "scenes": 8}
    assert study.base["terms"] == {"l1": {"weight": 60}} and study.metric.smallest_effect == 0.1
    assert study.factors["lr_ratio"]["half"] == {"optimizer.lr_ratio": 0.5, "optimizer.lr": 1e-3}


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("base.batch=0", "--set base.batch=0: base.batch: expected a whole number of at least 1, found 0"),
        ("base.batch", "--set base.batch: expected PATH=YAML, such as base.batch=8"),
        ("base.batch=010", "--set base.batch=010: base.batch: '010' can be read in two ways"),
        ("base.batch=[1", "--set base.batch=[1: base.batch: not YAML"),
        ("base.batch.size=1", "--set base.batch.size=1: base.batch.size: leads through base.batch"),
        ("base..batch=1", "--set base..batch=1: base..batch: is not a path"),
        ("bse.batch=1", "--set bse.batch=1: bse: no such key: 'bse'"),
        ("extends=x.yaml", "--set extends=x.yaml: extends: stands in a file only"),
        ("name=a/b", "--set name=a/b: name: 'a/b' is not a name"),
    ],
)
def test_a_mistake_in_a_setting_is_located_there(folder, setting, line):
    found = problems(write(folder, GOOD), sets=[setting])
    assert len(found) == 1 and found[0].startswith(line), found


def test_files_are_relative_to_where_they_are_named(folder):
    parent = changed("data: {layout: synthetic, tile: 64, scenes: 8}", "data: {layout: folders, root: data, tile: 64}")
    write(folder, parent, "sub/parent.yaml")
    child = write(folder, "extends: ../sub/parent.yaml\nname: c\nfactors.data: {more: {data.root: more}, "
                          "table: {data: {layout: csv, table: t.csv}}}\n", "other/child.yaml")  # fmt: skip
    study = load(child)
    assert study.base["data"]["root"] == str(folder / "sub/data")
    assert study.factors["data"]["more"] == {"data.root": str(folder / "other/more")}
    assert study.factors["data"]["table"] == {"data": {"layout": "csv", "table": str(folder / "other/t.csv")}}
    (folder / "elsewhere").mkdir()
    study = load(folder / child, sets=["base.data.root=here"], cwd=folder / "elsewhere")
    assert study.base["data"]["root"] == str(folder / "elsewhere/here")


def test_designs_and_exclusions_are_read_with_numbers_as_level_names(folder):
    text = changed("design: one_at_a_time", "design: {list: {both: {lr_ratio: 0.25, objective: hinge}}}\n"
                   "never: [{lr_ratio: [half, 0.25], objective: wgan_gp},"
                   " {objective: base, lr_ratio: half}]")  # fmt: skip
    study = load(write(folder, text))
    assert study.design.name == "list" and study.design.arms == {"both": {"lr_ratio": "0.25", "objective": "hinge"}}
    assert study.conditions.never == ({"lr_ratio": ("half", "0.25"), "objective": ("wgan_gp",)},
                                      {"objective": ("base",), "lr_ratio": ("half",)})  # fmt: skip
    study = load(write(folder, changed("design: one_at_a_time", "design: {factorial: [objective]}")))
    assert (study.design.name, study.design.factors) == ("factorial", ("objective",))


def test_inert_settings_and_cautions_are_warnings_named_by_arm(folder):
    text = changed("  batch: 4\n", "  batch: 4\n  objective: {name: vanilla, smoothing: [0.9, 0.1]}\n")
    text = text.replace("    half:", "    norm: {discriminator.norm: batch}\n    half:")
    warnings = load(write(folder, text)).warnings
    assert "objective=hinge: smoothing is inert with objective hinge: dropped" in warnings
    assert any(
        line.startswith("lr_ratio=norm: batch norm in the discriminator sees 2 of 4 samples") for line in warnings
    )


def test_two_levels_that_are_the_same_recipe_are_said(folder):
    warnings = load(write(folder, changed("    half:", "    alike: {optimizer.lr_ratio: 0.50}\n    half:"))).warnings
    assert warnings == ("lr_ratio=half is the same recipe as lr_ratio=alike: they share their trials",)


@pytest.mark.parametrize(
    "uri",
    [
        "http://someone:sesame@host/",
        "https://sesame@host",
        "postgresql://u:a/sesame@h/db",
        "mysql://h/d?x=1&password=sesame",
    ],
)
def test_a_password_in_a_uri_is_refused_and_never_repeated(folder, uri):
    found = problems(write(folder, GOOD + f"tracking: {{mlflow: '{uri}'}}\n"))
    found += problems(write(folder, GOOD), sets=[f"tracking.mlflow={uri}"])
    found += problems(write(folder, changed("batch: 4", f"batch: '{uri}'")))
    found += problems(write(folder, changed("also: []", f"also: ['{uri}']")))
    assert len(found) == 4 and "sesame" not in "".join(found)


@pytest.mark.parametrize(
    ("written", "meant"), [("auto", "auto"), ("null", None), ("off", None), ("sqlite:///x.db", "sqlite:///x.db")]
)
def test_tracking_is_automatic_a_uri_or_off(folder, written, meant):
    assert load(write(folder, GOOD + f"tracking: {{mlflow: {written}}}\n")).tracking.mlflow == meant


HUGE = {
    "keys": "".join(f"k{n}: 1\n" for n in range(9_000)),
    "recipe keys": "name: a\nbase:\n" + "".join(f"  k{n}: 1\n" for n in range(9_000)),
    "options": "name: a\nbase:\n  generator:\n" + "".join(f"    w{n}: 1\n" for n in range(9_000)),
    "terms": "name: a\nbase:\n  terms:\n" + "".join(f"    l{n}: 1\n" for n in range(9_000)),
    "factors": "name: a\nfactors:\n" + "".join(f"  f{n}: {{a: 1}}\n" for n in range(6_000)),
    "levels": "name: a\nfactors:\n  f:\n" + "".join(f"    l{n}: {{batch: {n}}}\n" for n in range(6_000)),
    "seeds": "name: a\nseeds: [" + "1, " * 9_000 + "]\n",
    "metrics": "name: a\nalso: [" + "psnrr, " * 9_000 + "]\n",
    "never": "name: a\nnever: [" + "{a: b}, " * 4_000 + "]\n",
    "doubles": "name: a\n" * 9_000,
    "a long key": f"? {'a.' * 400_000}b\n: 1\n",
    "a long word": f"name: {'a' * 900_000}\n",
}  # fmt: skip


@pytest.mark.parametrize("what", HUGE)
def test_a_huge_wrong_study_is_refused_within_two_seconds(folder, what):
    path = write(folder, HUGE[what])
    began = time.process_time()
    found = problems(path)
    assert time.process_time() - began < 2
    assert len("\n".join(found)) < 200_000


def test_a_large_study_is_read_within_two_seconds(folder):
    levels = "".join(f"    l{n}: {{optimizer.lr: {n + 1}e-6}}\n" for n in range(490) if n != 199)
    path = write(folder, changed("  lr_ratio:\n", f"  many:\n{levels}  lr_ratio:\n"))
    began = time.process_time()
    assert len(load(path).factors["many"]) == 489
    assert time.process_time() - began < 2


def test_checking_a_study_imports_neither_torch_nor_other_heavy_libraries(folder):
    heavy = {"torch", "optuna", "mlflow", "pandas", "scipy", "matplotlib"}
    code = "import sys; from ablate.study import load; from ablate.schema import schema; load(sys.argv[1]); schema();"
    code += f"print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code, str(STUDIES[0])], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(("raw", "says"), [
    ("genrator", "no such choice: 'genrator'; there are generator, nothing; did you mean generator?"),
    ("3", "expected generator or nothing, found 3"), ("[nothing]", "expected generator or nothing, found [nothing]"),
])  # fmt: skip
def test_what_is_kept_of_a_trial_is_one_of_two_and_makes_no_other_trial(raw, says, tmp_path):
    from ablate.plan import make_plan

    path = studies.write(tmp_path)
    with pytest.raises(StudyError, match=re.escape(says)):
        load(path, sets=[f"keep={raw}"])
    plain, bare = (make_plan(load(path, sets=sets)) for sets in ((), ["keep=nothing"]))
    assert list(plain.specs) == list(bare.specs) and plain.to_json() == bare.to_json()
    assert {spec.keep for spec in plain.specs.values()} == {"generator"}
    assert {spec.to_json()["keep"] for spec in bare.specs.values()} == {"nothing"}
