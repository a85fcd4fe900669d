"""Which rows may hold a run of a test side that is too large to be held in memory: two Bloom filters.

Bloom 1970. No row that holds one is missed, and few others are left; these are then looked through for
certain, part after part of the test side. In one filter are the runs of as many words as the shortest
known text has. A longer run is several of those, one after the other, so that a filter which is wrong
about one run in twenty is wrong about few rows, and asking it at every so many places is enough. In the
other are the beginnings of known texts that are shorter than a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..near.shingles import Bytes, Hashes, Words, mix, of_rows
from ..spool import Index, Mask, Rows, Spool
from .runs import WITHIN, first_of_equal, runs_of, sums_of

BITS = range(20, 31)
"""Size of a filter, as a power of two: 128 MiB at most."""
PER_RUN, PER_TEXT = 12, 32
"""Bits for each run, at least, and for each beginning: with so many, one run in forty that is not in seems
to be, and one in five thousand seems to be a beginning."""
LETTERS_OF_A_WORD = 6
FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
"""Odd numbers: each makes another place of a hash."""
OF_RUN, OF_TEXT = FACTORS[:2], FACTORS


class Sieve:
    """The runs of `ngram` words, and the shorter texts: about `runs` and at most `texts` of them."""

    def __init__(self, ngram: int, runs: int, texts: int) -> None:
        self._ngram, self.size = ngram, min(ngram, WITHIN)
        self._length = ngram - self.size + 1
        """Runs of `size` words in one of `ngram`."""
        self._runs = _Filter(PER_RUN * runs, OF_RUN)
        self._short = _Filter(PER_TEXT * texts, OF_TEXT)
        self._any_short = False

    def read(self, words: Words) -> tuple[Hashes, Hashes]:
        """What is known once the texts of `words` are: their runs, and beginnings of short ones."""
        hashes, first = runs_of(words, self.size)
        text = words.text[first]
        begins = np.ones(len(first), dtype=bool)
        begins[1:] = text[1:] != text[:-1]
        short = words.counts[text] < self._ngram
        return hashes, hashes[begins & short]

    def add(self, runs: Hashes, beginnings: Hashes) -> None:
        """Take in what `read` has made of some texts."""
        self._runs.add(runs)
        self._short.add(beginnings)
        self._any_short |= bool(len(beginnings))

    def rows(self, words: Words, sums: Hashes | None = None) -> Index:
        """The rows of the table of `words` that may hold a known run.

        `sums` are those of runs of `size` words, where they have been made.
        """
        sums = sums_of(words, self.size) if sums is None else sums
        begins = _in_a_row(self._held(words, sums), self._length)
        if self._any_short:
            begins = np.union1d(begins, self._begun(words, sums))
        rows = words.row[words.text_of(begins)]
        return rows[first_of_equal(rows)]

    def _held(self, words: Words, sums: Hashes) -> Index:
        """The first words of runs that seem to be known, of all that have `length` of them in a row."""
        # One of so many in a row is asked here, and those beside it only where it may be known.
        known = self._runs.has(mix(sums[:: self._length]))
        near = known.copy()
        near[:-1] |= known[1:]
        places = np.flatnonzero(np.repeat(near, self._length)[: len(sums)])
        places = places[words.within_text(places, self.size)]
        return places[self._runs.has(mix(sums[places]))]

    def _begun(self, words: Words, sums: Hashes) -> Index:
        """The first words of runs that seem to begin a known short text."""
        places = np.flatnonzero(self._short.has(mix(sums)))
        places = places[words.within_text(places, self.size)]
        return places[self._runs.has(mix(sums[places]))]


class _Filter:
    def __init__(self, bits: int, factors: Sequence[int]) -> None:
        self._factors = factors
        bits = min(max(bits.bit_length(), BITS[0]), BITS[-1])
        self._shift = np.uint64(64 - bits)
        self._octets: Bytes = np.zeros(1 << (bits - 3), dtype=np.uint8)

    def add(self, hashes: Hashes) -> None:
        for factor in self._factors:
            np.bitwise_or.at(self._octets, *self._places(hashes, factor))

    def has(self, hashes: Hashes) -> Mask:
        """Of each whether it may be in."""
        left = np.arange(len(hashes))
        for factor in self._factors:  # most are out at the first
            octet, bit = self._places(hashes[left] if len(left) < len(hashes) else hashes, factor)
            left = left[(self._octets[octet] & bit) != 0]
        found = np.zeros(len(hashes), dtype=bool)
        found[left] = True
        return found

    def _places(self, hashes: Hashes, factor: int) -> tuple[Index, Bytes]:
        at = (hashes * np.uint64(factor)) >> self._shift
        bit = np.uint8(1) << (at & np.uint64(7)).astype(np.uint8)
        return (at >> np.uint64(3)).astype(np.int64), bit


def sieve_of(ngram: int, spool: Spool, rows: Rows, side: Index) -> Sieve:
    """The sieve of the rows `side`."""
    letters = int(rows.lengths[side].sum(dtype=np.int64))
    sieve = Sieve(ngram, letters // LETTERS_OF_A_WORD, len(side))
    for read in of_rows(spool, rows, side, lambda _, words: sieve.read(words)):
        sieve.add(*read)
    return sieve


def _in_a_row(held: Index, count: int) -> Index:
    """Of the words `held`, in their order, those with the `count` - 1 behind them in it as well."""
    begin, end = held[: max(0, len(held) - count + 1)], held[count - 1 :]
    return begin[end - begin == count - 1]
