"""Rows that stand more than once, rows that leak into the test set, inputs with several answers.

All of it on arrays of hashes; the texts are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .spool import Index, Mask, Rows, slices


@dataclass(frozen=True)
class Kept:
    """Which rows stay, and why the others go."""

    mask: Mask
    duplicate: Mask
    leaked: Mask
    groups: Index
    """Number of the input of each row: rows of one group share their input."""
    questions: Index
    """Number of the question of each row: the groups, but for preferences, where it is the prompt
    with the answers."""
    conflicts: Index
    """Rows that stay although another one has the same question and another answer."""
    families: Index
    """Number of the family of each row: rows of one family share their side of the split."""
    contaminated: Mask
    """Rows that go because they hold an item of a benchmark."""


def dedup(rows: Rows, given_test: Mask) -> Kept:
    """Keep one row of each; drop training rows whose input stands in the given test set."""
    groups = group(rows.inputs, rows.room(len(rows)))
    duplicate = _duplicates(rows, given_test)
    in_test = np.zeros(len(rows) + 1, dtype=bool)
    in_test[groups[given_test]] = True
    leaked = ~given_test & ~duplicate & in_test[groups]
    mask = ~duplicate & ~leaked
    own = rows.questions is rows.inputs
    questions = groups if own else group(rows.questions, rows.room(len(rows)))
    conflicts = in_conflict(mask, questions)
    none = np.zeros(len(rows), dtype=bool)
    return Kept(
        mask, duplicate, leaked, groups, questions, conflicts, families=groups, contaminated=none
    )


def without(kept: Kept, *, leaked: Mask, contaminated: Mask | None = None) -> Kept:
    """`kept` less the rows of these masks, which hold those that have gone before."""
    held = kept.contaminated if contaminated is None else contaminated
    mask = kept.mask & ~leaked & ~held
    conflicts = in_conflict(mask, kept.questions)
    return replace(kept, mask=mask, leaked=leaked, contaminated=held, conflicts=conflicts)


def in_conflict(mask: Mask, questions: Index) -> Index:
    """Rows of `mask` that share their question with another one of it."""
    return np.flatnonzero(mask & several(mask, questions)[questions])


def several(mask: Mask, numbers: Index) -> Mask:
    """Of each number whether more than one row of `mask` has it."""
    once = np.zeros(len(mask) + 1, dtype=bool)
    twice = np.zeros(len(mask) + 1, dtype=bool)
    for part in slices(len(mask)):
        found, counts = np.unique(numbers[part][mask[part]], return_counts=True)
        twice[found[(counts > 1) | once[found]]] = True
        once[found] = True
    return twice


def group(keys: npt.NDArray[np.uint64], into: Index | None = None) -> Index:
    """Number equal keys alike, from 0 in the order of the keys; `into` is the room for the numbers."""
    order = in_order_of(keys)
    numbers = np.empty(len(keys), dtype=np.int64) if into is None else into
    last = -1
    for part in slices(len(keys)):
        own = np.cumsum(~_as_before(keys, order, part))
        numbers[order[part]] = own + last
        last += int(own[-1])
    return numbers


def in_order_of(keys: npt.NDArray[np.uint64]) -> Index:
    """The rows in the order of their keys; equal ones in their own.

    What is sorted is the beginning of the key with the row in its lowest bits: one array, in place. Keys
    are hashes, so few begin alike; those are put in order one after the other.
    """
    bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    own = np.uint64((1 << int(bits)) - 1)
    packed = np.empty(len(keys), dtype=np.uint64)
    for part in slices(len(keys)):
        packed[part] = keys[part, 0] & ~own
        packed[part] |= np.arange(part.start, part.stop, dtype=np.uint64)
    packed.sort()
    tied = np.zeros(len(keys) + 1, dtype=bool)
    for part in slices(len(keys)):
        begin = packed[max(part.start - 1, 0) : part.stop] >> bits
        tied[max(part.start, 1) : part.stop] = begin[1:] == begin[:-1]
    packed &= own
    order = packed.view(np.int64)
    for part in slices(len(keys)):
        wrong = np.flatnonzero(tied[part] & ~_as_before(keys, order, part)) + part.start
        end = 0
        for place in wrong.tolist():
            if place >= end:
                start, end = _run(tied, place)
                rows = np.sort(order[start:end])
                order[start:end] = rows[np.lexsort((keys[rows, 1], keys[rows, 0]))]
    return order


def _run(tied: Mask, place: int) -> tuple[int, int]:
    """Of the places around `place` that are tied to the one before, and that one: the first, the end."""
    start, end = place, place
    while tied[start]:
        start -= 1
    while tied[end]:
        end += 1
    return start, end


def _as_before(keys: npt.NDArray[np.uint64], order: Index, part: slice) -> Mask:
    """Of the places `part` of `order` whether the key is that of the place before."""
    ordered = keys[order[max(part.start - 1, 0) : part.stop]]
    same = np.zeros(part.stop - part.start, dtype=bool)
    same[int(not part.start) :] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return same


def repeated(keys: npt.NDArray[np.uint64]) -> tuple[Index, Index]:
    """The rows whose key stands more than once, and for each the number of its key among those."""
    order = in_order_of(keys)
    same = np.zeros(len(keys) + 1, dtype=bool)
    for part in slices(len(keys)):
        same[part] = _as_before(keys, order, part)
    found = np.flatnonzero(same[:-1] | same[1:])
    return order[found], np.cumsum(~same[found]) - 1


def _duplicates(rows: Rows, given_test: Mask) -> Mask:
    """All but one of each row, within the test set and within the rest.

    Rows that differ in whitespace alone are the same; the one with the least exact hash stays, so
    that the order of the sources does not decide which. Among exactly equal rows the first stays.
    """
    found, groups = repeated(rows.rows)
    head = rows.exact[found].view(">u8").reshape(-1, 4)[:, 0]
    test = given_test[found]
    order = np.lexsort((head, groups, test))  # stable
    found, groups, test = found[order], groups[order], test[order]
    again = np.zeros(len(rows), dtype=bool)
    again[found[1:]] = (groups[1:] == groups[:-1]) & (test[1:] == test[:-1])
    return again
