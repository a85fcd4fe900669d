"""Rows of different lengths as one flat array: what is done to all of them is done at once.

Pure numpy. Tokens of many rows, of which each has a beginning that is compared, and places that are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Marks = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows of tokens, one after the other."""

    flat: Ids
    ends: Places
    """Where each row ends in `flat`."""

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        parts = [np.asarray(row, dtype=np.int32) for row in rows]
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        return cls(flat, np.cumsum([len(part) for part in parts], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> Ids:
        return self.flat[self.starts[row] : self.ends[row]]

    def __iter__(self) -> Any:  # of rows
        return iter(np.split(self.flat, self.ends[:-1]) if len(self) else ())

    @property
    def starts(self) -> Places:
        return np.concatenate([[0], self.ends[:-1]]) if len(self) else self.ends

    @property
    def lengths(self) -> Places:
        return np.diff(self.ends, prepend=0)

    def first(self, none: int = -1) -> Ids:
        """The first token of each row, `none` of a row without any."""
        found = np.full(len(self), none, dtype=np.int32)
        there = self.lengths > 0
        found[there] = self.flat[self.starts[there]]
        return found

    def last(self, none: int = -1) -> Ids:
        """The last token of each row, `none` of a row without any."""
        found = np.full(len(self), none, dtype=np.int32)
        there = self.lengths > 0
        found[there] = self.flat[self.ends[there] - 1]
        return found

    def take(self, rows: Places) -> Ragged:
        """These rows in this order."""
        return Ragged(self.flat[spread(self.starts[rows], self.lengths[rows])],
                      np.cumsum(self.lengths[rows]))  # fmt: skip

    def around(self, before: Sequence[int], behind: Sequence[int]) -> Ragged:
        """Every row with the same tokens before and behind it."""
        if not before and not behind:
            return self
        more = len(before) + len(behind)
        ends = self.ends + more * np.arange(1, len(self) + 1)
        flat = np.empty(len(self.flat) + more * len(self), dtype=np.int32)
        starts = ends - self.lengths - more
        flat[spread(starts + len(before), self.lengths)] = self.flat
        for place, token in enumerate(before):
            flat[starts + place] = token
        for place, token in enumerate(behind):
            flat[ends - len(behind) + place] = token
        return Ragged(flat, ends)

    def append(self, token: int, rows: Marks) -> Ragged:
        """`token` behind each of `rows`."""
        if not rows.any():
            return self
        ends = self.ends + np.cumsum(rows)
        flat = np.full(len(self.flat) + int(rows.sum()), token, dtype=np.int32)
        flat[spread(ends - rows - self.lengths, self.lengths)] = self.flat
        return Ragged(flat, ends)

    def select(self, chosen: Marks) -> Ragged:
        """The tokens that are `chosen`, of all rows."""
        if chosen.all():
            return self
        return Ragged(self.flat[chosen], count_before(chosen)[self.ends])

    def owners(self) -> Places:
        """The row of each token."""
        return np.repeat(np.arange(len(self)), self.lengths)


def joined(parts: Sequence[Ragged]) -> Ragged:
    """The rows of all `parts`."""
    if len(parts) == 1:
        return parts[0]
    moved = np.cumsum([0, *(len(part.flat) for part in parts[:-1])])
    ends = [part.ends + by for part, by in zip(parts, moved.tolist(), strict=True)]
    return Ragged(np.concatenate([part.flat for part in parts]), np.concatenate(ends))


def spread(starts: Places, lengths: Places) -> Places:
    """starts[0], starts[0] + 1, ... for lengths[0] places, then those of the next."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    return np.arange(total) + np.repeat(starts - before, lengths)


def count_before(chosen: Marks) -> Places:
    """How many are chosen before each place, and in all."""
    return np.concatenate([[0], np.cumsum(chosen)])


def common_prefix(left: Ragged, right: Ragged) -> Places:
    """Number of leading tokens that each two rows have in common."""
    shorter = np.minimum(left.lengths, right.lengths)
    one = left.flat[spread(left.starts, shorter)]
    other = right.flat[spread(right.starts, shorter)]
    differ = np.flatnonzero(one != other)
    found = shorter.copy()
    before = np.cumsum(shorter) - shorter
    rows = np.searchsorted(before + shorter, differ, side="right")
    # Of several the first counts: written last.
    found[rows[::-1]] = (differ - before[rows])[::-1]
    return found


def marked(rows: Ragged, owner: Places, begins: Places, ends: Places) -> Marks:
    """Which tokens lie in a span: of row owner[n] from begins[n] to before ends[n]."""
    steps = np.zeros(len(rows.flat) + 1, dtype=np.int32)
    starts = rows.starts[owner]
    np.add.at(steps, starts + begins, 1)
    np.add.at(steps, starts + np.maximum(begins, ends), -1)
    return np.cumsum(steps[:-1], dtype=np.int32) > 0
