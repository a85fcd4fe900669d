"""Parquet, one batch of rows at a time. A file whose footer lies is refused, not read halfway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq

from ..plain import refuse
from ..sources import DataFile
from .columnar import UNREADABLE, unreadable

BATCH = 512
LARGEST_GROUP = 4 << 30
"""Bytes of one row group, unpacked: a group is what a reader may have to hold."""


@contextmanager
def opened(file: DataFile) -> Iterator[tuple[Any, Iterator[Any]]]:  # pyarrow is untyped
    """Schema and record batches; what is wrong with them is told of the file."""
    with file.open() as source:
        try:
            reader = pq.ParquetFile(source, pre_buffer=False)
            _check(file, reader)
            yield reader.schema_arrow, reader.iter_batches(batch_size=BATCH)
        except UNREADABLE as error:
            raise unreadable(file.name, "Parquet", error) from None


def _check(file: DataFile, reader: Any) -> None:  # Any: pyarrow ships no types
    for index in range(reader.metadata.num_row_groups):
        if reader.metadata.row_group(index).total_byte_size > LARGEST_GROUP:
            raise refuse(
                "InvalidData",
                f"row group {index} of {file.name} unpacks to more than {LARGEST_GROUP >> 30} GiB",
                "Write the file with smaller row groups",
            )
