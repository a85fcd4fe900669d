"""Rows on their way: written to disk as they are read, fetched again in any order.

Only hashes and numbers stay in memory; the texts wait in an Arrow file that is memory-mapped.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .columns import Shape
from .piece import SCHEMAS, Piece

GATHER_ROWS = 16384
GATHER_CHARACTERS = 64 << 20

Index = npt.NDArray[np.int64]


class Spool:
    """Takes rows piece by piece, then gives numbers as arrays and texts as tables."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.shape = shape
        self.schema = SCHEMAS[shape]
        self._path = path
        self._writer: Any = pa.ipc.new_file(str(path), self.schema)  # Any: pyarrow is untyped
        self._ends = array("q")
        self._input, self._row, self._exact = bytearray(), bytearray(), bytearray()
        self._question, self._marks = bytearray(), bytearray()
        self._files, self._lines, self._lengths = array("i"), array("q"), array("i")
        self._labels = array("i")
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def num_labels(self) -> int:
        return len(self._codes)

    def add(self, piece: Piece, file: int) -> None:
        """Take in the good rows of a piece of the file with this number."""
        if not piece.lines:
            return
        self._input += piece.keys.input
        self._row += piece.keys.row
        self._exact += piece.keys.exact
        self._question += piece.keys.question
        self._marks += piece.marks
        self._files.extend([file] * len(piece.lines))
        self._lines.extend(piece.lines)
        self._lengths.extend(piece.lengths)
        own = [self._codes.setdefault(label, len(self._codes)) for label in piece.labels]
        self._labels.extend([own[code] for code in piece.codes])
        self._writer.write_batch(piece.batch)
        self._ends.append(len(self._lines))

    def close(self) -> None:
        """End the writing; the numbers and texts may be read from here on."""
        self._writer.close()

    def columns(self) -> Rows:
        return Rows(
            inputs=_pairs(self._input),
            rows=_pairs(self._row),
            exact=np.frombuffer(bytes(self._exact), dtype="V32"),
            questions=_pairs(self._question) if self._question else None,
            members=_pairs(self._marks) if self._marks else None,
            files=np.array(self._files, dtype=np.int32),
            lines=np.array(self._lines, dtype=np.int64),
            lengths=np.array(self._lengths, dtype=np.int32),
            label_codes=np.array(self._labels, dtype=np.int32),
            labels=tuple(self._codes),
        )

    def gather(self, wanted: Index, lengths: npt.NDArray[np.int32]) -> Iterator[tuple[Index, Any]]:
        """The rows `wanted`, in that order, as (indices, table) pieces of bounded size."""
        ends = np.array(self._ends, dtype=np.int64)
        with pa.memory_map(str(self._path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for piece in pieces(wanted, lengths):
                batches = np.searchsorted(ends, piece, side="right")
                yield piece, _take(reader, piece, batches, ends)


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
    ) -> None:
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
        """Codes count the labels in the order of their first row; empty for generation."""

    def __len__(self) -> int:
        return len(self.lines)


def _pairs(buffer: bytearray) -> npt.NDArray[np.uint64]:
    return np.frombuffer(bytes(buffer), dtype=">u8").reshape(-1, 2).astype(np.uint64)


def pieces(wanted: Index, lengths: npt.NDArray[np.int32]) -> Iterator[Index]:
    """Cut by rows and by characters: a column of Arrow strings holds at most 2 GiB."""
    start = 0
    while start < len(wanted):
        piece = wanted[start : start + GATHER_ROWS]
        weights = np.cumsum(lengths[piece], dtype=np.int64)
        count = max(1, int(np.searchsorted(weights, GATHER_CHARACTERS, side="right")))
        yield piece[:count]
        start += min(count, len(piece))


def _take(reader: Any, piece: Index, batches: Index, ends: Index) -> Any:  # pyarrow is untyped
    order = np.argsort(batches, kind="stable")
    parts: list[Any] = []
    for number in np.unique(batches):
        first = int(ends[number - 1]) if number else 0
        places: Sequence[int] = piece[order][batches[order] == number] - first
        parts.append(reader.get_batch(int(number)).take(pa.array(places, type=pa.int64())))
    back = np.empty(len(piece), dtype=np.int64)
    back[order] = np.arange(len(piece))
    return pa.Table.from_batches(parts).combine_chunks().take(pa.array(back))
