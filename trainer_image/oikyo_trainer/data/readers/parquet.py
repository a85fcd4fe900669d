"""Parquet, one batch of rows at a time. A file whose footer lies is refused, not read halfway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..findings import excerpt
from ..plain import refuse
from ..sources import DataFile
from .columnar import rows
from .row import Item

BATCH = 512
LARGEST_GROUP = 4 << 30
"""Bytes of one row group, unpacked: a group is what a reader may have to hold."""


def read(file: DataFile) -> Iterator[Item]:
    """Every row; `line` is the number of the row, from 1."""
    with file.open() as opened:
        try:
            reader = pq.ParquetFile(opened, pre_buffer=False)
            _check(file, reader)
            batches = reader.iter_batches(batch_size=BATCH)
            yield from rows(file, reader.schema_arrow, batches)
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            raise refuse(
                "UnreadableFile",
                f"{file.name} is not a whole Parquet file: {excerpt(str(error))}",
                "Write or copy it again; it may have been cut off",
            ) from None


def _check(file: DataFile, reader: Any) -> None:  # Any: pyarrow ships no types
    for index in range(reader.metadata.num_row_groups):
        if reader.metadata.row_group(index).total_byte_size > LARGEST_GROUP:
            raise refuse(
                "InvalidData",
                f"row group {index} of {file.name} unpacks to more than {LARGEST_GROUP >> 30} GiB",
                "Write the file with smaller row groups",
            )
