"""Rows that may hold a run of the test or validation side, told while the search for near-duplicates reads them.

The sides are known only after that search. But which rows may come to a side that judges is known before
it, most often, and they are few: all rows are looked at on their way, and read again only where they may
hold a run. examine.py opens the watch, near.bands shows it the rows, quoted.py asks it.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from oikyo.api.stages import PrepareSpec

from ..dedup import Kept, in_order_of
from ..near.shingles import Words
from ..split import TEST, TRAIN, by_hash
from ..spool import Index, Mask, Rows, Spool
from .runs import sums_of
from .sieve import sieve_of

MOST = 48 << 20
"""Characters of a side that is watched for: its sieve, of 16 MiB, is in memory beside the search."""


class Seen:
    """The rows that may hold a run of some other rows, `known`; a row that was not shown may."""

    def __init__(self, ngram: int, spool: Spool, rows: Rows, known: Index) -> None:
        self.sieve = sieve_of(ngram, spool, rows, known)
        self.left = np.ones(len(rows), dtype=bool)
        self._known = np.zeros(len(rows), dtype=bool)
        self._known[known] = True

    def of(self, side: Index) -> Mask | None:
        """Which rows may hold a run of the rows `side`; None where others than `known` are among them."""
        return self.left if self._known[side].all() else None


class Watch:
    """What was seen of rows that went by."""

    def __init__(self, test: Seen, validation: Seen) -> None:
        self.test, self.validation = test, validation

    def see(self, rows: Index, words: Words) -> tuple[Index, Index, Index]:
        """The rows `rows`, and which of them may hold a run of either side."""
        sums = sums_of(words, self.test.sieve.size)
        test, validation = (seen.sieve.rows(words, sums) for seen in (self.test, self.validation))
        return rows, rows[test], rows[validation]

    def take(self, seen: tuple[Index, Index, Index]) -> None:
        """Take in what was seen, of each row once."""
        rows, *maybe = seen
        for side, held in zip((self.test, self.validation), maybe, strict=True):
            side.left[rows] = False
            side.left[held] = True


def open_watch(
    spec: PrepareSpec, spool: Spool, rows: Rows, kept: Kept, given_test: Mask, most: int | None
) -> Watch | None:
    """A watch for the rows that may come to the sides that judge; None where it would spare no reading.

    Of the validation side `most` characters are to be looked for, those of the least ids; None: all.
    """
    if spec.leakage.action == "Ignore" or spec.contamination:  # benchmarks have all rows read
        return None
    if spec.split.stratify or rows.members is not None:
        return None
    of_test, of_validation = _shares(spec, given_test)
    sides = _may_be(rows, given_test, of_test, of_validation)
    test, held = (np.flatnonzero(kept.mask & may) for may in sides)
    if most is not None and of_validation:
        # Some of them will have gone, others come to the test side.
        held = sample(rows, held, int(2 * most * (1 + of_test / of_validation)))
    if any(rows.lengths[side].sum(dtype=np.int64) > MOST for side in (test, held)):
        return None
    ngram = spec.leakage.ngram
    return Watch(Seen(ngram, spool, rows, test), Seen(ngram, spool, rows, held))


def _shares(spec: PrepareSpec, given_test: Mask) -> tuple[Decimal, Decimal]:
    """Of the rows that are not of a given test set, those that come to each side that judges."""
    test = Decimal(0) if given_test.any() else Decimal(spec.split.test)
    return test, Decimal(spec.split.validation)


def _may_be(rows: Rows, given_test: Mask, test: Decimal, validation: Decimal) -> tuple[Mask, Mask]:
    """The rows that may come to the test side and to the validation side, before families are known.

    A row is placed by the greatest u of its family, which is not below its own: one whose own u is not
    below the shares of these sides comes to neither.
    """
    sides = by_hash(rows.inputs[:, 0], test, validation)
    return given_test | (sides == TEST), (sides != TRAIN) & ~given_test


def sample(rows: Rows, side: Index, most: int) -> Index:
    """Rows of `side` with so many characters: those with the least ids."""
    order = side[in_order_of(rows.rows[side])]
    inside = np.cumsum(rows.lengths[order], dtype=np.int64) <= most
    return np.sort(order[inside])
