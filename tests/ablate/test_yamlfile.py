from __future__ import annotations

import json
import math
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ablate.problems import StudyError
from ablate.yamlfile import MAX_DEPTH, MAX_NODES, read_yaml, write_yaml


def read(text: str | bytes):
    document = read_yaml(text, name="s.yaml")
    assert not document.problems, document.problems
    return document.data


def refusal(text: str | bytes) -> str:
    """What is said about the text: one problem, as a line."""
    try:
        problems = read_yaml(text, name="s.yaml").problems
    except StudyError as error:
        problems = error.problems
    assert len(problems) == 1, problems
    return str(problems[0])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4), ("2E4", 2e4), (".5", 0.5), ("-.5e+1", -5.0), ("1.", 1.0), ("+3", 3), ("-0", 0),
        ("1_000", 1000), ("12_345_678", 12345678), ("0.50", 0.5), ("true", True), ("FALSE", False),
        ("~", None), ("null", None), ("", None), ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("2020-01-02", "2020-01-02"), ("1_0", "1_0"), ("'1e-4'", "1e-4"), ('"010"', "010"), ("1,000", "1,000"),
        ("4 px", "4 px"), ("nan", "nan"), ("0xyz", "0xyz"), ("1e", "1e"), ("=", "="),
    ],
)  # fmt: skip
def test_a_word_is_read_as_a_person_means_it(written, meant):
    found = read(f"key: {written}\n")["key"]
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize("written", ["010", "-07", "00", "0x1F", "0o17", "0b101", "12:30:45", "1:30", "1:30.5", "0_1"])
def test_what_two_readers_would_read_differently_is_refused_where_it_stands(written):
    line = refusal(f"a: 1\nb:\n  c: {written}\n")
    assert line.startswith("s.yaml:3:6: b.c: ") and "two ways" in line


@pytest.mark.parametrize("written", [".inf", "-.inf", ".nan", "1e999", "-1e999", "9" * 30, "9" * 5000])
def test_numbers_that_are_not_finite_or_too_large_are_refused(written):
    assert refusal(f"a: {written}\n").startswith("s.yaml:1:4: a: ")


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1", "a: stands twice; first in line 1"),
        ("a: {b: 1, b: 2}\n", "1:11", "a.b: stands twice"),
        ("a:\n\tb: 1\n", "2:1", "tab"),
        ("a: [1,\n", "2:1", "not YAML"),
        ("a: b: c\n", "1:5", "not YAML"),
        (b"a: \xff\n", "1:4", "UTF-8"),
        ("ä: 1\nb: ü\n".encode("latin-1"), "1:1", "UTF-8"),
        ("a: 1\n".encode("utf-16"), "1:1", "UTF-8"),
        ("a: \x07\n", "1:4", "U+0007"),
        ('a: "x\\0y"\n', "1:4", "U+0000"),
        ("a: 1\n---\nb: 2\n", "3:1", "second document"),
        ("a: !!python/object/apply:os.system [ls]\n", "1:4", "tag"),
        ("a: &x [1, *x]\n", "1:11", "contains itself"),
        ("a: *nobody\n", "1:4", "no anchor"),
        ("b: &x {a: 1}\nc:\n  <<: *x\n", "3:3", "merge keys"),
        ("? [a, b]\n: 1\n", "1:3", "a key must be a word"),
        ("'': 1\n", "1:1", "a key must be a word"),
        ("[" * 3000, f"1:{MAX_DEPTH + 1}", "nested deeper"),
        ("a: [" + "1, " * MAX_NODES + "]\n", "1:", "more than 20,000"),
        ("#" * 1_000_001, "1:1", "larger than 1 MB"),
    ],
)
def test_what_can_not_be_read_is_refused_with_line_and_column(text, place, says):
    line = refusal(text)
    assert line.startswith(f"s.yaml:{place}") and says in line


def test_an_alias_bomb_is_refused_before_it_is_expanded():
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    rows += [
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]" for before, name in zip("abcdefg", "bcdefgh", strict=True)
    ]
    assert "aliases expanded" in refusal("\n".join(rows))


def test_aliases_below_the_limit_are_copies_of_the_anchor():
    data = read("a: &x {k: [1, 2]}\nb: *x\n")
    data["a"]["k"].append(3)
    assert data["b"] == {"k": [1, 2]}


def test_marks_say_where_each_key_and_item_stands():
    document = read_yaml("a:\n  b: [10, {c: 1}]\n'd': 2\n", name="s.yaml")
    assert document.marks[("a",)] == (1, 1) and document.marks[("a", "b")] == (2, 3)
    assert document.marks[("a", "b", 0)] == (2, 7) and document.marks[("a", "b", 1, "c")] == (2, 12)
    assert document.marks[("d",)] == (3, 1)


def test_keys_are_text_as_they_are_written():
    assert list(read("0.5: a\n2: b\nno: c\nnull: d\n010: e\n")) == ["0.5", "2", "no", "null", "010"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_endings_and_a_byte_order_mark_change_nothing(newline):
    text = "a: 1\nb:\n  c: [x, 2e-4]\n"
    assert read(("\ufeff" + text.replace("\n", newline)).encode()) == {"a": 1, "b": {"c": ["x", 2e-4]}}


PIECES = ["[", "{", '"', "'", "&a ", "*a ", "!a ", "#", "? ", "- ", "a: ", "|", "%", " ", "\n", "a,", "[a,", "{a: "]
PIECES += ["- a\n", "a: 1\n", "? a\n", "x", "1", "0_", "---\n", "&a [*a,", "- [", ">\n", "1:", "a.", "\u2028"]


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_anything_is_answered_within_two_seconds(piece):
    began = time.perf_counter()
    try:
        read_yaml(piece * (999_000 // len(piece.encode())), name="s.yaml")
    except StudyError as error:
        assert error.problems
    assert time.perf_counter() - began < 2


@given(st.text(max_size=60) | st.text(alphabet="[]{}:,-?&*!|>'\"%#@ab01.\n\t ", max_size=60) | st.binary(max_size=60))
def test_any_input_gives_data_or_a_located_refusal(text):
    try:
        problems = read_yaml(text, name="s.yaml").problems
    except StudyError as error:
        problems = error.problems
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in problems)


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"], include_characters="\n\t"), max_size=20)
tricky = st.sampled_from(
    ["010", "1e-4", "no", "null", "~", "12:30", "0x1F", "true", "", "<<", "*a", "a: b", "1_000", "#"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | finite | words | tricky,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd") | tricky.filter(
        lambda key: key not in ("", "<<")), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(values)
def test_what_is_written_reads_back_equal(value):
    found = read(write_yaml({"value": value}))["value"]
    assert found == value and type(found) is type(value)


@given(finite)
def test_every_number_survives_in_each_notation(number):
    for text in (f"a: {number!r}", f"a: {number:.17e}", write_yaml({"a": number})):
        found = read(text)["a"]
        assert found == number and math.copysign(1, found) == math.copysign(1, number)


@given(values)
def test_json_means_the_same_to_us_and_to_json(value):
    assert read(json.dumps({"value": value}, ensure_ascii=False)) == {"value": value}


def test_plain_pyyaml_would_have_been_surprising():
    """The oracle for why this module exists: PyYAML's own loader on the same lines."""
    text = "a: 1e-4\nb: no\nc: 010\nd: 12:30:45\ne: 1\ne: 2\n"
    assert yaml.safe_load(text) == {"a": "1e-4", "b": False, "c": 8, "d": 45045, "e": 2}
