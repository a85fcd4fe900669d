"""Rows into a file of any format, whole or not at all; a value that a format cannot hold is refused.

The file is written beside its place and renamed when it is complete.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from oikyo.api.sources import Format

from ...errors import Refused
from ...files import replacing
from ..detect import ENDINGS, KNOWN, ending_of
from ..findings import excerpt
from ..readers.delimited import DELIMITERS

BATCH = 1000
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
Values = dict[str, Any]  # a row: any JSON or Arrow value by column
Rows = Callable[[], Iterator[Values]]
"""Gives all rows from the beginning, as often as it is called."""


def format_of(path: Path) -> tuple[Format, str]:
    """Format and packing that the name of `path` asks for; Refused when it asks for none."""
    found = ENDINGS.get(ending_of(path.name))
    packing = PACKINGS.get(path.suffix.lower(), "")
    if found is None or (packing and found in ("Parquet", "Arrow")):
        raise Refused(
            "UnknownFormat",
            f"the ending of {path} names no format that is written",
            next_step=f"Write one of {KNOWN}; text formats also with .gz or .zst",
        )
    return found, packing


def write(path: Path, rows: Rows) -> int:
    """Write all of `rows` to `path` in the format of its ending; gives their number."""
    form, packing = format_of(path)
    with _atomic(path) as raw:
        if form in ("Parquet", "Arrow"):
            return _columnar(raw, rows, form)
        if not packing:
            return WRITERS[form](raw, rows)
        with pa.CompressedOutputStream(raw, packing) as file:  # else Arrow complains of a refusal
            return WRITERS[form](file, rows)


@contextmanager
def _atomic(path: Path) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(replacing(path))
        except OSError as error:
            step = "Name a file in a folder that you may write"
            raise Refused("OutputUnwritable", f"{path}: {error.strerror}", next_step=step) from None
        yield file


def _jsonl(file: Any, rows: Rows) -> int:
    count = 0
    for count, row in enumerate(rows(), 1):
        file.write(_json(row, count) + b"\n")
    return count


def _array(file: Any, rows: Rows) -> int:
    file.write(b"[")
    count = 0
    for count, row in enumerate(rows(), 1):
        file.write((b",\n" if count > 1 else b"\n") + _json(row, count))
    file.write(b"\n]\n")
    return count


def _json(row: Values, number: int) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _cannot(number, f"JSON cannot hold it: {error}") from None


def _table(file: Any, rows: Rows, mark: str) -> int:
    names = list(dict.fromkeys(name for row in rows() for name in row))
    for name in names:
        if not name or name != name.strip() or set(name) & set("\r\n\ufeff"):
            raise _cannot(0, f"a header cannot hold the column {excerpt(name)!r}")
    text = _Encoded(file)
    odd = any(set(name) & set(DELIMITERS) for name in names)  # the header tells the delimiter
    quoting: Any = csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=mark, quoting=quoting).writerow(names)
    writer = csv.writer(text, delimiter=mark)
    count = 0
    for count, row in enumerate(rows(), 1):
        try:
            writer.writerow([_cell(row.get(name), name, count) for name in names])
        except UnicodeEncodeError:
            raise _cannot(count, "it holds text that is not UTF-8") from None
    return count


class _Encoded:
    """A file of bytes that csv.writer may write to."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        self._file.write(text.encode())
        return len(text)


def _cell(value: Any, name: str, number: int) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    kind = type(value).__name__
    raise _cannot(number, f"{name!r} is of type {kind}; a table holds text: write JSONL or Parquet")


def _text(file: Any, rows: Rows) -> int:
    count = 0
    for count, row in enumerate(rows(), 1):
        text = row.get("text")
        if row.keys() != {"text"} or not isinstance(text, str):
            raise _cannot(count, "a text file holds the column text alone")
        if "\n" in text or text != text.rstrip("\r") or not text.strip():
            raise _cannot(count, "a text file holds one text a line, and this is none: write JSONL")
        file.write(text.encode() + b"\n")
    return count


WRITERS: dict[Format, Callable[[Any, Rows], int]] = {
    "JSONL": _jsonl,
    "JSON": _array,
    "CSV": lambda file, rows: _table(file, rows, ","),
    "TSV": lambda file, rows: _table(file, rows, "\t"),
    "Text": _text,
}


def _columnar(file: BinaryIO, rows: Rows, form: Format) -> int:
    schema = _schema(rows)
    make = pq.ParquetWriter if form == "Parquet" else pa.ipc.new_file
    count = 0
    try:
        with make(file, schema) as writer:
            for batch in _batches(rows()):
                writer.write_table(_arrow(batch, count, schema))
                count += len(batch)
    except pa.ArrowException as error:
        raise _cannot(0, f"{form} cannot hold a column: {error}") from None
    return count


def _schema(rows: Rows) -> Any:  # Any: pyarrow ships no types
    """One type for each column, over all rows; Refused where there is none."""
    schema, start = pa.schema([]), 0
    for batch in _batches(rows()):
        names = dict.fromkeys(name for row in batch for name in row)
        filled = [{name: row.get(name) for name in names} for row in batch]
        try:
            schema = pa.unify_schemas([schema, _arrow(filled, start).schema])
        except pa.ArrowException as error:
            raise _cannot(start + 1, f"a column has values of two types: {error}") from None
        start += len(batch)
    return schema


def _arrow(batch: list[Values], start: int, schema: Any = None) -> Any:
    try:
        return pa.Table.from_pylist(batch, schema=schema)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError) as error:
        number = f"rows {start + 1} to {start + len(batch)}"
        raise Refused(
            "CannotConvert",
            f"{number}: a column has values that one type cannot hold: {excerpt(str(error), 200)}",
            next_step="Give each column one type, or write JSONL",
        ) from None


def _batches(rows: Iterable[Values]) -> Iterator[list[Values]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def _cannot(number: int, why: str) -> Refused:
    where = f"row {number}: " if number else ""
    return Refused(
        "CannotConvert", f"{where}{excerpt(why, 300)}", next_step="Choose another format for OUT"
    )
