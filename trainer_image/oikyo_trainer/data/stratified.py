"""split.stratify: each class gives its share to each side, in the order of the hash.

The families of a class are put in the order of their u and cut where the shares are, to the nearest row.
Where rows have several labels, a row counts for the rarest of them.
A new row of the class moves each cut by one row at most: see docs/explanation/splits.md.
"""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from .. import labelset
from .spool import Index, Mask, Rows


def below(
    rows: Rows,
    families: Index,
    uniform: npt.NDArray[np.uint64],
    own: Mask,
    shares: tuple[Decimal, ...],
    classes: Index | None = None,
) -> tuple[Mask, ...]:
    """For each share, which rows are among the least of their class; `own` says which rows count.

    `uniform` is the u of each row's family. A family of several classes counts for one of them.
    `classes` has the class of each label; without it each label is one.
    """
    index = np.flatnonzero(own)
    found, last = _families(rows, families, index)
    sizes = np.bincount(found, minlength=len(last))
    hashes = uniform[last]
    codes = rows.label_codes[last] if classes is None else classes[rows.label_codes[last]]
    order = np.lexsort((hashes, codes))
    codes, sizes = codes[order], sizes[order]
    before = np.cumsum(sizes) - sizes
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])[: len(codes)]
    lengths = np.diff(np.r_[starts, len(codes)])
    before -= np.repeat(before[starts], lengths)
    totals = np.add.reduceat(sizes, starts) if len(starts) else starts
    masks = []
    for share in shares:
        # A row belongs to the share when its middle does, in halves of a row: exact integers.
        ends = np.array([math.ceil(2 * int(total) * share) for total in totals], dtype=np.int64)
        inside = np.empty(len(order), dtype=bool)
        inside[order] = 2 * before + sizes < np.repeat(ends, lengths)
        mask = np.zeros(len(rows), dtype=bool)
        mask[index] = inside[found]
        masks.append(mask)
    return tuple(masks)


def rarest(rows: Rows, own: Mask) -> Index:
    """For each label, a set of names, the number of its name that the fewest rows have; -1: it has none.

    Most sets stand in a row or two, of which no share can be cut off; the share of the rarest name is
    the one that chance would miss by the most.
    """
    sets = [labelset.names_of(label) for label in rows.labels]
    counts = np.bincount(rows.label_codes[own], minlength=len(sets)).tolist()
    having: Counter[str] = Counter()
    for names, count in zip(sets, counts, strict=True):
        having.update(dict.fromkeys(names, count))
    place = {name: number for number, name in enumerate(sorted(having))}
    order = (min(names, key=lambda name: (having[name], name), default="") for names in sets)
    return np.array([place.get(name, -1) for name in order], dtype=np.int64)


def _families(rows: Rows, families: Index, index: Index) -> tuple[Index, Index]:
    """The number of the family of each row of `index`, counted from 0; and the row that names its class.

    That is the one with the greatest hash, and of those the label that sorts last.
    """
    names = np.empty(len(rows.labels), dtype=np.int64)
    names[np.argsort(rows.labels)] = np.arange(len(rows.labels))
    order = index[
        np.lexsort((names[rows.label_codes[index]], rows.inputs[index, 0], families[index]))
    ]
    ends = np.flatnonzero(np.r_[families[order][1:] != families[order][:-1], True])[: len(order)]
    _, found = np.unique(families[index], return_inverse=True)
    return found.astype(np.int64), order[ends]
