"""Arrow batches on disk, put there by whatever process has made them, mapped by all that read them.

Rows that a worker has read need not go through the pipe to the process that asked for them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from mmap import ACCESS_READ, MADV_DONTNEED, PAGESIZE, mmap
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Place(NamedTuple):
    """Where a batch lies."""

    file: str
    start: int
    size: int
    """Bytes."""


class Shelf:
    """Takes batches; each process has a file of its own, whose name begins with `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._owner, self._end = 0, 0

    def put(self, batch: Any) -> Place:  # pyarrow is untyped
        """Write a batch; others may read it from here on."""
        name = f"{self._path.name}.{os.getpid()}"
        if self._file is None or self._owner != os.getpid():  # the file is that of a parent
            self._file = self._path.with_name(name).open("wb")
            self._owner, self._end = os.getpid(), 0
        octets = batch.serialize()
        self._file.write(octets)
        self._file.flush()
        place = Place(name, self._end, octets.size)
        self._end += octets.size
        return place

    def close(self) -> None:
        if self._file is not None and self._owner == os.getpid():
            self._file.close()


class Batches:
    """The batches at some places, mapped while rows are taken from them; for all threads."""

    def __init__(self, folder: Path, schema: Any, places: Sequence[Place]) -> None:
        self._schema, self._places = schema, places
        self._mapped = {name: _map(folder / name) for name in {place.file for place in places}}

    def take(self, number: int, rows: npt.NDArray[np.int64]) -> Any:  # pyarrow is untyped
        """Copies of some rows of a batch."""
        name, start, size = self._places[number]
        mapped, whole = self._mapped[name]
        batch = pa.ipc.read_record_batch(whole.slice(start, size), self._schema)
        taken = batch.take(pa.array(rows, type=pa.int64()))
        # Nothing need stay in this process; what another thread is just reading comes back by itself.
        first = start - start % PAGESIZE
        mapped.madvise(MADV_DONTNEED, first, start + size - first)
        return taken


def _map(path: Path) -> tuple[mmap, Any]:
    with path.open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
    return mapped, pa.py_buffer(mapped)
