"""Runs of words as hashes: a set of those that must not be learned, and where they stand in other texts.

A run of n words is a polynomial over the hashes of its words modulo 2^64, built from runs of powers of
two. Only the hashes of what must not be learned are held: sixteen bytes a word. Two different runs have
the same hash once in 2^64 pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..near.shingles import Hashes, Words, mix
from ..spool import Index

WITHIN = 8
"""Words of the shortest text that is looked for inside others (the least that the GPT-3 paper,
appendix C, calls no chance)."""
FEW, SHARE = 20, 0.05
"""Words that stand in more items than both allow, or in more than half of all and two, are a template:
half a run of them makes no leak."""
FILTER_BITS = range(16, 27)
"""Size of the table of one byte that spares most runs the search, as a power of two."""
WANTED_BITS = 22
"""Size of the tables of Wanted, likewise."""
NONE, NO_ITEM = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int32)
_BASE = 0xD6E8FEB86659FD93
_WANTED = np.uint64(64 - WANTED_BITS)


class Hits(NamedTuple):
    """Where known runs stand in some words."""

    first: Index
    """The word that the run begins with."""
    size: Index
    items: Index
    """The first item that holds the run."""


class Wanted:
    """Runs of `ngram` words that are looked for alone, and their halves."""

    def __init__(self, ngram: int) -> None:
        self._ngram, self._half = ngram, (ngram + 1) // 2
        self.runs, self.halves = (np.zeros(1 << WANTED_BITS, dtype=bool) for _ in range(2))

    def read(self, words: Words) -> tuple[Hashes, Hashes]:
        """The runs and the halves in the texts of `words`."""
        return runs_of(words, self._ngram)[0], runs_of(words, self._half)[0]

    def add(self, runs: Hashes, halves: Hashes) -> None:
        """Take in what `read` has made of some texts."""
        self.runs[runs >> _WANTED] = True
        self.halves[halves >> _WANTED] = True


class _Part(NamedTuple):
    """Some known runs of one size."""

    hashes: Hashes
    owner: npt.NDArray[np.int32]
    """The item of each."""
    head: Hashes
    """The first half of each run of `ngram` words; of a whole text all of it: it may be a stock answer."""
    tail: Hashes
    """Its last half."""
    halves: Hashes
    """Halves of other runs that count for what is a template."""
    held: npt.NDArray[np.int32]
    """The item of each of them."""

    def of(self, wanted: Wanted) -> _Part:
        """The runs that are wanted, and the wanted halves of all others."""
        own = wanted.runs[self.hashes >> _WANTED]
        halves, held = [], []
        for half in (self.head, self.tail):
            place = np.flatnonzero(wanted.halves[half >> _WANTED] & ~own)
            halves.append(half[place])
            held.append(self.owner[place])
        hashes, owner, head, tail = (column[own] for column in self[:4])
        return _Part(hashes, owner, head, tail, np.concatenate(halves), np.concatenate(held))

    def own(self, most: int) -> npt.NDArray[np.bool_]:
        """Which runs have neither half in more than `most` items."""
        bits = np.uint64(
            max(int(self.owner.max(initial=1)), int(self.held.max(initial=1))).bit_length()
        )
        # One sort of numbers, the hash above the item; two hashes are one in 2^40 pairs at the worst.
        pairs = ((self.head, self.owner), (self.tail, self.owner), (self.halves, self.held))
        every = np.concatenate(
            [half >> bits << bits | item.astype(np.uint64) for half, item in pairs]
        )
        every.sort()
        hashes = every[first_of_equal(every)] >> bits
        begins = np.flatnonzero(first_of_equal(hashes))
        template = hashes[begins][np.diff(begins, append=len(hashes)) > most]
        if not len(template):
            return np.ones(len(self.head), dtype=bool)
        return ~np.isin(self.head >> bits, template) & ~np.isin(self.tail >> bits, template)


class Known:
    """Runs that must not be learned: of `ngram` words, and whole texts that are shorter.

    With `wanted` runs of `ngram` words are held that are among those, and few others.
    """

    def __init__(self, ngram: int, shortest: int, wanted: Wanted | None = None) -> None:
        self._ngram, self._wanted = ngram, wanted
        self.shortest = min(shortest, ngram)
        """Words of the shortest text that counts."""
        self._parts: dict[int, list[_Part]] = {}
        self._sets: dict[int, _Set] = {}

    def __len__(self) -> int:
        return sum(len(found.hashes) for found in self._sets.values())

    def add(self, words: Words, items: Index) -> None:
        """Take in the texts of `words`; `items` is the item of each row of their table."""
        self.take(self.read(words, items))

    def read(self, words: Words, items: Index) -> list[tuple[int, _Part]]:
        """What is known of the texts of `words`, by the size of its runs; changes nothing."""
        counts = words.counts
        sizes = np.unique(counts[(counts >= self.shortest) & (counts < self._ngram)]).tolist()
        parts = []
        for size in (*sizes, self._ngram):
            hashes, first = runs_of(words, size)
            if size < self._ngram:
                hashes, first = _whole(words, size, hashes, first)
            if not len(first):
                continue
            owner = items[words.row[words.text[first]]].astype(np.int32)
            part = _Part(hashes, owner, hashes, hashes, NONE, NO_ITEM)
            parts.append(
                (size, self._with_halves(words, first, part) if size == self._ngram else part)
            )
        return parts

    def _with_halves(self, words: Words, first: Index, part: _Part) -> _Part:
        half = (self._ngram + 1) // 2
        hashes, starts = runs_of(words, half)
        at = np.zeros(len(words.hashes), dtype=np.uint64)
        at[starts] = hashes
        part = part._replace(head=at[first], tail=at[first + self._ngram - half])
        return part if self._wanted is None else part.of(self._wanted)

    def take(self, parts: Sequence[tuple[int, _Part]]) -> None:
        """Take in what `read` has made of some texts."""
        for size, part in parts:
            self._parts.setdefault(size, []).append(part)

    def close(self, items: int) -> None:
        """End the adding; `items` were added. Templates are left out."""
        most = min(max(FEW, int(SHARE * items)), max(2, items // 2))
        for size, parts in self._parts.items():
            part = _Part(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            own = part.own(most)
            self._sets[size] = _Set.of(part.hashes[own], part.owner[own])
        self._parts.clear()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Words of the runs that are known."""
        return tuple(self._sets)

    def within(self, size: int) -> bool:
        """Whether runs of `size` words count inside a longer text."""
        return size >= WITHIN or size == self._ngram

    def hits(self, size: int, hashes: Hashes, first: Index) -> Hits | None:
        """Of these runs of `size` words the known ones; None: there is none."""
        known = self._sets[size]
        place, found = known.find(hashes)
        if not len(place):
            return None
        return Hits(first[place], np.full(len(place), size), known.items[found])


