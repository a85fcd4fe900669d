"""The true Jaccard similarity of pairs of rows, on the sets of their shingles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..spool import Index, Rows, Spool
from .shingles import Hashes, Shingles, Words, of_rows, shingles

PAIRS = 4096
"""Pairs whose shingles are in memory at once, unless their texts are long."""
BITS = np.uint64(48)
"""What is compared of a hash: above them is room for the number of a pair, or of a row of a piece, so
that one sort of numbers brings equal ones of one pair together."""
CHARACTERS = 8 << 20


def similarities(
    spool: Spool, rows: Rows, nodes: Index, pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Of each pair of `nodes`, which are rows, in [0, 1]."""
    found = np.zeros(len(pairs))
    weights = np.cumsum(rows.lengths[nodes[pairs]].sum(axis=1, dtype=np.int64))
    low = 0
    while low < len(pairs):
        spent = weights[low - 1] if low else 0
        high = int(np.searchsorted(weights, spent + CHARACTERS, side="right"))
        high = min(max(high, low + 1), low + PAIRS, len(pairs))
        found[low:high] = _piece(spool, rows, nodes, pairs[low:high])
        low = high
    return found


def _piece(
    spool: Spool, rows: Rows, nodes: Index, pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    needed, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(pairs.shape)
    flat, starts = _sets(spool, rows, nodes[needed])
    sizes = np.diff(starts)
    one, two = place[:, 0], place[:, 1]
    keys = np.concatenate([_keys(flat, starts, one), _keys(flat, starts, two)])
    keys.sort()
    shared = _counts(keys[1:][keys[1:] == keys[:-1]], len(pairs))
    return np.asarray(shared / (sizes[one] + sizes[two] - shared))


def _sets(spool: Spool, rows: Rows, wanted: Index) -> tuple[Hashes, Index]:
    """The shingles of each row, each once: (all of them, where those of a row begin and the end)."""
    sets = list(of_rows(spool, rows, wanted, _each_once))
    starts = np.concatenate([[0], np.cumsum(np.concatenate([found.counts for found in sets]))])
    return np.concatenate([found.flat for found in sets]), starts


def _each_once(places: slice, words: Words) -> Shingles:
    found = shingles(words, places.stop - places.start)
    owner = np.repeat(np.arange(len(found.counts), dtype=np.uint64), found.counts)
    keys = (owner << BITS) | (found.flat >> (np.uint64(64) - BITS))
    keys.sort()
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[1:] != keys[:-1]
    keys = keys[new]
    return Shingles(
        keys & ((np.uint64(1) << BITS) - np.uint64(1)), _counts(keys, len(found.counts))
    )


def _counts(keys: Hashes, count: int) -> Index:
    """How many of `keys` have each number from 0 to `count` above their hash."""
    return np.bincount((keys >> BITS).astype(np.int64), minlength=count)


def _keys(flat: Hashes, starts: Index, which: Index) -> Hashes:
    """The shingles of the sets `which`, one after another, each below its place in `which`."""
    sizes = np.diff(starts)[which]
    pair = np.repeat(np.arange(len(which)), sizes)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return flat[starts[which][pair] + inside] | (pair.astype(np.uint64) << BITS)
