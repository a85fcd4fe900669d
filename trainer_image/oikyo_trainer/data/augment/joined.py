"""Two spools read as one: the rows of the sources, then those that were made."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..spool import Index, Rows, Spool


class Joined(Spool):
    """Rows from `len(first)` on are those of `second`. Both are closed: nothing is added any more."""

    def __init__(self, first: Spool, second: Spool) -> None:
        self.shape, self.schema = first.shape, first.schema
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def fetch(self, piece: Index) -> Any:  # pyarrow is untyped
        """As Spool.fetch."""
        count = len(self._first)
        own = piece < count
        both = ((self._first, piece[own]), (self._second, piece[~own] - count))
        parts = [spool.fetch(part) for spool, part in both if len(part)]
        order = np.concatenate([np.flatnonzero(own), np.flatnonzero(~own)])
        back = np.empty(len(piece), dtype=np.int64)
        back[order] = np.arange(len(piece))
        return pa.concat_tables(parts).combine_chunks().take(pa.array(back))


def joined(rows: Rows, made: Rows, sources: Index, methods: npt.NDArray[np.int8]) -> Rows:
    """The numbers of both; a made row has the file and line of the row it was made of."""
    own = rows.questions is rows.inputs
    return Rows(
        inputs=np.concatenate([rows.inputs, made.inputs]),
        rows=np.concatenate([rows.rows, made.rows]),
        exact=np.concatenate([rows.exact, made.exact]),
        questions=None if own else np.concatenate([rows.questions, made.questions]),
        members=None
        if rows.members is None
        else np.concatenate([rows.members, rows.members[sources]]),
        files=np.concatenate([rows.files, rows.files[sources]]),
        lines=np.concatenate([rows.lines, rows.lines[sources]]),
        lengths=np.concatenate([rows.lengths, made.lengths]),
        label_codes=np.concatenate([rows.label_codes, rows.label_codes[sources]])
        if rows.labels
        else rows.label_codes,
        labels=rows.labels,
        numbers=None
        if rows.numbers is None
        else np.concatenate([rows.numbers, rows.numbers[sources]]),
        synthetic=np.concatenate([np.zeros(len(rows), np.int8), methods + np.int8(1)]),
    )
