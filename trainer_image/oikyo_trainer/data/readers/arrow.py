"""Arrow IPC, files and streams, one record batch at a time; each is checked before it is looked into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from ..findings import excerpt
from ..plain import refuse
from ..sources import DataFile
from .columnar import rows
from .row import Item

FILE_MAGIC = b"ARROW1"


def read(file: DataFile) -> Iterator[Item]:
    """Every row; `line` is the number of the row, from 1."""
    with file.open() as opened:
        try:
            schema, batches = _open(opened)
            yield from rows(file, schema, batches)
        except (
            pa.ArrowException,
            OSError,
            UnicodeDecodeError,
            OverflowError,
            MemoryError,
        ) as error:
            raise refuse(
                "UnreadableFile",
                f"{file.name} is not a whole Arrow file: {excerpt(str(error))}",
                "Write or copy it again; it may have been cut off",
            ) from None


def _open(opened: BinaryIO) -> tuple[Any, Iterator[Any]]:  # Any: pyarrow ships no types
    is_file = opened.read(len(FILE_MAGIC)) == FILE_MAGIC
    opened.seek(0)
    if not is_file:
        stream = pa.ipc.open_stream(opened)
        return stream.schema, map(_checked, stream)
    reader = pa.ipc.open_file(opened)
    numbers = range(reader.num_record_batches)
    return reader.schema, (_checked(reader.get_batch(number)) for number in numbers)


def _checked(batch: Any) -> Any:
    """The batch; an offset that leads out of its buffer would end the process, not raise."""
    batch.validate(full=True)
    return batch
