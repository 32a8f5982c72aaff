"""A table in a file as rows: CSV in the ways that programs write it, TSV, Parquet."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.problems import Problem, StudyError, quoted
from ablate.readers.found import LISTED, Found

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 50  # lines that tell the delimiter
SHEETS = (".xlsx", ".xls", ".ods")


def read_table(path: Path) -> Found:
    """The rows of the table in `path`. Raises StudyError, with the line, where it is not one."""
    if not path.is_file():
        raise _refused(path, "is a folder; expected a file such as results.csv" if path.is_dir() else "no such file")
    if path.suffix.lower() in SHEETS:
        raise _refused(path, "is a spreadsheet; save its table as CSV")
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        return _parquet(path, data)
    text, cautions = _decoded(path, data)
    delimiter, numbered = _rows(path, text)
    header, body = _header(path, numbered), numbered[1:]
    rows = _whole(path, header, body)
    columns = {("column", name): [row[place] for _, row in rows] for place, name in enumerate(header)}
    places = tuple(f"{path.name}:{line}" for line, _ in rows)
    return _found(path, data, columns, places, cautions=cautions, decimal_comma=delimiter != ",")


def _found(path: Path, data: bytes, columns: dict, places: tuple[str, ...], **more: Any) -> Found:
    if not places:
        raise _refused(path, f"has no row below its header ({', '.join(name for _, name in columns)})")
    facts = {"source": path.name, "rows": len(places), "sha256": hashlib.sha256(data).hexdigest()[:12]}
    return Found(path.name, path.stem, columns, places, path.with_name(f"{path.stem}-report"), facts=facts, **more)


def _decoded(path: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    """The text, and what had to be guessed to read it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace"), ()
    if b"\0" in data[:4096]:
        raise _refused(path, "is not text; expected a table such as results.csv")
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), (f"{path.name} is not UTF-8; it was read as Windows-1252.",)


def _rows(path: Path, text: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """Delimiter, and the rows that hold anything with the line on which each begins; the first is the header."""
    lines = re.split(r"\r\n|\r|\n", text)
    skipped = 0  # comments, and what tells Excel the delimiter
    while skipped < len(lines) and (not lines[skipped].strip() or lines[skipped].startswith(("#", "sep="))):
        skipped += 1
    if skipped == len(lines):
        raise _refused(path, "is empty; expected a table with the columns arm, seed and a metric")
    delimiter = _delimiter([line for line in lines[skipped : skipped + SNIFFED] if line.strip()])
    try:
        return delimiter, list(_parsed(lines[skipped:], delimiter, skipped))
    except csv.Error as error:
        raise _refused(path, f"a quoted field has no end, or is malformed ({error})") from None


def _parsed(lines: list[str], delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=delimiter, strict=True)
    begins = skipped + 1
    for row in reader:
        if any(cell.strip() for cell in row):
            yield begins, row
        begins = skipped + reader.line_num + 1


def _delimiter(lines: list[str]) -> str:
    """The one that parts the header, and most rows in as many fields."""

    def fitness(delimiter: str) -> tuple[float, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        return (sum(count == counts[0] for count in counts) / len(counts), counts[0]) if counts[0] > 1 else (0.0, 0)

    return max(DELIMITERS, key=fitness)


def _header(path: Path, numbered: list[tuple[int, list[str]]]) -> list[str]:
    line, cells = numbered[0]
    while len(cells) > 1 and not cells[-1].strip():
        cells = cells[:-1]
    names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError([Problem(f"{path.name}:{line}", 0, 0, "", f"the header names {', '.join(twice)} twice")])
    return names


def _whole(path: Path, header: list[str], body: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Rows with a field per column; empty ones at the end of a line may be left out or too many."""
    width, rows, wrong = len(header), [], []
    for line, row in body:
        if len(row) < width or any(cell.strip() for cell in row[width:]):
            fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
            said = f"{fields} where the header has {width} ({', '.join(header)})"
            wrong.append(Problem(f"{path.name}:{line}", 0, 0, "", f"{said}: {quoted(' '.join(row))}"))
        rows.append((line, row[:width]))
    if wrong:
        raise StudyError(wrong[:LISTED])
    return rows


def _parquet(path: Path, data: bytes) -> Found:
    import pandas

    try:
        frame = pandas.read_parquet(io.BytesIO(data))
    except (ValueError, OSError, ImportError) as error:
        raise _refused(path, f"can't be read as Parquet: {str(error).splitlines()[0]}") from None
    values = frame.astype(object).where(frame.notna(), None)
    columns = {("column", str(name)): values[name].tolist() for name in frame.columns}
    return _found(path, data, columns, tuple(f"{path.name}: row {row}" for row in range(1, len(frame) + 1)))


def _refused(path: Path, message: str) -> StudyError:
    return StudyError([Problem(str(path), 0, 0, "", message)])
