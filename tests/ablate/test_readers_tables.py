"""Tables as programs write them: every way reads as the same rows, and what is wrong is named with its line."""

from __future__ import annotations

import math
import time

import pytest

from ablate.problems import StudyError
from ablate.readers.tables import read_table

ROWS = [("base", 1, 17.5), ("base", 2, 17.25), ("größer", 1, 18.0), ("größer", 2, 17.75)]
PLAIN = "arm,seed,psnr\n" + "".join(f"{arm},{seed},{value}\n" for arm, seed, value in ROWS)

WAYS = {
    "commas": PLAIN.encode(),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "windows line ends": PLAIN.replace("\n", "\r\n").encode(),
    "old mac line ends": PLAIN.replace("\n", "\r").encode(),
    "windows-1252": PLAIN.encode("cp1252"),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ",").encode(),
    "tabs and decimal commas": PLAIN.replace(",", "\t").replace(".", ",").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "quoted": PLAIN.replace("arm,seed,psnr", '"arm","seed","psnr"').replace("17.25", '"17.25"').encode(),
    "blank lines": PLAIN.replace("\n", "\n\n  \n").encode(),
    "spaces": PLAIN.replace(",", " , ").encode(),
    "separators at the end": PLAIN.replace("\n", ",\n").encode(),
    "comments": ("# made by a script\nsep=,\n" + PLAIN).encode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_a_table_reads_as_the_same_rows(way, tmp_path):
    (tmp_path / "results.csv").write_bytes(WAYS[way])
    found = read_table(tmp_path / "results.csv")
    assert [name.strip() for _, name in found.columns] == ["arm", "seed", "psnr"]
    arms, seeds, values = (found.columns[key] for key in found.columns)
    assert [arm.strip() for arm in arms] == [arm for arm, *_ in ROWS]
    assert found.numbers(list(found.columns)[1]) == [seed for _, seed, _ in ROWS]
    assert found.numbers(list(found.columns)[2]) == [value for *_, value in ROWS]


def test_parquet_is_read_too(tmp_path):
    import pandas

    pandas.DataFrame(ROWS, columns=["arm", "seed", "psnr"]).to_parquet(tmp_path / "results.parquet")
    found = read_table(tmp_path / "results.parquet")
    assert found.numbers(("column", "psnr")) == [value for *_, value in ROWS]
    assert found.places[0] == "results.parquet: row 1"


def test_rows_are_named_by_the_line_on_which_they_begin(tmp_path):
    text = '# one\n\narm,seed,psnr,note\nbase,1,17,"two\nlines"\n\nbase,2,17,x\n'
    (tmp_path / "results.csv").write_text(text)
    assert read_table(tmp_path / "results.csv").places == ("results.csv:4", "results.csv:7")


def test_what_stands_for_nothing_is_nan_and_infinity_stays(tmp_path):
    texts = ["", "NaN", "n/a", "None", "-", "inf", "-inf", "1e-3", ".5", "5."]
    rows = "".join(f"base,{seed},{text}\n" for seed, text in enumerate(texts))
    (tmp_path / "results.csv").write_text("arm,seed,psnr\n" + rows)
    values = read_table(tmp_path / "results.csv").numbers(("column", "psnr"))
    assert all(map(math.isnan, values[:5]))
    assert values[5:] == [math.inf, -math.inf, 0.001, 0.5, 5.0]


REFUSED = {
    "": "is empty",
    "\n\n": "is empty",
    "arm,seed,psnr\n": "no row below its header",
    "arm,seed,arm\nbase,1,2\n": "results.csv:1: the header names arm twice",
    "arm,seed,psnr\nbase,1,2\nbase,2\n": r"results.csv:3: 2 fields where the header has 3 \(arm, seed, psnr\)",
    "arm,seed,psnr\nbase,1,2,3\n": "results.csv:2: 4 fields where the header has 3",
    'arm,seed,psnr\nbase,1,"2\nbase,2,3\n': "a quoted field has no end",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_table_is_refused_with_its_place(text, tmp_path):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(StudyError, match=REFUSED[text]):
        read_table(tmp_path / "results.csv")


NOT_NUMBERS = {
    "arm,seed,psnr\nbase,1,17\nbase,2,good\n": "results.csv:3: psnr: 'good' is not a number",
    'arm,seed,psnr\nbase,1,"1,234"\n': "results.csv:2: psnr: '1,234' may be a fraction or thousands",
    "arm;seed;psnr\nbase;1;1,5\nbase;2;1.5\n": "results.csv:2: psnr: decimal comma and point are mixed",
    "arm;seed;psnr\nbase;1;1.234,5\n": "results.csv:2: psnr: '1.234,5' is not a number",
    "arm,seed,psnr\nbase,1,17 dB\n": "results.csv:2: psnr: '17 dB' is not a number",
}


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_number_is_refused_with_its_line(text, tmp_path):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(StudyError, match=NOT_NUMBERS[text]):
        read_table(tmp_path / "results.csv").numbers(("column", "psnr"))


def test_many_mistakes_of_one_kind_are_counted_not_listed(tmp_path):
    (tmp_path / "results.csv").write_text("arm,seed,psnr\n" + "".join(f"base,{seed},x\n" for seed in range(1000)))
    with pytest.raises(StudyError) as refused:
        read_table(tmp_path / "results.csv").numbers(("column", "psnr"))
    assert len(str(refused.value).splitlines()) == 6 and "995 more are no numbers" in str(refused.value)


def test_files_that_are_no_tables_are_told_apart(tmp_path):
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\x03\x04")
    (tmp_path / "weights.pt").write_bytes(b"\x80\x02\x00\x00binary")
    told = {"sheet.xlsx": "save its table as CSV", "weights.pt": "is not text", "none.csv": "no such file"}
    for name, words in told.items():
        with pytest.raises(StudyError, match=words):
            read_table(tmp_path / name)
    with pytest.raises(StudyError, match="is a folder"):
        read_table(tmp_path)


def test_a_hundred_thousand_rows_are_read_quickly(tmp_path):
    rows = "".join(f"arm{n % 20},{n // 20},{n / 7:.6f},{n / 11:.6f}\n" for n in range(100_000))
    (tmp_path / "results.csv").write_text("arm,seed,psnr,ssim\n" + rows)
    started = time.process_time()
    found = read_table(tmp_path / "results.csv")
    assert len(found.numbers(("column", "psnr"))) == 100_000
    assert time.process_time() - started < 3
