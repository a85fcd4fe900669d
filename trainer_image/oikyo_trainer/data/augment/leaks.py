"""Synthetic rows that say what a row of the validation or test split says: they must not train."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..dedup import group
from ..near import bands, verify
from ..spool import Index, Mask, Rows, Spool


def exact(rows: Rows, held: Index, made: Index) -> Mask:
    """Which rows of `made` have the input of one of `held`."""
    numbers = group(rows.inputs[np.concatenate([held, made])])
    return np.isin(numbers[len(held) :], numbers[: len(held)])


def repeated(rows: Rows, train: Index, made: Index) -> Mask:
    """Which rows of `made` are a row of `train`, or an earlier one of `made`, input and answer."""
    numbers = group(rows.rows[np.concatenate([train, made])])
    _, first = np.unique(numbers, return_index=True)
    again = np.ones(len(numbers), dtype=bool)
    again[first] = False
    return again[len(train) :]


def near(spool: Spool, rows: Rows, held: Index, made: Index, similarity: float, at: Path) -> Mask:
    """Which rows of `made` are almost one of `held`, as near-duplicates are told; `at` is scratch."""
    found = np.zeros(len(made), dtype=bool)
    if not len(held) or not len(made):
        return found
    nodes = np.concatenate([held, made])
    mapped = bands.write(at, spool, rows, nodes, bands.banding(similarity))
    pairs = bands.candidates(mapped)
    del mapped
    at.unlink()
    across = (pairs[:, 0] < len(held)) & (pairs[:, 1] >= len(held))
    pairs = pairs[across]
    alike = (
        verify.similarities(spool, rows, nodes, pairs) >= similarity if len(pairs) else pairs[:, 0]
    )
    found[pairs[np.asarray(alike, dtype=bool), 1] - len(held)] = True
    return found
