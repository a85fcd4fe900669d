"""Which rows may hold a run of a test side that is too large to be held in memory: a Bloom filter.

Bloom 1970. No row that holds one is missed, and few others are left; these are then looked through for
certain, part after part of the test side. Each known run, and each known whole text, begins with a run of
as many words as the shortest has: those are what is in the filter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..near.shingles import Bytes, Hashes, Words
from ..spool import Index
from .runs import WITHIN, runs_of

BITS = range(20, 32)
"""Size of the filter, as a power of two: 256 MiB at most."""
PER_RUN = 12
"""Bits for each run: with so many, one run in a hundred that is not in seems to be."""
FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
"""Odd numbers: each makes another place of a hash."""


class Sieve:
    """The runs with which those of `ngram` words, and shorter texts, begin; about `count` of them."""

    def __init__(self, ngram: int, count: int) -> None:
        bits = min(max((PER_RUN * max(count, 1)).bit_length(), BITS[0]), BITS[-1])
        self._size = min(ngram, WITHIN)
        self._shift = np.uint64(64 - bits)
        self._octets: Bytes = np.zeros(1 << (bits - 3), dtype=np.uint8)

    def add(self, words: Words) -> None:
        hashes, _ = runs_of(words, self._size)
        for octet, bit in self._places(hashes):
            np.bitwise_or.at(self._octets, octet, bit)

    def rows(self, words: Words) -> Index:
        """The rows of the table of `words` that may hold a known run."""
        hashes, first = runs_of(words, self._size)
        left = np.ones(len(hashes), dtype=bool)
        for octet, bit in self._places(hashes):
            left &= (self._octets[octet] & bit) != 0
        return np.unique(words.row[words.text[first[left]]])

    def _places(self, hashes: Hashes) -> Iterator[tuple[Index, Bytes]]:
        for factor in FACTORS:
            at = (hashes * np.uint64(factor)) >> self._shift
            bit = np.uint8(1) << (at & np.uint64(7)).astype(np.uint8)
            yield (at >> np.uint64(3)).astype(np.int64), bit
