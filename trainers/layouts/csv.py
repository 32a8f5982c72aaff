"""A table of pairs: columns sar, optical (paths relative to the table) and group (the scene)."""

from __future__ import annotations

import csv
import os

from trainers.layouts._common import Data, Files
from trainers.options import Path, options
from trainers.pairs import DataError, Pair, some, stem

COLUMNS = ("sar", "optical", "group")


@options
class Options(Data):
    """Other columns are left aside, also `split`: scenes are split here, alike for every data set."""

    table: Path


def build(data: Options) -> Files:
    pairs = [_pair(data.table, line, row) for line, row in _rows(data.table)]
    if not pairs:
        raise DataError(f"{data.table}: holds no pair below its header")
    _refuse_repeated(data.table, pairs)
    missing = [path for pair in pairs for path in (pair.sar, pair.optical) if not os.path.isfile(path)]
    if missing:
        raise DataError(f"{data.table}: {len(missing)} of its files don't exist: {some(missing)}")
    return Files(sorted(pairs, key=lambda pair: pair.name), data.sar, data.optical, stride=data.tile)


def _rows(table: str) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each row. Raises DataError for a table without the columns."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            absent = [column for column in COLUMNS if column not in found]
            if absent:
                raise DataError(f"{table}: no column {', '.join(absent)}; it has {', '.join(found) or 'none'}")
            return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a UTF-8 CSV table: {error}") from None


def _pair(table: str, line: int, row: dict[str, str]) -> Pair:
    cells = {column: (row[column] or "").strip() for column in COLUMNS}
    empty = [column for column, cell in cells.items() if not cell]
    if empty:
        raise DataError(f"{table}:{line}: {', '.join(empty)} is empty")
    folder = os.path.dirname(os.path.abspath(table))
    sar, optical = (os.path.normpath(os.path.join(folder, cells[column])) for column in ("sar", "optical"))
    return Pair(stem(os.path.relpath(sar, folder)), cells["group"], sar, optical)


def _refuse_repeated(table: str, pairs: list[Pair]) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise DataError(f"{table}: {pair.sar} stands in two rows; one row a SAR image")
        seen.add(pair.name)
