"""The event stream: any chunking reads the same, and a kill at any byte loses no whole line."""

from __future__ import annotations

import itertools
import math
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate import artifacts, disk, events, outcome
from ablate.records import Status, TrialFolder
from reports.streams import compact
from tests import faults

numbers = st.floats(allow_nan=True, allow_infinity=True)
keys = st.sampled_from(["psnr", "term/l1", "health/sign_rate"])
FOUND = {"d_dominant": "D dominates: right on 98% of patches", "overrun": "The adversarial part overruns: 12 times"}


@st.composite
def streams(draw):
    """A plausible stream: a start, measurements in steps, perhaps an end."""
    clock = iter(range(1000))
    found = [events.Started(time=next(clock), world_size=2, threads=1, device="cpu")]
    for step in range(1, draw(st.integers(0, 6)) + 1):
        values = draw(st.dictionaries(keys, numbers, min_size=1))
        split = draw(st.sampled_from(["train", "validation"]))
        found.append(events.Measured(time=next(clock), step=step, images=4 * step, split=split, values=values))
    if draw(st.booleans()):
        status = draw(st.sampled_from(["done", "diverged"]))
        health = draw(st.sampled_from([{}, {"diagnosis": "healthy"}, {"diagnosis": "d_dominant", "findings": FOUND}]))
        evidence = draw(st.dictionaries(keys, numbers, max_size=2))
        found.append(
            events.Ended(
                time=next(clock), step=9, images=36, status=status, why="", seconds=1.0, evidence=evidence, **health
            )
        )
    return found


def same(a: object, b: object) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(a) == repr(b)


@given(streams())
def test_every_event_survives_its_line(found):
    assert same([events.from_line(events.to_line(event)) for event in found], found)


@given(streams(), st.data())
def test_any_chunking_reads_the_same(tmp_path_factory, found, data):
    text = "".join(map(events.to_line, found)).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    path = tmp_path_factory.mktemp("chunks") / "events.jsonl"
    reader, read = events.EventReader(path), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        with open(path, "ab") as file:
            file.write(text[start:end])
        read += reader.new()
    assert same(read, found)


@given(streams())
def test_folding_twice_and_replaying_lines_changes_nothing(found):
    once = events.fold("t", found)
    assert same(once, events.fold("t", found))
    again = [event for event in found if not isinstance(event, events.Ended)]
    ended = [event for event in found if isinstance(event, events.Ended)]
    assert same(once.curves, events.fold("t", again + again + ended).curves)


def test_every_prefix_of_a_stream_reopens_with_all_its_whole_lines(tmp_path):
    path = tmp_path / "events.jsonl"
    writer = events.EventWriter(path, clock=lambda: 1.0)
    for step in range(1, 4):
        writer.append(events.Measured, step=step, images=step, split="train", values={"loss": float(step)})
    writer.close()
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = whole[:length].count(b"\n")
        assert len(events.read(path)) == complete
        reopened = events.EventWriter(path, clock=lambda: 2.0)
        reopened.append(events.Ended, step=3, images=3, status="done")
        reopened.close()
        assert [event.kind for event in events.read(path)] == ["measured"] * complete + ["ended"]


@given(streams(), st.data())
def test_every_prefix_of_any_stream_is_taken_up_with_all_its_whole_lines(tmp_path_factory, found, data):
    text = "".join(map(events.to_line, found)).encode()
    length = data.draw(st.integers(0, len(text)))
    path = tmp_path_factory.mktemp("prefix") / "events.jsonl"
    path.write_bytes(text[:length])
    whole = text[:length].count(b"\n")
    assert same(events.read(path), found[:whole])
    writer = events.EventWriter(path, clock=lambda: 5.0)
    last = writer.append(events.Warned, step=1, message="torn?")
    writer.close()
    assert same(events.read(path), [*found[:whole], last])


