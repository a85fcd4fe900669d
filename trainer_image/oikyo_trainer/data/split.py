"""The side of a row: from SHA-256 over seed and input alone, so that it stays when the data grows.

The first 64 bits of the hash are a uniform number u in [0, 1): test below the test share, then
validation, then train. One exception keeps every class trainable: of each class (of each label, where
rows have several) the row with the greatest u is always train. With split.stratify u orders the rows of
each class, which are then cut at the shares; with split.timeBy the age of a row stands for u. See
docs/explanation/splits.md.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt

from oikyo.api.split import Split

from .. import labelset
from . import stratified, times
from .dedup import Kept
from .spool import Index, Mask, Rows, slices

SIDES = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
DROPPED = -1
Sides = npt.NDArray[np.int8]


def assign(
    rows: Rows, kept: Kept, given_test: Mask, split: Split, *, several: bool = False
) -> Sides:
    """The side of every row; DROPPED for those that `kept` left out.

    With `several`, labels are sets of names (labelset), and the names are the classes.
    """
    test_share = Decimal(0) if given_test.any() else Decimal(split.test)
    validation_share = Decimal(split.validation)
    uniform = placed_by(rows, kept, given_test, split)
    own = kept.mask & ~given_test
    if split.time_by:
        cuts = times.cuts(uniform[own], test_share, validation_share, split.time_by)
        sides = _sides(uniform < cuts.test, uniform < cuts.validation)
    elif split.stratify:
        shares = (test_share, test_share + validation_share)
        classes = stratified.rarest(rows, own) if several else None
        sides = _sides(*stratified.below(rows, kept.families, uniform, own, shares, classes))
    else:
        sides = by_hash(uniform, test_share, validation_share)
    # The whole family moves: a text with two labels must not stand on two sides.
    moved = np.zeros(len(rows) + 1, dtype=bool)
    last = _greatest(rows, uniform, own)
    moved[kept.families[_of_each_name(rows, uniform, last) if several else last]] = True
    sides[moved[kept.families]] = TRAIN
    sides[given_test] = TEST
    sides[~kept.mask] = DROPPED
    return sides


def placed_by(rows: Rows, kept: Kept, given_test: Mask, split: Split) -> npt.NDArray[np.uint64]:
    """The u of every row: of its group, else of its family; the mark of its time under timeBy."""
    if rows.members is None:
        return of_families(rows.inputs[:, 0], kept.families, ~given_test)
    if split.time_by:
        return of_families(rows.members[:, 0], kept.families, ~given_test)
    return rows.members[:, 0]


def of_families(
    uniform: npt.NDArray[np.uint64], families: Index, own: Mask
) -> npt.NDArray[np.uint64]:
    """The greatest u of each row's family: a new member can move it towards train, never away."""
    greatest = np.zeros(int(families.max(initial=0)) + 1, dtype=np.uint64)
    found = np.array(uniform)
    for part in slices(len(found)):
        np.maximum.at(greatest, families[part][own[part]], found[part][own[part]])
    for part in slices(len(found)):
        found[part][own[part]] = greatest[families[part][own[part]]]
    return found


def by_hash(uniform: npt.NDArray[np.uint64], test: Decimal, validation: Decimal) -> Sides:
    """Sides from u, given as a 64-bit integer."""
    return _sides(uniform < _threshold(test), uniform < _threshold(test + validation))


def _sides(test: Mask, held_out: Mask) -> Sides:
    sides = np.full(len(test), TRAIN, dtype=np.int8)
    sides[held_out] = VALIDATION
    sides[test] = TEST
    return sides


def _threshold(share: Decimal) -> np.uint64:
    return np.uint64(min(int(share * 2**64), 2**64 - 1))


def _greatest(rows: Rows, uniform: npt.NDArray[np.uint64], own: Mask) -> Index:
    """Of each class, the row with the greatest u; none for generation, which has no classes."""
    if not len(rows.label_codes):
        return np.zeros(0, dtype=np.int64)
    parts = [np.flatnonzero(own[part]) + part.start for part in slices(len(own))]
    last = [_last(rows, uniform, part) for part in parts]
    return _last(rows, uniform, np.concatenate([np.zeros(0, dtype=np.int64), *last]))


def _of_each_name(rows: Rows, uniform: npt.NDArray[np.uint64], index: Index) -> Index:
    """Of `index`, a row for each set, the row with the greatest u for each name in any of them."""
    greatest: dict[str, int] = {}
    for row in index[np.lexsort((rows.inputs[index, 1], uniform[index]))].tolist():
        for name in labelset.names_of(rows.labels[rows.label_codes[row]]):
            greatest[name] = row
    return np.array(sorted(set(greatest.values())), dtype=np.int64)


def _last(rows: Rows, uniform: npt.NDArray[np.uint64], index: Index) -> Index:
    """Of `index`, for each class the row with the greatest u."""
    order = index[np.lexsort((rows.inputs[index, 1], uniform[index], rows.label_codes[index]))]
    codes = rows.label_codes[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = codes[1:] != codes[:-1]
    return order[last]
