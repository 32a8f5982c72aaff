from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.patches import PatchError, apply, clashes, combine, differences, leaves, segments

keys = st.sampled_from(["a", "b", "c"])
scalars = st.integers(0, 5) | st.sampled_from(["x", 0.5]) | st.lists(st.integers(0, 3), max_size=2)
documents = st.recursive(
    st.dictionaries(keys, scalars, max_size=3),
    lambda inner: st.dictionaries(keys, scalars | inner, max_size=3),
    max_leaves=8,
)
paths = st.lists(keys, min_size=1, max_size=3).map(".".join)


def at(document, path):
    for key in path.split("."):
        document = document[key]
    return document


@given(documents, paths, scalars)
def test_a_dotted_path_changes_that_place_and_no_other(base, path, value):
    before = copy.deepcopy(base)
    try:
        changed = apply(base, {path: value})
    except PatchError as error:
        assert error.key == path
        return
    assert base == before
    assert at(changed, path) == value
    assert all(p == path or p.startswith(f"{path}.") or path.startswith(f"{p}.") for p in differences(base, changed))


@given(documents, paths, scalars)
def test_applying_twice_is_applying_once(base, path, value):
    try:
        once = apply(base, {path: value})
    except PatchError:
        return
    assert apply(once, {path: value}) == once


@given(documents)
def test_the_empty_patch_changes_nothing(base):
    assert apply(base, {}) == base and differences(base, base) == {}


@given(documents, documents)
def test_two_documents_differ_exactly_if_differences_are_found(a, b):
    assert (differences(a, b) == {}) == (a == b)
    assert differences(b, a) == {path: (y, x) for path, (x, y) in differences(a, b).items()}


@given(documents, st.permutations(["a.x", "b", "c.y.z"]), scalars)
def test_keys_that_do_not_overlap_commute(base, order, value):
    try:
        results = [apply(base, {key: value for key in keys}) for keys in (order, sorted(order))]
    except PatchError:
        return
    assert results[0] == results[1]


@given(documents)
def test_leaves_rebuild_the_document(document):
    rebuilt = apply({}, {".".join(path): value for path, value in leaves(document)})
    assert rebuilt == document


def test_a_mapping_replaces_the_whole_mapping_and_a_path_one_value():
    base = {"terms": {"l1": {"weight": 100}, "ssim": {"weight": 1}}}
    assert apply(base, {"terms": {"charbonnier": 5}}) == {"terms": {"charbonnier": 5}}
    assert apply(base, {"terms.ssim.weight": 2})["terms"] == {"l1": {"weight": 100}, "ssim": {"weight": 2}}


def test_null_takes_a_term_away_and_is_a_value_elsewhere():
    base = {"terms": {"l1": 100, "ssim": 1}, "budget": {"images": 5}}
    changed = apply(base, {"terms.l1": None, "budget.images": None})
    assert changed == {"terms": {"ssim": 1}, "budget": {"images": None}}


def test_a_weight_written_alone_can_be_reached_by_path():
    assert apply({"terms": {"l1": 100}}, {"terms.l1.weight": 10}) == {"terms": {"l1": {"weight": 10}}}


def test_a_path_through_a_single_value_is_refused():
    with pytest.raises(PatchError, match="leads through batch"):
        apply({"batch": 4}, {"batch.size": 8})


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "a. b", ".".join("a" * 100)])
def test_what_is_no_path_is_refused(key):
    with pytest.raises(PatchError):
        segments(key)


def test_a_key_inside_another_key_of_the_same_patch_is_a_slip():
    assert [error.key for error in clashes({"terms": {}, "terms.l1": 1, "term": 2})] == ["terms.l1"]


def test_combined_patches_agree_or_are_refused_by_name():
    assert combine({"a=x": {"batch": 4}, "b=y": {"batch": 4, "terms.l1": 1}}) == {"batch": 4, "terms.l1": 1}
    with pytest.raises(PatchError, match="b=y sets terms.l1 and a=x sets terms"):
        combine({"a=x": {"terms": {"ssim": 1}}, "b=y": {"terms.l1": 1}})
