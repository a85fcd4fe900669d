"""Rows of Arrow batches, as Parquet and Arrow files give them: checked, bounded, one at a time.

A block of them is an IPC stream, which another process reads without a copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from ..findings import excerpt
from ..plain import FREE, RATIO, refuse
from ..sources import DataFile
from .lines import BLOCK
from .row import Row

UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
"""What comes of values that are not what their column says."""
AT_ONCE = 512
"""Rows of a batch that are Python objects at one time."""


Opened = Callable[[DataFile], AbstractContextManager[tuple[Any, Iterable[Any]]]]
"""Opens a file: its Arrow schema and its record batches."""


def rows(file: DataFile, opened: Opened) -> Iterator[Row]:
    """Every row; `line` is its number, from 1."""
    with opened(file) as (schema, batches):
        names = _class_names(schema)
        for line, batch in _bounded(file, schema, batches):
            yield from _rows(line, batch, names)


def blocks(file: DataFile, opened: Opened) -> Iterator[tuple[int, bytes]]:
    """The rows in blocks for `rows_of_block`, each with the number of its first row."""
    first, size, held = 1, 0, list[Any]()
    with opened(file) as (schema, batches):
        for line, batch in _bounded(file, schema, batches):
            if size >= BLOCK:
                yield first, _packed(schema, held)
                first, size, held = line, 0, []
            held.append(batch)
            size += batch.get_total_buffer_size()
        if held:
            yield first, _packed(schema, held)


def _packed(schema: Any, batches: Iterable[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def rows_of_block(number: int, block: bytes, *, name: str, kind: str) -> Iterator[Row]:
    """The rows of a block of the file `name`, of which the first has this number."""
    try:
        stream = pa.ipc.open_stream(block)
        names = _class_names(stream.schema)
        for batch in stream:
            yield from _rows(number, batch, names)
            number += batch.num_rows
    except UNREADABLE as error:
        raise unreadable(name, kind, error) from None


def unreadable(name: str, kind: str, error: BaseException) -> Exception:
    return refuse(
        "UnreadableFile",
        f"{name} is not a whole {kind} file: {excerpt(str(error))}",
        "Write or copy it again; it may have been cut off",
    )


def _bounded(file: DataFile, schema: Any, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The batches, each with the number of its first row.

    Refused when more comes out than a file of this size may hold: a few bytes of an encoded column
    can stand for any number of rows.
    """
    _check_names(file, schema)
    line, left = 1, max(FREE, RATIO * file.size)
    for batch in batches:
        left -= max(batch.get_total_buffer_size(), batch.num_rows)  # rows need not have bytes
        if left < 0:
            raise _blown_up(file)
        yield line, batch
        line += batch.num_rows


def _rows(line: int, batch: Any, names: dict[str, list[str]]) -> Iterator[Row]:
    for start in range(0, batch.num_rows, AT_ONCE):
        for number, values in enumerate(_values(batch.slice(start, AT_ONCE), names), line + start):
            yield Row(number, values)


def _blown_up(file: DataFile) -> Exception:
    most = max(FREE, RATIO * file.size)
    return refuse(
        "InvalidData",
        f"{file.name} unpacks to more than {most >> 20} MiB, {RATIO} times its size or more",
        "Write it as JSON Lines yourself if it is meant to be so",
    )


def _check_names(file: DataFile, schema: Any) -> None:  # Any: pyarrow ships no types
    if len(set(schema.names)) != len(schema.names):
        raise refuse("InvalidData", f"{file.name} names a column twice", "Rename one of them")


def _values(batch: Any, names: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    for name, classes in names.items():
        columns[name] = [_class(classes, value) for value in columns[name]]
    keys = tuple(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(keys, values, strict=True))


def _class(classes: list[str], value: Any) -> Any:  # Any: whatever stands in the column
    known = isinstance(value, int) and 0 <= value < len(classes)
    return classes[value] if known else value


def _class_names(schema: Any) -> dict[str, list[str]]:  # Any: pyarrow ships no types
    """Names of the classes of integer columns, as the `datasets` library writes them beside."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            name: [str(item) for item in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
            if name in schema.names
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
