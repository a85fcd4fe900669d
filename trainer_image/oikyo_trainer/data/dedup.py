"""Rows that stand more than once, rows that leak into the test set, inputs with several answers.

All of it on arrays of hashes; the texts are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .spool import Index, Rows

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Kept:
    """Which rows stay, and why the others go."""

    mask: Mask
    duplicate: Mask
    leaked: Mask
    groups: Index
    """Number of the input of each row: rows of one group share their input."""
    questions: Index
    """Number of the question of each row: the groups, but for preferences, where it is the prompt
    with the answers."""
    conflicts: Index
    """Rows that stay although another one has the same question and another answer."""
    families: Index
    """Number of the family of each row: rows of one family share their side of the split."""
    contaminated: Mask
    """Rows that go because they hold an item of a benchmark."""


def dedup(rows: Rows, given_test: Mask) -> Kept:
    """Keep one row of each; drop training rows whose input stands in the given test set."""
    groups = group(rows.inputs)
    duplicate = _duplicates(rows, given_test)
    in_test = np.zeros(len(rows) + 1, dtype=bool)
    in_test[groups[given_test]] = True
    leaked = ~given_test & ~duplicate & in_test[groups]
    mask = ~duplicate & ~leaked
    questions = groups if rows.questions is rows.inputs else group(rows.questions)
    conflicts = in_conflict(mask, questions)
    none = np.zeros(len(rows), dtype=bool)
    return Kept(
        mask, duplicate, leaked, groups, questions, conflicts, families=groups, contaminated=none
    )


def without(kept: Kept, *, leaked: Mask, contaminated: Mask | None = None) -> Kept:
    """`kept` less the rows of these masks, which hold those that have gone before."""
    held = kept.contaminated if contaminated is None else contaminated
    mask = kept.mask & ~leaked & ~held
    conflicts = in_conflict(mask, kept.questions)
    return replace(kept, mask=mask, leaked=leaked, contaminated=held, conflicts=conflicts)


def in_conflict(mask: Mask, questions: Index) -> Index:
    """Rows of `mask` that share their question with another one of it."""
    counts = np.bincount(questions[mask], minlength=len(mask) + 1)
    return np.flatnonzero(mask & (counts[questions] > 1))


def group(keys: npt.NDArray[np.uint64]) -> Index:
    """Number equal keys alike, from 0 in the order of the keys."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    new = np.zeros(len(keys), dtype=bool)
    new[:1] = True
    for half in (0, 1):  # one after the other: an array of all rows is what memory is measured in
        ordered = keys[order, half]
        new[1:] |= ordered[1:] != ordered[:-1]
        del ordered
    numbers = np.empty(len(keys), dtype=np.int64)
    numbers[order] = np.cumsum(new) - 1
    return numbers


def _duplicates(rows: Rows, given_test: Mask) -> Mask:
    """All but one of each row, within the test set and within the rest.

    Rows that differ in whitespace alone are the same; the one with the least exact hash stays, so
    that the order of the sources does not decide which. Among exactly equal rows the first stays.
    """
    groups = group(rows.rows)
    head = rows.exact.view(">u8").reshape(-1, 4)[:, 0]
    order = np.lexsort((head, groups, given_test))  # stable
    again = np.zeros(len(rows), dtype=bool)
    groups, given_test = groups[order], given_test[order]
    again[order[1:]] = (groups[1:] == groups[:-1]) & (given_test[1:] == given_test[:-1])
    return again
