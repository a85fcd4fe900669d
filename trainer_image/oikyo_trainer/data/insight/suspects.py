"""The rows that a person should look at, of every kind in one ranked list."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..keys import normalise
from .asked import CONFLICT, LABEL_ERROR, OUTLIER
from .features import CHARACTERS, Features, features
from .noise import Outliers, Suspects, label_errors, outliers
from .table import CUT, Table


@dataclass(frozen=True)
class Noise:
    """What is wrong with the answers, as far as the rows contradict each other."""

    features: Features | None
    """None: too few rows, or no common term."""
    errors: Suspects | None
    """None: rows have no labels or sets of them, or no features."""
    outliers: Outliers | None
    conflicts: tuple[tuple[int, ...], ...]
    """Places of rows that share their input and differ in their answer."""


@dataclass(frozen=True)
class Suspect:
    """One row to look at."""

    row: int
    """Place in the table."""
    why: tuple[str, ...]
    """Codes of the checks that found it."""
    suggested: str = ""
    """The label that fits better; empty when none does or rows have no labels."""
    confidence: float | None = None
    """Out-of-sample confidence in `suggested`, 0 to 1."""


def noise(table: Table, characters: int = CHARACTERS) -> Noise:
    """Look for conflicts, probable label errors and outliers; `characters` are looked at in all."""
    seen = features(table.texts, characters=characters)
    judged = len(table.labels) > 1 and not table.several
    errors = label_errors(table, seen.points) if seen and judged else None
    far = outliers(table, seen.points) if seen else None
    return Noise(seen, errors, far, conflicts(table))


def conflicts(table: Table) -> tuple[tuple[int, ...], ...]:
    """Rows of one input and several answers; a text that the table cut is not compared."""
    by_input: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(table.texts):
        if len(text) < CUT:
            by_input[normalise(text)].append(row)
    groups = (rows for rows in by_input.values() if len(rows) > 1)
    return tuple(tuple(rows) for rows in groups if len({table.answers[row] for row in rows}) > 1)


def ranked(table: Table, found: Noise) -> list[Suspect]:
    """Label errors first, the least fitting before the others, then conflicts, then outliers."""
    why: dict[int, list[str]] = {}
    suggested: dict[int, tuple[str, float]] = {}
    if found.errors is not None:
        errors = found.errors
        triples = zip(_ints(errors.rows), _ints(errors.suggested), errors.confidence, strict=True)
        for row, code, confidence in triples:
            why[row] = [LABEL_ERROR]
            suggested[row] = (table.labels[code], round(float(confidence), 3))
    for rows in found.conflicts:
        for row in rows:
            why.setdefault(row, []).append(CONFLICT)
    if found.outliers is not None:
        for row in _ints(found.outliers.rows):
            why.setdefault(row, []).append(OUTLIER)
    return [Suspect(row, tuple(codes), *suggested.get(row, ())) for row, codes in why.items()]


def _ints(rows: npt.NDArray[np.int64]) -> list[int]:
    whole: list[int] = rows.tolist()
    return whole
