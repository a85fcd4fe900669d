"""Rows to learn that hold a long run of words of another side of the split.

Memory: the hashes of that side, HELD characters of it at one time. A side that has more is looked for
part by part, among the rows that its sieve leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..findings import FIRST
from ..near.shingles import of_rows, words_of
from ..split import TEST, TRAIN, VALIDATION, Sides
from ..spool import Index, Mask, Rows, Spool, cut
from ..threads import in_order
from .runs import WITHIN, Known, Wanted
from .search import LETTERS, Found, search
from .sieve import sieve_of
from .watch import Watch, sample

HELD = 16 << 20
"""Characters of a side whose runs are in memory at one time: some ten bytes for each."""
FEW = 4 << 20
"""Characters of rows to learn that are few."""
SAMPLE = 8 << 20
"""Characters of the validation side that are looked for where its leaks are only told."""


class Quoted(NamedTuple):
    """What rows to learn hold of the sides that judge them."""

    test: Found
    """In the rows of training and validation."""
    validation: Found
    """In the rows of training."""
    looked_for: Index
    """The validation rows that were looked for: all, or a sample."""


def quoted(
    others: Sequence[Found],
    ngram: int,
    spool: Spool,
    rows: Rows,
    sides: Sides,
    *,
    every: bool,
    watch: Watch | None = None,
) -> Quoted:
    """Search the rows to learn for `others`, for the test side, and for the validation side.

    Of a large validation side a sample is looked for, unless `every` row of it is asked. Rows in which
    `watch` saw no run are not read again; where there are `others`, all are read.
    """
    test, held = (np.flatnonzero(sides == side) for side in (TEST, VALIDATION))
    train = sides == TRAIN
    looked_for = held if every else sample(rows, held, SAMPLE)
    of_test = watch.test.of(test) if watch else None
    of_validation = watch.validation.of(looked_for) if watch else None
    either = None if of_test is None or of_validation is None else of_test | of_validation
    learnt = sides == VALIDATION
    tested = _whole(ngram, spool, rows, test, _of(train | learnt, of_test))
    validated = _whole(ngram, spool, rows, looked_for, _of(train, of_validation))
    search([one for one in (tested, validated, *others) if one], spool, rows, _of(train, either))
    search([one for one in (tested, *others) if one], spool, rows, _of(learnt, of_test))
    if tested is None:
        tested = _by_parts(ngram, spool, rows, test, train | learnt, of_test)
    if validated is None:
        validated = _by_parts(ngram, spool, rows, looked_for, train, of_validation)
    return Quoted(tested, validated, looked_for)


def _of(learnt: Mask, seen: Mask | None) -> Mask:
    return learnt if seen is None else learnt & seen


def _whole(ngram: int, spool: Spool, rows: Rows, side: Index, learnt: Mask) -> Found | None:
    """The runs of `side` that the rows `learnt` may hold, nothing found yet; None: `side` has more than is
    held at one time."""
    if len(list(cut(side, rows.lengths, HELD))) > 1:
        return None
    return Found(known_of(ngram, spool, rows, side, _wanted(ngram, spool, rows, learnt)))


def _wanted(ngram: int, spool: Spool, rows: Rows, learnt: Mask) -> Wanted | None:
    """The runs of the rows `learnt`, where they are few: of a side no others need be held."""
    if rows.lengths[learnt].sum(dtype=np.int64) > FEW:
        return None
    wanted, own = Wanted(ngram), np.flatnonzero(learnt)
    for read in of_rows(spool, rows, own, lambda _, words: wanted.read(words)):
        wanted.add(*read)
    return wanted


def known_of(
    ngram: int, spool: Spool, rows: Rows, side: Index, wanted: Wanted | None = None
) -> Known:
    """The runs of the rows `side`, or those of them that are `wanted`; its items are the rows themselves."""
    known = Known(ngram, WITHIN, wanted)
    long = side[rows.lengths[side] >= LETTERS * WITHIN - 1]
    for part in of_rows(spool, rows, long, lambda places, words: known.read(words, long[places])):
        known.take(part)
    known.close(len(side))
    return known


def _by_parts(
    ngram: int, spool: Spool, rows: Rows, side: Index, learnt: Mask, seen: Mask | None
) -> Found:
    """What the rows `learnt` hold of `side`, one part of it after the other; `seen` may hold a run of it."""
    maybe = _sifted(ngram, spool, rows, side, learnt) if seen is None else learnt & seen
    every = Found(Known(ngram, WITHIN))
    found = []
    for part in cut(side, rows.lengths, HELD):
        wanted = _wanted(ngram, spool, rows, maybe)
        one = Found(known_of(ngram, spool, rows, part, wanted))
        search([one], spool, rows, maybe)
        said = [*one.said, *[""] * (len(one.rows) - len(one.said))]
        found += list(zip(one.rows, one.items, one.sizes, said, strict=True))
        maybe[one.rows] = False
    for number, (row, item, size, words) in enumerate(sorted(found)):
        every.rows.append(row)
        every.items.append(item)
        every.sizes.append(size)
        every.said += [words] if number < FIRST else []
    return every


def _sifted(ngram: int, spool: Spool, rows: Rows, side: Index, learnt: Mask) -> Mask:
    """The rows of `learnt` that may hold a run of `side`."""
    sieve = sieve_of(ngram, spool, rows, side)

    def sift(part: tuple[Index, Any]) -> Index:  # pyarrow is untyped
        piece, table = part
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *(piece[sieve.rows(words)] for words in words_of(table))])

    left = np.zeros(len(rows), dtype=bool)
    for own in in_order(sift, spool.gather(learnt, rows.lengths)):
        left[own] = True
    return left
