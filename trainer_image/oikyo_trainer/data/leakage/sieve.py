"""Which rows may hold a run of a test side that is too large to be held in memory: two Bloom filters.

Bloom 1970. No row that holds one is missed, and few others are left; these are then looked through for
certain, part after part of the test side. In one filter are the runs of as many words as the shortest
known text has. A longer run is several of those, one after the other, so that a filter which is wrong
about one run in twenty is wrong about few rows. In the other are the beginnings of known texts that are
shorter than a run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..near.shingles import Bytes, Hashes, Words
from ..spool import Index, Mask
from .runs import WITHIN, runs_of

BITS = range(20, 31)
"""Size of a filter, as a power of two: 128 MiB at most."""
PER_RUN = 12
"""Bits for each run: with so many, one run in a hundred that is not in seems to be."""
FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
"""Odd numbers: each makes another place of a hash."""


class Sieve:
    """The runs of `ngram` words, and the shorter texts: about `runs` and at most `texts` of them."""

    def __init__(self, ngram: int, runs: int, texts: int) -> None:
        self._ngram, self._size = ngram, min(ngram, WITHIN)
        self._runs, self._short = _Filter(runs), _Filter(texts)

    def add(self, words: Words) -> None:
        hashes, first = runs_of(words, self._size)
        self._runs.add(hashes)
        text = words.text[first]
        begins = np.ones(len(first), dtype=bool)
        begins[1:] = text[1:] != text[:-1]
        short = np.bincount(words.text, minlength=len(words.row))[text] < self._ngram
        self._short.add(hashes[begins & short])

    def rows(self, words: Words) -> Index:
        """The rows of the table of `words` that may hold a known run."""
        hashes, first = runs_of(words, self._size)
        maybe = _in_a_row(self._runs.has(hashes), first, self._ngram - self._size + 1)
        maybe |= self._short.has(hashes)
        return np.unique(words.row[words.text[first[maybe]]])


class _Filter:
    def __init__(self, count: int) -> None:
        bits = min(max((PER_RUN * max(count, 1)).bit_length(), BITS[0]), BITS[-1])
        self._shift = np.uint64(64 - bits)
        self._octets: Bytes = np.zeros(1 << (bits - 3), dtype=np.uint8)

    def add(self, hashes: Hashes) -> None:
        for octet, bit in self._places(hashes):
            np.bitwise_or.at(self._octets, octet, bit)

    def has(self, hashes: Hashes) -> Mask:
        """Of each whether it may be in."""
        left = np.ones(len(hashes), dtype=bool)
        for octet, bit in self._places(hashes):
            left &= (self._octets[octet] & bit) != 0
        return left

    def _places(self, hashes: Hashes) -> Iterator[tuple[Index, Bytes]]:
        for factor in FACTORS:
            at = (hashes * np.uint64(factor)) >> self._shift
            bit = np.uint8(1) << (at & np.uint64(7)).astype(np.uint8)
            yield (at >> np.uint64(3)).astype(np.int64), bit


def _in_a_row(held: Mask, first: Index, count: int) -> Mask:
    """Of the runs that begin at the words `first`, those that are `held` with the `count` - 1 after them."""
    found = np.zeros(len(held), dtype=bool)
    last = len(held) - count + 1
    if last > 0:
        sums = np.concatenate([[0], np.cumsum(held)])
        beside = first[count - 1 :] - first[:last] == count - 1
        found[:last] = beside & (sums[count:] - sums[:last] == count)
    return found
