"""Rows of Arrow batches, as Parquet and Arrow files give them: checked, bounded, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..plain import FREE, RATIO, refuse
from ..sources import DataFile
from .row import Row

AT_ONCE = 512
"""Rows of a batch that are Python objects at one time."""


def rows(file: DataFile, schema: Any, batches: Iterable[Any]) -> Iterator[Row]:
    """Every row of `batches` (Arrow record batches of `schema`); `line` is its number, from 1.

    Refused when more comes out than a file of this size may hold: a few bytes of an encoded column
    can stand for any number of rows.
    """
    _check_names(file, schema)
    names = _class_names(schema)
    line, left = 0, max(FREE, RATIO * file.size)
    for batch in batches:
        left -= max(batch.get_total_buffer_size(), batch.num_rows)  # rows need not have bytes
        if left < 0:
            raise _blown_up(file)
        for start in range(0, batch.num_rows, AT_ONCE):
            for values in _values(batch.slice(start, AT_ONCE), names):
                line += 1
                yield Row(line, values)


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
