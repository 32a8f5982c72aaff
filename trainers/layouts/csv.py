"""A table of pairs: columns sar, optical (paths relative to the table) and group (the scene).

Where an image is kept one file a band, its cell names them all, with `;` between: `VV.tif; VH.tif`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from typing import Any

from trainers.layouts._common import Data, Files
from trainers.layouts._recognised import Recognised
from trainers.options import Path, options
from trainers.pairs import DataError, Pair, some, stem

COLUMNS = ("sar", "optical", "group")
SEPARATOR = ";"
LOOKS_LIKE = "a .csv with columns sar, optical, group"
SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@options
class Options(Data):
    """`split_column` names a column of train, val (or validation) and test that is taken as it is; with `none` the
    groups are split by `split`, alike for every data set, and such a column is left aside like all others.
    """

    table: Path
    split_column: str = "none"


def build(data: Options) -> Files:
    columns = COLUMNS if data.split_column == "none" else (*COLUMNS, data.split_column)
    rows = _rows(data.table, columns)
    pairs = [_pair(data.table, line, row) for line, row in rows]
    if not pairs:
        raise DataError(f"{data.table}: holds no pair below its header")
    _refuse_repeated(data.table, pairs)
    missing = [path for pair in pairs for path in (*pair.sar, *pair.optical) if not os.path.isfile(path)]
    if missing:
        raise DataError(f"{data.table}: {len(missing)} of its files don't exist: {some(missing)}")
    splits = None
    if data.split_column != "none":
        splits = _splits(data, {pair.name: row for pair, row in zip(pairs, rows, strict=True)})
    return Files(sorted(pairs, key=lambda pair: pair.name), data, stride=data.tile, splits=splits)


def _rows(table: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each row. Raises DataError for a table without the columns, or with an empty cell."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            absent = [column for column in columns if column not in found]
            if absent:
                raise DataError(f"{table}: no column {', '.join(absent)}; it has {', '.join(found) or 'none'}")
            twice = [column for column in columns if found.count(column) > 1]
            if twice:
                raise DataError(f"{table}: two columns {twice[0]}; one of a name")
            return [(reader.line_num, _cells(f"{table}:{reader.line_num}", row, columns)) for row in reader]
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a UTF-8 CSV table: {error}") from None


def _cells(where: str, row: dict[str | None, Any], columns: Sequence[str]) -> dict[str, str]:
    """The row's cells in these columns. Raises DataError where one is empty, or cells stand beyond the header."""
    beyond = [cell for cell in row.get(None, ()) if cell.strip()]
    if beyond:
        raise DataError(f"{where}: more cells than columns: {some(beyond)}; quote a cell that holds a comma")
    cells = {column: (row[column] or "").strip() for column in columns}
    empty = [column for column, cell in cells.items() if not cell]
    if empty:
        raise DataError(f"{where}: {', '.join(empty)} is empty")
    return cells


def _splits(data: Options, rows: dict[str, tuple[int, dict[str, str]]]) -> dict[str, str]:
    """Pair -> its split as the table has it. Raises DataError for another word, or where none trains or validates."""
    splits = {}
    for name, (line, cells) in rows.items():
        said = cells[data.split_column]
        if said.lower() not in SPLITS:
            raise DataError(f"{data.table}:{line}: {data.split_column} {said!r}; allowed are {', '.join(SPLITS)}")
        splits[name] = SPLITS[said.lower()]
    for split in ("train", "validation"):
        if split not in splits.values():
            raise DataError(f"{data.table}: column {data.split_column} has no {split} row; leave out split_column")
    return splits


def _pair(table: str, line: int, cells: dict[str, str]) -> Pair:
    folder = os.path.dirname(os.path.abspath(table))
    sar, optical = (_files(cells[column], folder) for column in ("sar", "optical"))
    if not sar or not optical:
        raise DataError(f"{table}:{line}: names no file between its {SEPARATOR}")
    return Pair(stem(os.path.relpath(sar[0], folder)), cells["group"], sar, optical)


def _files(cell: str, folder: str) -> tuple[str, ...]:
    """The files that a cell names, each with some of the image's bands."""
    names = filter(None, map(str.strip, cell.split(SEPARATOR)))
    return tuple(os.path.normpath(os.path.join(folder, name)) for name in names)


def _refuse_repeated(table: str, pairs: list[Pair]) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise DataError(f"{table}: {pair.sar[0]} stands in two rows; one row a SAR image")
        seen.add(pair.name)


def recognise(root: str) -> Recognised | None:
    """The only table of the folder with the columns of this layout."""
    tables = [os.path.join(root, name) for name in sorted(os.listdir(root)) if name.lower().endswith(".csv")]
    fitting = [table for table in tables if _has_columns(table)]
    if len(fitting) != 1:
        return None
    return Recognised({"table": fitting[0]}, f"a table of pairs, {os.path.basename(fitting[0])}", sure=3)


def _has_columns(table: str) -> bool:
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            return set(COLUMNS) <= set(next(csv.reader(file), ()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