def test_every_reader_takes_a_torn_line_for_none(tmp_path):
    """The driver, the oracle, the report: at every length of a trial's stream as after its last newline."""
    folder = TrialFolder(tmp_path / "trials" / "abc")
    folder.root.mkdir(parents=True)
    digest = "0" * 64
    found = [
        events.Started(time=0.0, world_size=2, threads=1, device="cpu"),
        events.Measured(time=1.0, step=1, images=4, split="train", values={"loss_d": 1.0, "health/probe_l1": 0.5}),
        events.Measured(time=2.0, step=1, images=4, split="validation", values={"gmsd": 0.25}),
        events.Saved(time=2.5, step=1, what="sample", path="samples/000001.npz", sha256=digest),
        events.Warned(time=2.6, step=1, message="input ignored: 3 times"),
        events.Started(time=3.0, attempt=2, world_size=2, threads=1, device="cpu", step=1),
        events.Ended(time=4.0, attempt=2, step=1, images=4, status="done", seconds=1.0),
    ]
    text = "".join(map(events.to_line, found)).encode()
    readers = (lambda: outcome.finished("abc", folder), lambda: artifacts.problems(folder),
               lambda: compact(folder.events), lambda: events.fold("abc", events.read(folder.events)))  # fmt: skip
    expected = None
    for length in range(len(text) + 1):
        folder.events.write_bytes(text[:length])
        said = [reader() for reader in readers]
        if length == 0 or text[length - 1 : length] == b"\n":
            expected = said
        assert said == expected, length
    assert expected[0] is not None and expected[0].status == "done"


def small_stream() -> bytes:
    event = events.Measured(time=1.5, step=3, images=12, split="validation", values={"gmsd": 0.25, "psnr": math.nan})
    end = events.Ended(time=2.0, step=3, images=12, status="done", seconds=1.0)
    return "".join(map(events.to_line, [event, event, end])).encode()


def test_a_flipped_bit_is_named_with_its_line_or_changes_no_fact(tmp_path):
    """Every bit of every byte, but for the last newline, without which the last line is not yet an event."""
    path, text, named = tmp_path / "events.jsonl", small_stream(), 0
    path.write_bytes(text)
    whole = events.read(path)
    for place in range(len(text) - 1):
        for bit in range(8):
            path.write_bytes(text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :])
            try:
                assert same(events.read(path), whole), (place, bit)
            except events.CorruptStream as error:
                named += 1
                assert f"events.jsonl:{text[:place].count(10) + 1}: damaged" in str(error)
    assert named > 0.9 * 8 * len(text)


def test_lines_of_before_there_were_checksums_are_read(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(re.sub(rb',"crc":"[0-9a-f]{8}"', b"", small_stream()))
    assert b"crc" not in path.read_bytes()
    assert [event.kind for event in events.read(path)] == ["measured", "measured", "ended"]


def test_a_stream_never_has_two_writers(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LOCK_TRIES", 2)
    monkeypatch.setattr(events, "LOCK_PAUSE", 0.0)
    first = events.EventWriter(tmp_path / "events.jsonl")
    with pytest.raises(OSError, match="another process has held this stream"):
        events.EventWriter(tmp_path / "events.jsonl")
    first.close()
    events.EventWriter(tmp_path / "events.jsonl").close()


def test_a_reader_beside_a_writer_sees_whole_lines_only(tmp_path, monkeypatch):
    """Each line reaches the file in pieces of seven bytes, and a reader looks in after every piece."""
    path = tmp_path / "events.jsonl"
    seen: list[events.Event] = []
    reader, put = events.EventReader(path), disk.File._put

    def looked_at(file, piece):
        seen.extend(reader.new())
        return put(file, piece)

    monkeypatch.setattr(disk, "PIECE", 7)
    monkeypatch.setattr(disk.File, "_put", looked_at)
    writer = events.EventWriter(path, clock=lambda: 1.0)
    written = [writer.append(events.Warned, step=step, message="x" * step) for step in range(20)]
    writer.close()
    assert seen == written[:-1] and [*seen, *reader.new()] == written


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("k", [*range(1, 51)])
def test_a_disk_that_fills_up_at_any_write_leaves_whole_lines_and_a_stream_to_go_on_with(
    tmp_path, monkeypatch, k, for_good
):
    path, told = tmp_path / "events.jsonl", []
    monkeypatch.setattr(disk, "PIECE", 40)
    with faults.full_disk(k, for_good=for_good) as full:
        try:
            writer = events.EventWriter(path, clock=lambda: 1.0)
        except disk.DiskFull:
            writer = None
        for step in range(15) if writer else ():
            try:
                told.append(writer.append(events.Warned, step=step, message="a sentence of some length"))
            except disk.DiskFull as error:
                assert str(error).startswith(f"disk full: {path}")
    assert full.failed and (len(told) < 15 or not for_good)
    assert events.read(path) == told
    if writer:
        told.append(writer.append(events.Warned, step=99, message="there is space again"))
        writer.close()
    assert events.read(path) == told


def test_after_a_resume_the_first_line_of_a_value_stands():
    def at(value: float, attempt: int) -> events.Measured:
        return events.Measured(time=0, attempt=attempt, step=5, images=5, split="validation", values={"psnr": value})

    assert events.fold("t", [at(20.0, 1), at(21.0, 2)]).scores == {"psnr": 20.0}


def test_without_an_end_a_trial_has_failed_with_the_given_reason():
    result = events.fold("t", [events.Started(time=0, world_size=1, threads=1, device="cpu")], why="killed")
    assert (result.status, result.why) == (Status.failed, "killed")


def test_numbers_that_json_does_not_know_travel(tmp_path):
    line = events.to_line(
        events.Measured(time=0, step=1, images=1, split="train", values={"a": math.inf, "b": math.nan})
    )
    assert "Infinity" not in line and "NaN" not in line
    values = events.from_line(line).values
    assert values["a"] == math.inf and math.isnan(values["b"])


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"event": "born"}', "not json", '{"event": "ended"}'])
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValueError):
        events.from_line(line)


