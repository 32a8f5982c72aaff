"""Bad study files and settings: every one a sentence with its place, exit code 2, nothing written, at once."""

from __future__ import annotations

import re

import pytest

from tests.ablate.commands import Bad, ablate, bad, refused
from tests.ablate.studies import STUDY

EMPTY = "expected keys such as name, base, factors; the file is empty"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """The first command loads what the others find loaded."""
    ablate("check", "absent.yaml")


def changed(old: str, new: str) -> str:
    assert STUDY.count(old) == 1, old
    return STUDY.replace(old, new)


def text(content: str | bytes, *says: str) -> Bad:
    """A whole study file."""
    return bad("check", "study.yaml", says=says, files={"study.yaml": content})


TEXTS = {
    "empty": text("", "study.yaml:1:1: ", EMPTY),
    "comments alone": text("# a study\n", "study.yaml:1:1: ", EMPTY),
    "a list": text("- name\n", "study.yaml:1:1: ", "found [name]"),
    "a word": text("study\n", "study.yaml:1:1: ", "found text 'study'"),
    "prose": text("Dear ablate: please: train\n", "study.yaml:1:20: not YAML"),
    "JSON cut off": text('{"name": "x", "base": {', "study.yaml:2:1: not YAML: did not find expected node content"),
    "unclosed quote": text(changed("name: tiny", 'name: "tiny'), "not YAML: "),
    "unclosed list": text(changed("[psnr, mae]", "[psnr, mae"), "study.yaml:17:10: not YAML"),
    "tab": text(changed("  batch: 4", "\tbatch: 4"), "study.yaml:7:1: a tab can't indent YAML; use spaces"),
    "indentation": text(changed("  batch: 4", " batch: 4"), "study.yaml:7:2: not YAML"),
    "latin-1": text(changed("anything", "Größe").encode("latin-1"), "study.yaml:2:18: byte 0xf6 is not UTF-8"),
    "utf-16": text(STUDY.encode("utf-16"), "study.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
    "a PNG": text(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "study.yaml:1:1: byte 0x89 is not UTF-8"),
    "null bytes": text(b"\0" * 1000, "study.yaml:1:1: the character U+0000 can't stand in YAML"),
    "escape": text(changed("tiny", "\x1b[31mtiny"), "study.yaml:1:7: the character U+001B can't stand in YAML"),
    "ten megabytes": text("a: 1\n" * 2_000_000, "study.yaml:1:1: larger than 1 MB; a study is a page or two"),
    "3,000 brackets": text("a: " + "[" * 3000, "study.yaml:1:43: nested deeper than 40"),
    "alias bomb": text(BOMB, "more than 20,000 values, aliases expanded"),
    "anchor in itself": text("a: &a [*a]\n", "study.yaml:1:8: the anchor 'a' contains itself"),
    "no anchor": text("a: *b\n", "study.yaml:1:4: no anchor 'b' stands above"),
    "merge key": text("base: &b {batch: 4}\nx:\n  <<: *b\n", "study.yaml:3:3: x.<<: merge keys are not read"),
    "python object": text("name: !!python/object/apply:os.system ['touch owned']\n", "study.yaml:1:7: the tag"),
    "python name": text("name: !!python/name:os.system\n", "study.yaml:1:7: the tag"),
    "own tag": text("name: !secret x\n", "study.yaml:1:7: the tag '!secret' is not read; write plain values"),
    "two documents": text("name: a\n---\nname: b\n", "study.yaml:3:1: a second document begins here; a study is one"),
    "key twice": text(STUDY + "seeds: 3\n", "study.yaml:18:1: seeds: stands twice; first in line 14"),
    "mapping as key": text("{a: 1}: 2\n", "study.yaml:1:1: a key must be a word, not a mapping or a list"),
    "2,000 keys": text("".join(f"k{n}: 1\n" for n in range(2000)), "study.yaml:1:1: holds 2,000 keys; 1,000 are the"),
    "2,000 seeds": text(changed("seeds: 2", f"seeds: {list(range(2000))}"), "seeds: expected", "found a list of 2000"),
    "octal": text(changed("batch: 4", "batch: 010"), "study.yaml:7:10: base.batch: '010' can be read in two ways"),
    "hexadecimal": text(changed("batch: 4", "batch: 0x10"), "study.yaml:7:10: base.batch: '0x10' can be read in two"),
    "a time of day": text(changed("batch: 4", "batch: 12:30"), "study.yaml:7:10: base.batch: '12:30' can be read in"),
    "infinite": text(changed("batch: 4", "batch: .inf"), "study.yaml:7:10: base.batch: '.inf' is not a finite number"),
    "a date": text(changed("batch: 4", "batch: 2026-01-02"), "base.batch: expected a whole number"),
    "quoted number": text(changed("batch: 4", "batch: '4'"), "study.yaml:7:3: base.batch: ", "found text '4'"),
    "half a pair": text(changed("batch: 4", "batch: 4.0"), "study.yaml:7:3: base.batch: expected a whole number"),
    "no for false": text(changed("seeds: 2", "seeds: no"), "study.yaml:14:1: seeds: expected", "found text 'no'"),
    "no name": text(changed("name: tiny\n", ""), "study.yaml:1:1: name: is missing"),
    "no metric": text(STUDY.replace("metric:", "#metric:"), "study.yaml:1:1: metric: is missing; expected a mapping"),
    "no factors": text(STUDY[: STUDY.index("factors:")] + "metric: {name: gmsd}\n", "factors: expected factors, each"),
    "no budget": text(changed("  budget: {generator_updates: 6}\n", ""), "study.yaml:3:1: base.budget: is missing"),
    "no data": text(changed("{layout: synthetic, tile: 32, scenes: 4, size: 64}", ""), "base.data: expected a mapping"),
    "misspelt key": text(changed("question:", "qestion:"), "2:1: qestion: no such key", "did you mean question?"),
    "misspelt option": text(changed("tile: 32", "tiel: 32"), "study.yaml:4:29: base.data.tiel: no such option: 'tiel'"),
    "extends itself": text("extends: study.yaml\n", "study.yaml:1:1: extends: study.yaml extends this file in turn"),
    "extends a folder": text("extends: .\n", "study.yaml:1:1: extends: .: is a folder"),
    "extends a device": text("extends: /dev/zero\n", "extends: /dev/zero: is not a regular file"),
    "extends nothing": text("extends: x.yaml\n", "study.yaml:1:1: extends: x.yaml: no such file"),
    "extends an address": text("extends: http://u:pw@host/x\n", "extends: 'http://***@host/x' is remote"),
    "a place of another machine": text(changed("layout: synthetic", "layout: folders, root: 's3://b/k'"),
                                       "study.yaml:4:27: base.data.root: 's3://b/k' is remote or virtual"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS.values(), ids=TEXTS.keys())
def test_a_bad_study_file_is_answered_with_its_line_and_column(case, tmp_path):
    lines = refused(case, tmp_path)
    assert all(re.match(r"study\.yaml:\d+:\d+: ", line) for line in lines), lines
    assert "pw" not in "".join(lines)


ROOT = "base.data.root"
SETTINGS = [
    # no setting at all
    ("", "expected PATH=YAML, such as base.batch=8"), ("=", "expected PATH=YAML"), ("=3", "expected PATH=YAML"),
    ("base.batch", "expected PATH=YAML"), ("base.batch=[1", "base.batch: not YAML"),
    ("base.batch=&a [*a]", "base.batch: the anchor 'a' contains itself"),
    ("base.batch=!!python/name:os.system", "base.batch: the tag"),
    ("extends=other.yaml", "extends: stands in a file only"), ("base..batch=1", "base..batch: is not a path"),
    ("a.b.c.d.e.f.g.h.i.j.k.l.m.n=1", "is not a path; write words joined by dots"),
    ("bse.batch=1", "bse: no such key: 'bse'"), ("base.batch.size=1", "leads through base.batch, which is a single"),
    ("seeds.0=3", "leads through seeds, which is a single value"),
    # names
    ("name=a/b", "'a/b' is not a name"), ("name=../up", "'../up' is not a name"), ("name=..", "'..' is not a name"),
    ("name=/etc", "'/etc' is not a name"), ("name=-rf", "'-rf' is not a name"), ("name=.hidden", "is not a name"),
    ("name='a b'", "'a b' is not a name"), ("name='$(id)'", "'$(id)' is not a name"), ("name=ünï", "is not a name"),
    (f"name={'n' * 65}", "is not a name; expected up to 64 letters"), ("name=cache", "'cache' is taken"),
    ("name=mlflow.db", "'mlflow.db' is taken"), ("name=mlflow-artifacts", "is taken"),
    ("name=test-reads.jsonl", "'test-reads.jsonl' is taken"), ("name=3", "name: expected text, found 3"),
    ("question=[1]", "question: expected text, found [1]"), ("trainer=cyclegan", "no such trainer: 'cyclegan'"),
    # numbers
    ("base.batch=0", "base.batch: expected a whole number of at least 1, found 0"), ("base.batch=-4", "found -4"),
    ("base.batch=true", "base.batch: expected a whole number of at least 1, found true"),
    (f"base.batch={'9' * 50}", "is too large for a whole number"), ("base.batch=3", "3 can't be divided among 2 ranks"),
    ("base.optimizer.lr=0", "base.optimizer.lr: expected a number above 0"), ("base.optimizer.lr=1e308", "at most 1"),
    ("base.optimizer.lr=1e999", "'1e999' is not a finite number"), ("base.optimizer.betas=[0.5]", "a list of 2"),
    ("base.optimizer.betas=[1.5, 2]", "betas[0]: expected a number of at least 0 and below 1, found 1.5"),
    ("base.generator.depth=1000000000", "base.generator.depth: expected a whole number from 2 to 11"),
    ("base.generator.depth=11", "a U-Net of depth 11 needs tiles divisible by 2048; the tile is 32 px"),
    ("base.discriminator.layers=1000000000", "layers: expected a whole number from 1 to 9, found 1000000000"),
    ("base.discriminator.scales=1000000000", "scales: expected a whole number from 1 to 9, found 1000000000"),
    ("base.discriminator.layers=9", "needs tiles of 1536 px or more; the tile is 32 px"),
    ("base.data.tile=7", "base.data.tile: expected a whole number from 32 to 2048, found 7"),
    ("base.data.scenes=1000000000", "base.data.scenes: expected a whole number from 2 to 10000"),
    ("base.data.split={validation: 0.6, test: 0.6}", "leave no scene for training"),
    ("base.data.sar={low: [1], high: [0]}", "low [1.0] must lie below high [0.0] in every band"),
    ("base.data.sar.window=4", "window 4 must be odd"),
    ("base.data.sar.bands=[0]", "bands[0]: expected a whole number"),
    ("base.data.optical.range=[1, 0]", "must be [low, high] with low below high"),
    # budget, intervals, seeds, resources
    ("base.budget={generator_updates: 0}", "generator_updates: expected"), ("base.budget={}", "neither is set"),
    ("base.budget={generator_updates: 5, images: 5}", "expected either"), ("base.budget=5", "found 5"),
    ("base.evaluate.every=0", "base.evaluate.every: expected a whole number of at least 1, found 0"),
    ("base.evaluate.every=7", "7 is over the budget of 6 generator updates"),
    ("seeds=0", "seeds: expected a number of"),
    ("seeds=-1", "found -1"), ("seeds=[1, 1]", "seeds[1]: 1 stands twice"), ("seeds=[]", "seeds: expected"),
    ("seeds=[1.5]", "seeds[0]: expected a whole number"), ("seeds=[[]]", "seeds[0]: expected a whole number"),
    ("seeds=100000", "from 1 to 1000"),
    ("seeds=[4294967296]", "seeds[0]: expected a whole number from 0 to 2147483647"),
    ("resources.ranks=0", "resources.ranks: expected a whole number from 1 to 1024, found 0"),
    ("resources.threads=-1", "resources.threads: expected a whole number from 1"), ("resources.slots=0", "found 0"),
    ("resources.device=gpu", "expected one of auto, cpu, cuda, found text 'gpu'"), ("resources=2", "found 2"),
    # metrics
    ("metric.name=psnrr", ("no such metric: 'psnrr'", "did you mean psnr?")), ("metric=psnr", "found text 'psnr'"),
    ("metric.smallest_effect=-1", "expected a number of at least 0, found -1"),
    ("metric.split=train", "metric.split: expected one of validation, test, found text 'train'"),
    ("metric.split=test", "test scenes are kept for `ablate confirm`"),
    ("also=psnr", "also: expected a list of metrics"),
    ("also=[gmsd]", "also[0]: gmsd is the metric"), ("also=[mae, mae]", "also[1]: mae stands twice"),
    ("also=[nope]", "also[0]: no such metric: 'nope'; there are"), ("failure.score=bad", "mean_colour or a number"),
    # factors, levels, designs
    ("factors={}", "nothing to compare"),
    ("factors=[lr]", "factors: expected factors"),
    ("factors.lr_ratio={}", "level"),
    ("factors.lr_ratio.half={}", "factors.lr_ratio.half: changes nothing"), ("factors.lr_ratio.half=3", "found 3"),
    ("factors.lr_ratio.same={optimizer.lr_ratio: 1.0}", "factors.lr_ratio.same: changes nothing"),
    ("factors.lr_ratio.base={batch: 2}", "'base' is taken"), ("factors.seed.a={batch: 2}", "'seed' is taken"),
    ("factors.a={'x/y': {batch: 2}}", "'x/y' is not a name"), ("factors={'../a': {b: {batch: 2}}}", "is not a name"),
    ("factors.a.b={optimizr.lr: 1}", "no such recipe key: 'optimizr'"), ("factors.a.b={batch: x}", "a whole number"),
    ("factors.a.b={optimizer: {lr: 1e-3}, optimizer.lr: 1}", "lies inside 'optimizer'"),
    ("factors.a.b={objective.name: hinge2}", ("no such objective: 'hinge2'; there are hinge", "did you mean hinge?")),
    ("factors.a.b={objective.name: wgan_gp, discriminator.norm: batch}", "with the gradient penalty of wgan_gp"),
    ("design=everything", "no such design: 'everything'"),
    ("design={list: {}}", "expected arms"),
    ("design=[a]", "found"),
    ("design={list: {a: {nope: x}}}", "no such factor: 'nope'; there is lr_ratio"),
    ("design={list: {a: {lr_ratio: x}}}", "no such level of lr_ratio: 'x'; there are base, half"),
    ("design={list: {'../a': {lr_ratio: half}}}", "'../a' is not a name"), ("never=3", "never: expected a list of"),
    ("never=[{lr_ratio: base}]", "excludes the base itself"), ("never=[{}]", "found an empty mapping"),
    # parts and terms
    ("base.generator=unet", "expected a mapping such as {name: unet}"),
    ("base.generator.name=unet3", "no such generator"),
    ("base.terms=[l1]", "expected a mapping such as {l1: 100}"), ("base.terms.l3=1", "no such loss term: 'l3'"),
    ("base.terms.l1=-1", "base.terms.l1.weight: expected a number of at least 0, found -1"),
    ("base.terms.l1={wieght: 3}", "did you mean weight?"), ("base.stages=3", "base.stages: expected a list of stages"),
    ("base.stages=[{until: 2}]", "base.stages[0].until: expected a number above 0 and below 1"),
    ("base.compute.precision=fp8", "expected one of fp32, tf32, bf16, found text 'fp8'"), ("base=3", "found 3"),
    ("base.data={layout: zip}", "no such layout: 'zip'; there are bigearthnet, csv, folders"),
    # places
    ("base.data={layout: folders}", f"{ROOT}: is missing"),
    ("base.data={layout: folders, root: ''}", f"{ROOT}: is empty"),
    ("base.data={layout: folders, root: /vsicurl/x}", f"{ROOT}: '/vsicurl/x' is remote or virtual and is not read"),
    ("base.data={layout: csv, table: 'https://u:pw@h/t.csv'}", "base.data.table: 'https://***@h/t.csv' is remote"),
    ("base.data={layout: folders, root: good, scene_pattern: '('}", "scene_pattern '(' is not a regular expression"),
    ("base.start=http://host/x.pth", "base.start.generator: 'http://host/x.pth' is remote or virtual"),
    # storage
    ("tracking.mlflow=http://u:pw@host", ("--set tracking.mlflow=http://***@host", "holds a user or password")),
    ("tracking.mlflow='http://host/?token=pw'", ("token=***", "holds a user or password")),
    ("tracking.mlflow=ftp://host", "no such kind of MLflow store: 'ftp'; there are databricks, http, https"),
    ("tracking.mlflow=htp://host", "did you mean http?"), ("tracking.mlflow=http://", "'http://' names no host"),
    ("tracking.mlflow=http://host:99999", "is not an address: Port out of range"), ("tracking.mlflow=3", "found 3"),
    ("tracking.mlflow='http://[::1'", "is not an address"), ("tracking={uri: x}", "no such option: 'uri'"),
    ("tracking.optuna=postgresql://u:pw@host/db", ("tracking.optuna: the URL holds a password", "~/.pgpass")),
    ("tracking.optuna=postgres://host/db", ("expected postgresql+psycopg://HOST:PORT/DATABASE", "found postgres://")),
    ("tracking.optuna=postgresql://host", "names no database"), ("tracking.optuna=null", "found nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "says"), SETTINGS, ids=[f"{n}-{s[:40]}" for n, (s, _) in enumerate(SETTINGS)])
def test_a_bad_setting_is_answered_with_its_path_and_what_is_allowed(setting, says, tmp_path):
    lines = refused(bad("check", "tiny.yaml", "--set", setting, says=says), tmp_path)
    assert all(line.startswith(("--set ", "tiny.yaml")) for line in lines), lines
    assert "pw" not in "".join(lines)


def test_120_bad_inputs_are_tried():
    assert len(TEXTS) >= 45 and len(SETTINGS) >= 120
    assert len({setting for setting, _ in SETTINGS}) == len(SETTINGS)
