"""What the rows are about: clusters named by their terms, and which side lacks which.

Spherical k-means (Dhillon and Modha 2001) on the points of features.py, seeded. The names are the terms
that stand out against the rest of the data; they describe, a person interprets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..findings import excerpt
from ..split import SIDES
from .features import Features, Floats
from .table import Table

MOST, LEAST = 24, 3
ROWS_OF_TOPIC = 60
"""Rows of a topic that the number of topics aims at, up to MOST of them."""
TERMS = 4
EXAMPLES = 2
SHOWN = 160
STARTS, ROUNDS = 3, 30
"""Beginnings that are tried, and rounds of each at most."""


def topics(table: Table, seen: Features, seed: int = 0) -> list[dict[str, Any]]:
    """The topics, the largest first; empty when there are too few rows for LEAST of them."""
    number = min(MOST, len(table) // ROWS_OF_TOPIC)
    if number < LEAST:
        return []
    norms = np.linalg.norm(seen.points, axis=1, keepdims=True)
    points = seen.points / np.maximum(norms, 1e-9)
    random = np.random.default_rng(seed)
    _, codes, centres = max(
        (_clusters(points, number, random) for _ in range(STARTS)), key=lambda found: found[0]
    )
    overall = np.asarray(seen.words.mean(axis=0)).ravel()
    found = []
    for code in range(number):
        rows = np.flatnonzero(codes == code)
        if len(rows):
            near = rows[np.argsort(-(points[rows] @ centres[code]), kind="stable")]
            found.append(_topic(table, seen, rows, near[:EXAMPLES], overall))
    return sorted(found, key=lambda topic: (-topic["rows"], topic["terms"]))


def _clusters(
    points: Floats, number: int, random: np.random.Generator
) -> tuple[float, npt.NDArray[np.int64], Floats]:
    """How near rows are to their centre in all, the centre of each row, and the centres."""
    centres = _apart(points, number, random)
    codes = np.full(len(points), -1)
    for _ in range(ROUNDS):
        alike = points @ centres.T
        before, codes = codes, alike.argmax(axis=1)
        if (codes == before).all():
            break
        for code in np.unique(codes):
            middle = points[codes == code].sum(axis=0)
            centres[code] = middle / max(float(np.linalg.norm(middle)), 1e-9)
    return float(alike.max(axis=1).sum()), codes, centres


def _apart(points: Floats, number: int, random: np.random.Generator) -> Floats:
    """Rows to begin with, each drawn the likelier the farther from those before (k-means++, 2007)."""
    chosen = [int(random.integers(len(points)))]
    away = np.full(len(points), 2.0)
    while len(chosen) < number:
        away = np.minimum(away, np.maximum(1 - points @ points[chosen[-1]], 0.0))
        weights = away if away.any() else np.ones(len(points))
        chosen.append(int(random.choice(len(points), p=weights / weights.sum())))
    return points[chosen].copy()


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
