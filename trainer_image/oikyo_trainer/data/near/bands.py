"""MinHash bands on disk, and the pairs of rows that share one (locality-sensitive hashing).

Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4: two rows of
similarity s share one of b bands of r minima with the probability 1 - (1 - s^r)^b.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..spool import Index, Rows, Spool, slices
from .shingles import Hashes, Words, mix, of_rows, shingles


class Look(Protocol):
    """One who would read the same texts again."""

    def see(self, rows: Index, words: Words) -> Any:
        """What the words of the rows `rows` show; in any process."""

    def take(self, seen: Any) -> None:
        """Take in what `see` has made."""


MOST_BANDS = 32
"""Eight bytes of a row on disk for each: at most 256."""
MOST_MINIMA = 96
"""Of all bands together: each costs a multiplication of every shingle."""
MISSED = 0.004
"""Largest share of pairs at exactly the similarity that may share no band."""
LAGS = 3
"""A row is compared with so many that come before it in a bucket, and with the first of it."""


@dataclass(frozen=True)
class Banding:
    """How many bands of how many minima."""

    bands: int
    width: int


def banding(similarity: float) -> Banding:
    """The widest bands, hence the fewest pairs in vain, that miss at most MISSED of the pairs."""
    found = Banding(MOST_BANDS, 1)
    for width in range(1, 33):
        bands = next(
            (b for b in range(1, MOST_BANDS + 1) if (1 - similarity**width) ** b <= MISSED), 0
        )
        if bands and bands * width <= MOST_MINIMA:
            found = Banding(bands, width)
    return found


def write(
    path: Path, spool: Spool, rows: Rows, nodes: Index, form: Banding, look: Look | None = None
) -> npt.NDArray[np.uint64]:
    """The band hashes of the rows `nodes`, (bands, nodes), mapped from `path`; 0: no word.

    `look` is shown every row of `nodes` once.
    """
    shape = (form.bands, len(nodes))
    with path.open("wb") as file:
        # A hole in a mapped file would end the process by a signal once the volume is full.
        os.posix_fallocate(file.fileno(), 0, 8 * shape[0] * shape[1])
    mapped = np.memmap(path, dtype=np.uint64, mode="r+", shape=shape)
    factors = _factors(form)
    place, wanted = rows.room(len(rows)), np.zeros(len(rows), dtype=bool)
    for part in slices(len(nodes)):
        place[nodes[part]] = np.arange(part.start, part.stop)
        wanted[nodes[part]] = True

    def of_slice(part: slice, words: Words) -> tuple[Index, Hashes, Any]:
        seen = None if look is None else look.see(own[part], words)
        found = shingles(words, part.stop - part.start)
        filled = np.flatnonzero(found.counts)
        starts = (np.cumsum(found.counts) - found.counts)[filled]
        return own[part][filled], _bands(found.flat, starts, factors), seen

    for part in slices(len(rows)):  # texts are fetched as they lie, which reads the spool once
        own = np.flatnonzero(wanted[part]) + part.start
        for filled, hashes, seen in of_rows(spool, rows, own, of_slice):
            mapped[:, place[filled]] = hashes
            if look is not None:
                look.take(seen)
    return mapped


def _factors(form: Banding) -> npt.NDArray[np.uint32]:
    draw = np.random.Generator(np.random.PCG64(20260102))
    odd = draw.integers(0, 2**31, (form.bands, form.width), dtype=np.uint32) * np.uint32(2)
    return odd + np.uint32(1)


def _bands(flat: Hashes, starts: Index, factors: npt.NDArray[np.uint32]) -> Hashes:
    short = (flat >> np.uint64(32)).astype(np.uint32)
    scratch = np.empty_like(short)
    least = np.empty((*factors.shape, len(starts)), dtype=np.uint32)
    for place in np.ndindex(factors.shape):
        np.multiply(short, factors[place], out=scratch)
        np.minimum.reduceat(scratch, starts, out=least[place])
    bands = np.zeros((len(factors), len(starts)), dtype=np.uint64)
    for column in range(factors.shape[1]):
        bands *= np.uint64(0x9E3779B97F4A7C15)
        bands = mix(bands + least[:, column] + np.uint64(1))
    return bands | np.uint64(1)  # never 0


def candidates(mapped: Hashes) -> npt.NDArray[np.int64]:
    """(pairs, 2): rows that share a band, the lower first, each pair once; one band in memory."""
    rows = mapped.shape[1]
    codes = np.zeros(0, dtype=np.uint64)
    for band in mapped:
        codes = np.union1d(codes, _of_band(band, rows))
    return np.stack(np.divmod(codes, np.uint64(max(rows, 1))), axis=1).astype(np.int64)


def _of_band(keys: Hashes, rows: int) -> Hashes:
    """Pairs of rows as numbers. What is sorted is the key with the row in its lowest bits.

    Among ten million rows the forty bits that are left bring some fifty rows together by chance.
    """
    bits = np.uint64(max(rows - 1, 1).bit_length())
    own = np.uint64((1 << int(bits)) - 1)
    packed, none = np.empty(rows, dtype=np.uint64), 0
    for part in slices(rows):
        packed[part] = keys[part] & ~own
        packed[part] |= np.arange(part.start, part.stop, dtype=np.uint64)
        packed[part][keys[part] == 0] = 0  # a row without a word; no other row's number is this
        none += int((keys[part] == 0).sum())
    packed.sort()
    packed = packed[none:]
    same = np.zeros(len(packed), dtype=bool)
    for part in slices(len(packed)):
        begin = packed[max(part.start - 1, 0) : part.stop] >> bits
        same[max(part.start, 1) : part.stop] = begin[1:] == begin[:-1]
    place = np.flatnonzero(same)
    begins = np.ones(len(place), dtype=bool)
    begins[1:] = place[1:] != place[:-1] + 1
    first = np.maximum.accumulate(np.where(begins, place - 1, 0))
    found = []
    for lag in (*range(1, LAGS + 1), None):
        other = first if lag is None else place - lag
        inside = other >= first
        low, high = packed[other[inside]] & own, packed[place[inside]] & own
        found.append(low * np.uint64(rows) + high)
    return np.unique(np.concatenate(found))