def find(known: Sequence[Known], words: Words) -> list[list[Hits]]:
    """What each of `known` has in `words`, one size after another; a size is hashed once for all of them."""
    found: list[list[Hits]] = [[] for _ in known]
    for size in sorted({size for one in known for size in one.sizes}):
        runs = runs_of(words, size)
        for own, one in zip(found, known, strict=True):
            if size not in one.sizes:
                continue
            given = runs
            if not one.within(size):
                given = _whole(words, size, *runs)
            hits = one.hits(size, *given)
            own += [] if hits is None else [hits]
    return found


class _Set(NamedTuple):
    """Hashes of runs of one size, sorted, each with the first item that holds it."""

    hashes: Hashes
    items: Index
    table: npt.NDArray[np.bool_]
    shift: np.uint64

    @classmethod
    def of(cls, hashes: Hashes, owner: npt.NDArray[np.int32]) -> _Set:
        order = np.argsort(hashes)
        hashes, owner = hashes[order], owner[order]
        begins = np.flatnonzero(first_of_equal(hashes))
        hashes = hashes[begins]
        owner = np.minimum.reduceat(owner, begins) if len(begins) else owner
        bits = min(max(len(hashes).bit_length() + 3, FILTER_BITS[0]), FILTER_BITS[-1])
        shift = np.uint64(64 - bits)
        table = np.zeros(1 << bits, dtype=bool)
        table[hashes >> shift] = True
        return cls(hashes, owner.astype(np.int64), table, shift)

    def find(self, hashes: Hashes) -> tuple[Index, Index]:
        """Which of `hashes` are in the set, and where in it."""
        place = np.flatnonzero(self.table[hashes >> self.shift])
        if not len(place):
            return place, place
        at = np.minimum(np.searchsorted(self.hashes, hashes[place]), len(self.hashes) - 1)
        same = self.hashes[at] == hashes[place]
        return place[same], at[same]


def first_of_equal(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Of sorted values, which are not the one before."""
    new = np.ones(len(values), dtype=bool)
    new[1:] = values[1:] != values[:-1]
    return new


def runs_of(words: Words, size: int) -> tuple[Hashes, Index]:
    """The hash of every run of `size` words within a text, and its first word."""
    sums = sums_of(words, size)
    inside = np.ones(len(sums), dtype=bool)
    # No run begins with the last words of a text.
    last = (words.ends[:, None] - np.arange(1, size)).ravel()
    inside[last[(last >= 0) & (last < len(sums))]] = False
    first = np.flatnonzero(inside)
    return mix(sums[first]), first


def sums_of(words: Words, size: int) -> Hashes:
    """What the hash of the run of `size` words from each word on is mixed of, also across texts."""
    count = max(0, len(words.hashes) - size + 1)
    power, length, width = words.hashes, 1, 0
    total = np.zeros(count, dtype=np.uint64)
    while width < size and count:
        if size & length:
            part = power[width : width + count]
            factor = np.uint64(pow(_BASE, length, 2**64))
            total = part.copy() if not width else total * factor + part
            width += length
        if width < size:
            factor = np.uint64(pow(_BASE, length, 2**64))
            power = power[:-length] * factor + power[length:]
            length *= 2
    return total


def _whole(words: Words, size: int, hashes: Hashes, first: Index) -> tuple[Hashes, Index]:
    """Of these runs those that are a text of exactly `size` words."""
    whole = words.counts[words.text[first]] == size
    return hashes[whole], first[whole]
