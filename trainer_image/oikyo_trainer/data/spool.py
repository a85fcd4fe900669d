"""Rows on their way: written to disk as they are read, fetched again in any order.

The texts wait as Arrow batches (shelf.py), hashes and numbers in files beside them, all memory-mapped.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .columns import Shape
from .piece import SCHEMAS, Piece
from .shelf import Batches, Place, Shelf
from .threads import in_order

AT_ONCE = 1 << 20
"""Rows whose numbers are worked on at one time, so that what is on the way does not grow with the data."""
SPOOL = "rows.arrow"
"""The usual name of a spool; its files begin with it."""
GATHER_ROWS = 16384
IN_ORDER, SCATTERED = 4 << 20, 20 << 20
"""Characters of rows that are fetched at once: where they lie in order the processor's caches hold a small
piece, where they do not each piece goes through the whole file."""

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NUMBERS: dict[str, str] = {
    **dict.fromkeys(("inputs", "rows", "questions", "members"), "2<u8"),
    "exact": "V32",
    "files": "<i4",
    "lines": "<i8",
    "lengths": "<i4",
    "label_codes": "<i4",
    "numbers": "<f8",
}
"""What is known of each row beside its texts, and as what it lies on disk."""


class Spool:
    """Takes rows piece by piece, then gives numbers as arrays and texts as tables."""

    def __init__(self, path: Path, shape: Shape, shelf: Shelf | None = None) -> None:
        """`shelf` holds batches already, or may."""
        self.shape = shape
        self.schema = SCHEMAS[shape]
        self._path = path
        self._shelf = shelf or Shelf(path)
        self._places: list[Place] = []
        self._files = {name: self._beside(name).open("wb") for name in NUMBERS}
        self._ends = array("q")
        self._codes: dict[str, int] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def num_labels(self) -> int:
        return len(self._codes)

    def _beside(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{name}")

    def add(self, piece: Piece, file: int) -> None:
        """Take in the good rows of a piece of the file with this number."""
        count = len(piece.lines)
        if not count:
            return
        own = [self._codes.setdefault(label, len(self._codes)) for label in piece.labels]
        codes = np.array(own, dtype=np.int32)[np.array(piece.codes, dtype=np.int32)]
        numbers: dict[str, Any] = {  # whatever is a buffer
            "inputs": _words(piece.keys.input),
            "rows": _words(piece.keys.row),
            "exact": piece.keys.exact,
            "questions": _words(piece.keys.question),
            "members": _words(piece.marks),
            "files": np.full(count, file, dtype=np.int32),
            "lines": piece.lines,
            "lengths": piece.lengths,
            "label_codes": codes,
            "numbers": piece.numbers,
        }
        for name, buffer in numbers.items():
            self._files[name].write(buffer)
        there = isinstance(piece.batch, Place)
        self._places.append(piece.batch if there else self._shelf.put(piece.batch))
        self._rows += count
        self._ends.append(self._rows)

    def close(self) -> None:
        """End the writing; the numbers and texts may be read from here on."""
        self._shelf.close()
        for file in self._files.values():
            file.close()

    def columns(self) -> Rows:
        found = {name: self._mapped(name, form) for name, form in NUMBERS.items()}
        for name in ("questions", "members", "numbers"):
            found[name] = found[name] if len(found[name]) else None
        return Rows(**found, labels=tuple(self._codes), folder=self._path.parent)

    def _mapped(self, name: str, form: str) -> Any:  # an array of that form
        """The numbers as they lie on disk: memory holds of them what is in use."""
        path = self._beside(name)
        if not path.stat().st_size:
            return np.zeros((0, 2) if form[0] == "2" else 0, dtype=form.removeprefix("2"))
        mapped = np.asarray(np.memmap(path, dtype=form.removeprefix("2"), mode="r"))
        return mapped.reshape(-1, 2) if form[0] == "2" else mapped

    def gather(
        self, wanted: Index | Mask, lengths: npt.NDArray[np.int32]
    ) -> Iterator[tuple[Index, Any]]:
        """The rows `wanted`, in that order, as (indices, table) pieces of bounded size.

        The next pieces are fetched by other threads meanwhile. A mask of all rows takes an eighth of the
        memory of the numbers of most of them.
        """
        return in_order(lambda piece: (piece, self.fetch(piece)), pieces(wanted, lengths))

    def fetch(self, piece: Index) -> Any:  # pyarrow is untyped
        """The rows `piece`, in that order, as one table; for all threads and forked processes."""
        ends = np.frombuffer(self._ends, dtype=np.int64)
        return _take(self._batches, piece, np.searchsorted(ends, piece, side="right"), ends)

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self._path.parent, self.schema, self._places)


class Rows:
    """The numbers of all rows, one array each; the position in an array is the row's index."""

    def __init__(
        self,
        *,
        inputs: npt.NDArray[np.uint64],
        rows: npt.NDArray[np.uint64],
        exact: npt.NDArray[np.void],
        files: npt.NDArray[np.int32],
        lines: Index,
        lengths: npt.NDArray[np.int32],
        label_codes: npt.NDArray[np.int32],
        labels: tuple[str, ...],
        questions: npt.NDArray[np.uint64] | None = None,
        members: npt.NDArray[np.uint64] | None = None,
        synthetic: npt.NDArray[np.int8] | None = None,
        numbers: npt.NDArray[np.float64] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self.inputs, self.rows, self.exact = inputs, rows, exact
        """(rows, 2) big-endian halves of the keys; exact: 32 bytes each."""
        self.questions = inputs if questions is None else questions
        """As inputs: equal for rows that should have the same answer."""
        self.members = members
        """As inputs: what places the rows instead of them (marks.py); None: nothing does."""
        self.files, self.lines, self.lengths = files, lines, lengths
        self.synthetic = synthetic
        """0 for a row of a source, else 1 + the place of its method in augment.plan.METHODS; None: all
        are of sources."""
        self.label_codes, self.labels = label_codes, labels
        """Codes count the labels in the order of their first row; empty where rows have no class."""
        self.numbers = numbers
        """The number that each row is to teach; None: rows teach something else."""

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def answers(self) -> npt.NDArray[Any]:
        """Equal for rows with the same class or number; one value for rows that have neither."""
        if self.numbers is not None:
            return self.numbers
        return self.label_codes if self.labels else np.zeros(len(self), dtype=np.int32)

    def room(self, count: int) -> Index:
        """Room for a number of each of `count` rows: in a file beside theirs, if they lie in files."""
        if self._folder is None or count < AT_ONCE:
            return np.empty(count, dtype=np.int64)
        with TemporaryFile(dir=self._folder) as file:
            # A hole in a mapped file would end the process by a signal once the volume is full.
            os.posix_fallocate(file.fileno(), 0, 8 * count)
            return np.asarray(np.memmap(file, dtype=np.int64, mode="r+", shape=(count,)))


def slices(count: int) -> Iterator[slice]:
    """Numbers from 0 to `count`, AT_ONCE at a time."""
    return (slice(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE))


def counted(codes: npt.NDArray[np.int32], mask: Mask, every: int) -> Index:
    """How many rows of `mask` have each of `every` codes."""
    counts = np.zeros(every, dtype=np.int64)
    for part in slices(len(codes)):
        counts += np.bincount(codes[part][mask[part]], minlength=every)
    return counts


def _words(hashes: bytes) -> npt.NDArray[np.uint64]:
    """Hashes as 64-bit numbers, their first byte the highest."""
    return np.frombuffer(hashes, dtype=">u8").astype("<u8")


def pieces(wanted: Index | Mask, lengths: npt.NDArray[np.int32]) -> Iterator[Index]:
    """Cut by rows and by characters: a column of Arrow strings holds at most 2 GiB."""
    if wanted.dtype != np.bool_:
        numbers = np.asarray(wanted, np.int64)
        ordered = bool((numbers[1:] > numbers[:-1]).all())
        yield from cut(numbers, lengths, IN_ORDER if ordered else SCATTERED, GATHER_ROWS)
        return
    for part in slices(len(wanted)):
        yield from pieces(np.flatnonzero(wanted[part]) + part.start, lengths)


def cut(
    wanted: Index, lengths: npt.NDArray[np.int32], characters: int, rows: int = AT_ONCE
) -> Iterator[Index]:
    """`wanted` in parts of so many characters and rows at most, one row at least."""
    start = 0
    while start < len(wanted):
        piece = wanted[start : start + rows]
        weights = np.cumsum(lengths[piece], dtype=np.int64)
        count = max(1, int(np.searchsorted(weights, characters, side="right")))
        yield piece[:count]
        start += min(count, len(piece))


def _take(source: Batches, piece: Index, batches: Index, ends: Index) -> Any:  # pyarrow is untyped
    order = np.argsort(batches, kind="stable")
    ordered = piece[order]
    numbers, begins = np.unique(batches[order], return_index=True)
    parts: list[Any] = []
    for number, places in zip(numbers.tolist(), np.split(ordered, begins[1:]), strict=True):
        first = int(ends[number - 1]) if number else 0
        parts.append(source.take(number, places - first))
    table = pa.Table.from_batches(parts)
    parts.clear()  # each step copies: what it was made of is to go first
    table = table.combine_chunks()
    if (order[1:] > order[:-1]).all():
        return table
    back = np.empty(len(piece), dtype=np.int64)
    back[order] = np.arange(len(piece))
    return table.take(pa.array(back))
