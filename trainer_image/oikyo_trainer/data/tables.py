"""The tables of a version's splits: as its files have them, or while they go into these files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Full, Queue
from threading import Event
from typing import Any, Protocol

import pyarrow.parquet as pq

from oikyo.api import workspace as layout

from ..errors import Retry
from .columns import Shape

SPLITS = ("train", "validation")
"""Those that become tokens."""
AHEAD = 1
"""Tables that wait for the reader."""
LOOK = 0.1
"""Seconds after which a writer looks whether the reader has left."""


class Tables(Protocol):
    """What makes the tokens of a version asks of it."""

    name: str
    """The folder of the version."""
    shape: Shape
    labels: Sequence[str]

    def count(self, split: str) -> int:
        """Rows of a split."""

    def names(self, split: str) -> list[str]:
        """Columns of a split; none where there is no such split."""

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[Any]:
        """The rows of a split in Arrow batches, of `rows` rows at most."""

    def stored(self) -> Stored:
        """The same as the files have them, once they have them."""


class Stored:
    """The files of a version."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / layout.MANIFEST).read_bytes())
        self.name = folder.name
        self.shape: Shape = manifest["shape"]
        self.labels: Sequence[str] = manifest.get("labels") or []
        self._folder = folder

    def count(self, split: str) -> int:
        path = self._path(split)
        return int(pq.read_metadata(path).num_rows) if path.exists() else 0

    def names(self, split: str) -> list[str]:
        path = self._path(split)
        return list(pq.read_schema(path).names) if path.exists() else []

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[Any]:
        return pq.ParquetFile(self._path(split)).iter_batches(rows, columns=columns)

    def stored(self) -> Stored:
        return self

    def _path(self, split: str) -> Path:
        return self._folder / f"{split}.parquet"


class Passing:
    """The tables that a writer shows on their way, split after split, to a reader in another thread.

    A version that is there already, or is read once more, is read from its files.
    """

    def __init__(
        self,
        folder: Path,
        shape: Shape,
        labels: Sequence[str],
        counts: Mapping[str, int],
        names: list[str],
    ) -> None:
        self.name, self.shape, self.labels = folder.name, shape, labels
        self._folder, self._counts, self._names = folder, counts, names
        self._shown: Queue[tuple[str, Any] | None] = Queue(AHEAD)
        self._next: tuple[str, Any] | None = None
        self._begun = self._whole = False
        self._left, self._closed = Event(), Event()

    def show(self, split: str, table: Any) -> None:
        """Hand a table to the reader; waits while it has enough."""
        if split in SPLITS:
            self._put((split, table))

    def close(self, *, whole: bool) -> None:
        """End the showing; `whole`: whether the version is in its folder."""
        self._whole = whole
        self._closed.set()
        self._put(None)

    def leave(self) -> None:
        """End the reading: nothing is kept for it any more."""
        self._left.set()

    def _put(self, item: tuple[str, Any] | None) -> None:
        while not self._left.is_set():
            try:
                return self._shown.put(item, timeout=LOOK)
            except Full:
                continue

    def count(self, split: str) -> int:
        return self._counts[split]

    def names(self, split: str) -> list[str]:
        return self._names

    def batches(self, split: str, columns: list[str], rows: int) -> Iterator[Any]:
        if not self._begun:
            self._begun, self._next = True, self._shown.get()
            if self._next is None:  # nothing had to be written
                self.leave()
        if self._left.is_set():
            yield from self.stored().batches(split, columns, rows)
            return
        while self._next is not None and self._next[0] == split:
            yield from self._next[1].select(columns).to_batches(max_chunksize=rows)
            self._next = self._shown.get()
        if self._next is None:
            self._check_whole()

    def stored(self) -> Stored:
        """Waits for the writer."""
        self.leave()
        self._closed.wait()
        self._check_whole()
        return Stored(self._folder)

    def _check_whole(self) -> None:
        if not self._whole:
            raise Retry("WorkspaceFault", f"the version {self.name} was not written to its end")
