"""The true Jaccard similarity of pairs of rows, on the sets of their shingles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..spool import Index, Rows, Spool
from .shingles import Hashes, Shingles, mix, of_rows

PAIRS = 4096
"""Pairs whose shingles are in memory at once, unless their texts are long."""
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
    pair = np.concatenate([np.repeat(np.arange(len(pairs)), sizes[side]) for side in (one, two)])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    both = order[1:][keys[1:] == keys[:-1]]
    shared = np.bincount(pair[both], minlength=len(pairs))
    return np.asarray(shared / (sizes[one] + sizes[two] - shared))


def _sets(spool: Spool, rows: Rows, wanted: Index) -> tuple[Hashes, Index]:
    """The shingles of each row, each once: (all of them, where those of a row begin and the end)."""
    sets = [found for _, found in of_rows(spool, rows, wanted, _each_once)]
    starts = np.concatenate([[0], np.cumsum(np.concatenate([found.counts for found in sets]))])
    return np.concatenate([found.flat for found in sets]), starts


def _each_once(found: Shingles) -> Shingles:
    owner = np.repeat(np.arange(len(found.counts)), found.counts)
    order = np.lexsort((found.flat, owner))
    flat, owner = found.flat[order], owner[order]
    new = np.ones(len(flat), dtype=bool)
    new[1:] = (flat[1:] != flat[:-1]) | (owner[1:] != owner[:-1])
    return Shingles(flat[new], np.bincount(owner[new], minlength=len(found.counts)))


def _keys(flat: Hashes, starts: Index, which: Index) -> Hashes:
    """The shingles of the sets `which`, one after another, each stirred with its place in `which`."""
    sizes = np.diff(starts)[which]
    pair = np.repeat(np.arange(len(which)), sizes)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return mix(flat[starts[which][pair] + inside] ^ mix(pair.astype(np.uint64) + np.uint64(1)))
