"""Probable label errors and outliers, ranked for a person to look at.

Label errors: confident learning (Northcutt, Jiang, Chuang 2021, section 3.1). Its out-of-sample
confidences come from a ridge regression on the indicator of each class, cross-validated with every
row as its own fold: leave-one-out predictions follow from one fit and the leverages (Allen 1974,
PRESS), so no row is judged by a model that has learnt its label. As many rows are suspect as have
another class with at least the confidence that the rows of that class have in it on average; of the
rows that fit another class better, those with the least confidence in their own are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .features import Floats
from .table import Table

RIDGE = 10.0
"""L2 penalty, with points scaled to length one."""
LEAST_OF_CLASS = 5
"""Rows that a class needs before it can be suggested or its rows be suspected."""
DEVIATIONS = 2.0
"""A class is told apart when its rows stand out by so many standard errors."""
COMPARED = 2000
"""Rows of its class that a row is compared with at most."""
FAR = 0.25
"""An outlier is less than this part as near to its nearest as rows of the data usually are."""
BLOCK = 4096
CELLS = 20_000_000
"""Rows times classes of which confidences are computed at most, 160 MB an array; of more rows the first,
which are a sample, since they stand in the order of a hash."""


@dataclass(frozen=True)
class Suspects:
    """Rows in the order in which a person should look at them."""

    rows: npt.NDArray[np.int64]
    """Places in the table, the most suspicious first."""
    suggested: npt.NDArray[np.int64]
    """Of each: the place of the label that fits better."""
    confidence: Floats
    """Of each: the out-of-sample confidence in that label, 0 to 1."""
    own: Floats
    """Of each: the out-of-sample confidence in the label that it has, 0 to 1."""


def left_out(points: Floats, codes: npt.NDArray[np.int64], classes: int) -> Floats:
    """Confidence in each class of each row by a model fitted without that row: (rows, classes).

    Estimates of a probability, not bound to [0, 1]: below 0 ranks beneath 0.
    """
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    x = np.hstack([points / np.maximum(norms, 1e-9), np.ones((len(points), 1))])
    inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(x.shape[1]))
    wanted = np.zeros((len(points), classes))
    wanted[np.arange(len(points)), codes] = 1.0
    fitted = x @ (inverse @ (x.T @ wanted))
    leverage = np.einsum("ij,ij->i", x @ inverse, x)[:, None]
    loo: Floats = (fitted - leverage * wanted) / np.maximum(1 - leverage, 1e-6)
    return loo


def label_errors(table: Table, points: Floats) -> Suspects:
    """Rows whose label is probably wrong, ranked by how little it fits."""
    codes = table.codes[: CELLS // max(1, len(table.labels))]
    confidence = left_out(points[: len(codes)], codes, len(table.labels))
    counts = np.bincount(codes, minlength=len(table.labels))
    places = np.arange(len(codes))
    own = confidence[places, codes]
    mean = np.bincount(codes, own, minlength=len(table.labels)) / np.maximum(counts, 1)
    # A class of few rows, or one that words do not tell, teaches too little to contradict anybody.
    able = (counts >= LEAST_OF_CLASS) & _told_apart(confidence, counts, mean)
    other = np.where(able, confidence, -np.inf)
    other[places, codes] = -np.inf
    suggested = other.argmax(axis=1)
    best = other[places, suggested]
    count = int(((other >= mean).any(axis=1) & able[codes] & (best > own)).sum())
    rows = np.flatnonzero(able[codes] & (best > own))
    rows = rows[np.lexsort((-best[rows], own[rows]))][:count]
    return Suspects(
        rows,
        suggested[rows],
        np.clip(best[rows], 0.0, 1.0),
        np.clip(own[rows], 0.0, 1.0),
    )


def _told_apart(
    confidence: Floats, counts: npt.NDArray[np.int64], mean: Floats
) -> npt.NDArray[np.bool_]:
    """Which classes have more confidence in their own rows (`mean`) than in others, beyond chance."""
    others = confidence.sum(axis=0) - mean * counts
    beyond = mean - others / np.maximum(len(confidence) - counts, 1)
    told: npt.NDArray[np.bool_] = beyond > DEVIATIONS * confidence.std(axis=0) / np.sqrt(
        np.maximum(counts, 1)
    )
    return told


@dataclass(frozen=True)
class Outliers:
    """Rows far from every other, the farthest first."""

    rows: npt.NDArray[np.int64]
    nearest: Floats
    """Of each: cosine with the nearest other row."""


def outliers(table: Table, points: Floats, seed: int = 0) -> Outliers:
    """Rows whose nearest neighbour is much farther than is usual in the data."""
    codes = table.codes if table.labels else np.zeros(len(table), dtype=np.int64)
    near = np.ones(len(table))
    random = np.random.default_rng(seed)
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        if len(members) >= LEAST_OF_CLASS:
            others = members
            if len(members) > COMPARED:
                others = np.sort(random.choice(members, COMPARED, replace=False))
            near[members] = _nearest(points, members, others)
    limit = FAR * float(np.median(near))
    rows = np.flatnonzero(near < limit)
    # Far from its class and near another one: that is a wrong label, no outlier.
    near[rows] = _nearest(points, rows, np.arange(len(table)))
    rows = rows[near[rows] < limit]
    rows = rows[np.argsort(near[rows], kind="stable")]
    return Outliers(rows, near[rows])


def _nearest(
    points: Floats, members: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> Floats:
    """Greatest cosine of each member with another row; a text without common terms has none."""
    norms = np.linalg.norm(points[others], axis=1, keepdims=True)
    against = points[others] / np.maximum(norms, 1e-9)
    best = np.empty(len(members))
    for start in range(0, len(members), BLOCK):
        block = members[start : start + BLOCK]
        # Not divided by the row's own norm: what the axes do not explain counts as distance.
        cosines = points[block] @ against.T
        cosines[block[:, None] == others[None, :]] = -1.0
        best[start : start + BLOCK] = cosines.max(axis=1)
    return best