def test_seconds_are_the_sum_over_attempts_without_the_time_between():
    def start(time: float, attempt: int) -> events.Started:
        return events.Started(time=time, attempt=attempt, world_size=1, threads=1, device="cpu")

    def value(time: float, attempt: int) -> events.Measured:
        return events.Measured(time=time, attempt=attempt, step=1, images=1, split="train", values={"x": 1.0})

    assert events.fold("t", [start(0, 1), value(5, 1), start(100, 2), value(103, 2)]).seconds == 8


def test_a_clock_that_is_set_meanwhile_counts_as_no_training_and_no_time_in_a_stream_goes_back(tmp_path, monkeypatch):
    passed, jumps = itertools.count(), itertools.cycle([0, 3600, -3600, -86400, 1e6])
    monkeypatch.setattr(time, "monotonic", lambda: float(next(passed)))
    monkeypatch.setattr(time, "time", lambda: 1e9 + next(jumps))
    path = tmp_path / "events.jsonl"
    for attempt in (1, 2, 3):
        writer = events.EventWriter(path, attempt=attempt)
        for step in range(1, 6):
            writer.append(events.Warned, step=step, message="so late?")
        writer.close()
    written = events.read(path)
    times = [event.time for event in written]
    assert times == sorted(times) and times[0] >= 1e9
    assert events.fold("t", written).seconds == 3 * 4.0


def test_a_diagnosis_is_folded_with_its_evidence_and_named_as_reports_count_it():
    evidence = {"health/accuracy_real": 0.98, "loss_g": math.inf}
    end = events.Ended(
        time=1, step=9, images=36, status="done", diagnosis="d_dominant", evidence=evidence, findings=FOUND
    )
    result = events.fold("t", [events.from_line(events.to_line(end))])
    assert (result.diagnosis, result.evidence, list(result.findings)) == ("d_dominant", evidence, list(FOUND))
    assert result.pathology == "D dominates"


def test_an_end_of_before_there_were_diagnoses_still_folds():
    line = '{"event":"ended","time":1,"attempt":1,"step":9,"images":36,"status":"done","why":"","seconds":1.0}\n'
    result = events.fold("t", [events.from_line(line)])
    assert result.status is Status.done
    assert (result.diagnosis, result.evidence, result.findings, result.pathology) == ("", {}, {}, "")


@given(stream=st.lists(st.sampled_from([3, 40, 900]), max_size=5), torn=st.integers(0, 80), tail=st.integers(1, 2000))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_last_event_is_the_last_of_all_whatever_is_torn_and_however_little_is_read(tmp_path, stream, torn, tail):
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    assert events.last(path) is None
    whole = [events.Warned(time=0.0, step=at, message="x" * size) for at, size in enumerate(stream)]
    half = events.to_line(events.Warned(time=0.0, step=99, message="torn"))[:torn].rstrip("\n")
    path.write_text("".join(map(events.to_line, whole)) + half)
    assert events.last(path, tail=tail) == (events.read(path) or [None])[-1]


def test_a_damaged_last_line_is_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text(events.to_line(events.Warned(time=0.0, step=1, message="one")).replace("one", "two"))
    with pytest.raises(events.CorruptStream, match="its last line: its checksum does not hold"):
        events.last(path)
