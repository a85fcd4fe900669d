"""Parquet, one batch of rows at a time. A file whose footer lies is refused, not read halfway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..findings import excerpt
from ..sources import DataFile, open_plain, refuse
from .row import Item, Row

BATCH = 1024
LARGEST_GROUP = 4 << 30
"""Bytes of one row group, unpacked: a group is what a reader may have to hold."""


def read(file: DataFile) -> Iterator[Item]:
    """Every row; `line` is the number of the row, from 1."""
    with open_plain(file.name, file.path) as opened:
        try:
            reader = pq.ParquetFile(opened, pre_buffer=False)
            _check(file, reader)
            names = _class_names(reader.schema_arrow)
            yield from _rows(reader, names)
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            raise refuse(
                "UnreadableFile",
                f"{file.name} is not a whole Parquet file: {excerpt(str(error))}",
                "Write or copy it again; it may have been cut off",
            ) from None


def _check(file: DataFile, reader: Any) -> None:  # Any: pyarrow ships no types
    schema = reader.schema_arrow
    if len(set(schema.names)) != len(schema.names):
        raise refuse("InvalidData", f"{file.name} names a column twice", "Rename one of them")
    for index in range(reader.metadata.num_row_groups):
        if reader.metadata.row_group(index).total_byte_size > LARGEST_GROUP:
            raise refuse(
                "InvalidData",
                f"row group {index} of {file.name} unpacks to more than {LARGEST_GROUP >> 30} GiB",
                "Write the file with smaller row groups",
            )


def _rows(reader: Any, names: dict[str, list[str]]) -> Iterator[Row]:  # Any: pyarrow again
    line = 0
    for batch in reader.iter_batches(batch_size=BATCH):
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        for name, classes in names.items():
            columns[name] = [_class(classes, value) for value in columns[name]]
        keys = tuple(columns)
        for values in zip(*columns.values(), strict=True):
            line += 1
            yield Row(line, dict(zip(keys, values, strict=True)))


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
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
