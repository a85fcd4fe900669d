"""What the rows are about: clusters named by their terms, and which side lacks which.

k-means on the points of features.py (mini-batches, Sculley 2010), seeded. The names are the terms
that stand out against the rest of the data; they describe, a person interprets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans

from ..findings import excerpt
from ..split import SIDES
from .features import Features
from .table import Table

MOST, LEAST = 24, 3
ROWS_OF_TOPIC = 60
"""Rows of a topic that the number of topics aims at, up to MOST of them."""
TERMS = 4
EXAMPLES = 2
SHOWN = 160


def topics(table: Table, seen: Features, seed: int = 0) -> list[dict[str, Any]]:
    """The topics, the largest first; empty when there are too few rows for LEAST of them."""
    number = min(MOST, len(table) // ROWS_OF_TOPIC)
    if number < LEAST:
        return []
    norms = np.linalg.norm(seen.points, axis=1, keepdims=True)
    points = seen.points / np.maximum(norms, 1e-9)
    model = MiniBatchKMeans(number, random_state=seed, n_init=3, batch_size=2048)
    codes = model.fit_predict(points)
    overall = np.asarray(seen.words.mean(axis=0)).ravel()
    found = []
    for code in range(number):
        rows = np.flatnonzero(codes == code)
        if len(rows):
            near = rows[np.argsort(-(points[rows] @ model.cluster_centers_[code]), kind="stable")]
            found.append(_topic(table, seen, rows, near[:EXAMPLES], overall))
    return sorted(found, key=lambda topic: (-topic["rows"], topic["terms"]))


def _topic(
    table: Table,
    seen: Features,
    rows: npt.NDArray[np.int64],
    nearest: npt.NDArray[np.int64],
    overall: npt.NDArray[np.float64],
) -> dict[str, Any]:
    topic: dict[str, Any] = {
        "terms": _terms(seen, rows, overall),
        "rows": len(rows),
        "share": round(len(rows) / len(table), 4),
        "sides": {name: int((table.sides[rows] == i).sum()) for i, name in enumerate(SIDES)},
        "examples": [excerpt(table.texts[row], SHOWN) for row in nearest.tolist()],
    }
    if table.labels:
        counts = np.bincount(table.codes[rows], minlength=len(table.labels))
        most = int(counts.argmax())
        topic["label"] = {
            "name": table.labels[most],
            "share": round(float(counts[most]) / len(rows), 3),
        }
    return topic


def _terms(
    seen: Features, rows: npt.NDArray[np.int64], overall: npt.NDArray[np.float64]
) -> list[str]:
    """The terms that stand out the most; no part of a chosen pair is named again."""
    if not seen.terms:
        return []
    excess = np.asarray(seen.words[rows].mean(axis=0)).ravel() - overall
    chosen: list[str] = []
    for place in np.argsort(-excess, kind="stable")[: 10 * TERMS].tolist():
        term = seen.terms[place]
        told = {word for one in chosen for word in one.split()}
        if len(term) > 2 and excess[place] > 0 and not told & set(term.split()):
            chosen.append(term)
        if len(chosen) == TERMS:
            break
    return chosen
