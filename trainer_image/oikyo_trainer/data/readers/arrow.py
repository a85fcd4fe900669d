"""Arrow IPC, files and streams, one record batch at a time; each is checked before it is looked into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from ..sources import DataFile
from .columnar import UNREADABLE, unreadable

FILE_MAGIC = b"ARROW1"


@contextmanager
def opened(file: DataFile) -> Iterator[tuple[Any, Iterator[Any]]]:  # pyarrow is untyped
    """Schema and record batches; what is wrong with them is told of the file."""
    with file.open() as source:
        try:
            yield _open(source)
        except (*UNREADABLE, MemoryError) as error:
            raise unreadable(file.name, "Arrow", error) from None


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
