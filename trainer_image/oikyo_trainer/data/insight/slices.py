"""Groups that the user names by columns: how many rows each has, and how outcomes differ.

The difference of a group's rate from that of all other rows stands with its 95 % interval after
Newcombe (1998, method 10), over all comparisons of a column together (Bonferroni). A difference says
that the rows differ, not why: the groups may differ in what they ask, and what is the same for all
groups may still be wrong for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from ..split import SIDES, TEST, TRAIN
from ..spool import Mask
from .table import Table

MISSING = "(none)"
SMALL = 30
"""Rows below which a slice is small; a rate over fewer is uncertain by a third and more."""
SMALL_TEST = 10
"""Rows of the test split below which a slice cannot be judged."""
MOST = 50
"""Values of a column; a column with more is no grouping."""
EFFECT = 0.05
"""A skew is told when the whole interval lies beyond this difference."""
LEVEL = 0.05
TOLD = 50


@dataclass(frozen=True)
class Skew:
    """An outcome that is more or less frequent in one slice than in the other rows."""

    column: str
    value: str
    outcome: str
    rate: float
    """Of the slice."""
    rest: float
    """Of all other rows."""
    low: float
    """Of the difference rate - rest."""
    high: float
    rows: int
    """Rows of the slice with this outcome."""
    first: int
    """Place in the table of one row of the slice."""

    def sentence(self) -> str:
        return (
            f"{self.column} = {self.value}: {self.outcome} in {self.rate:.0%} of its rows and in "
            f"{self.rest:.0%} of the others (difference {self.low:+.0%} to {self.high:+.0%})"
        )


@dataclass(frozen=True)
class Slice:
    """The rows with one value of a column."""

    column: str
    value: str
    rows: int
    sides: dict[str, int]
    first: int
    lacking: int
    """Labels that none of its rows has."""

    @property
    def small(self) -> str:
        """Why it is small; empty when it is not."""
        if self.rows < SMALL:
            return f"has {self.rows} row{'s' * (self.rows != 1)}, fewer than {SMALL}"
        if self.sides[SIDES[TRAIN]] == 0:
            return "has no row in training"
        if self.sides[SIDES[TEST]] < SMALL_TEST:
            return f"has {self.sides[SIDES[TEST]]} rows in the test split, fewer than {SMALL_TEST}"
        return ""


def columns(table: Table) -> tuple[list[str], list[str]]:
    """The columns that group the rows, and those with too many values to do so."""
    groups = {name: len(set(values)) for name, values in table.meta.items()}
    fit = [name for name, count in groups.items() if count <= MOST]
    return fit, [name for name in groups if name not in fit]


def slices(table: Table) -> list[Slice]:
    """Every value of every grouping column, the smallest first."""
    found = []
    for column in columns(table)[0]:
        for value, mask in _groups(table, column):
            rows = np.flatnonzero(mask)
            sides = {name: int((table.sides[rows] == i).sum()) for i, name in enumerate(SIDES)}
            lacking = len(table.labels) - len(np.unique(table.codes[rows])) if table.labels else 0
            found.append(Slice(column, value, len(rows), sides, int(rows[0]), lacking))
    return sorted(found, key=lambda one: (one.rows, one.column, one.value))


def _groups(table: Table, column: str) -> list[tuple[str, Mask]]:
    values = np.array([MISSING if v is None else v for v in table.meta[column]], dtype=object)
    return [(str(value), values == value) for value in np.unique(values)]


def skews(table: Table) -> list[Skew]:
    """Differences that chance does not explain, the largest certain one first."""
    found = []
    outcomes = _outcomes(table)
    for column in columns(table)[0]:
        groups = [(v, m) for v, m in _groups(table, column) if m.any() and not m.all()]
        z = ndtri(1 - LEVEL / 2 / max(1, len(groups) * len(outcomes)))
        for value, mask in groups:
            for outcome, has in outcomes:
                skew = _skew(column, value, outcome, mask, has, float(z))
                if skew is not None:
                    found.append(skew)
    return sorted(found, key=lambda one: -min(abs(one.low), abs(one.high)))


def _outcomes(table: Table) -> list[tuple[str, Mask]]:
    if table.labels:
        told = [(f"label {name!r}", table.codes == i) for i, name in enumerate(table.labels)]
        # Of two labels one says all; the rarer is the one that people ask about.
        return [min(told, key=lambda one: int(one[1].sum()))] if len(told) == 2 else told
    sizes = np.array([len(answer) for answer in table.answers])
    return [("an answer longer than the median", sizes > np.median(sizes))] if len(sizes) else []


def _skew(column: str, value: str, outcome: str, mask: Mask, has: Mask, z: float) -> Skew | None:
    inside, outside = int(mask.sum()), int((~mask).sum())
    hits, others = int((has & mask).sum()), int((has & ~mask).sum())
    rate, rest = hits / inside, others / outside
    low, high = interval(hits, inside, others, outside, z)
    if low <= EFFECT and high >= -EFFECT:
        return None
    first = int(np.flatnonzero(mask)[0])
    return Skew(column, value, outcome, rate, rest, low, high, hits, first)


def interval(hits: int, rows: int, others: int, rest: int, z: float) -> tuple[float, float]:
    """Newcombe's hybrid score interval of hits/rows - others/rest."""
    p, q = hits / rows, others / rest
    low_p, high_p = wilson(p, rows, z)
    low_q, high_q = wilson(q, rest, z)
    low = p - q - ((p - low_p) ** 2 + (high_q - q) ** 2) ** 0.5
    high = p - q + ((high_p - p) ** 2 + (q - low_q) ** 2) ** 0.5
    return low, high


def wilson(rate: float, rows: int, z: float) -> tuple[float, float]:
    """Wilson's score interval of a rate (1927)."""
    middle = rate + z * z / (2 * rows)
    half = z * (rate * (1 - rate) / rows + z * z / (4 * rows * rows)) ** 0.5
    scale = 1 + z * z / rows
    return (middle - half) / scale, (middle + half) / scale


def section(table: Table) -> dict[str, Any] | None:
    """The part of the report; None when no column groups the rows."""
    if not table.meta:
        return None
    listed = slices(table)
    return {
        "columns": columns(table)[0],
        "not_grouping": columns(table)[1],
        "slices": [
            {**{k: v for k, v in vars(one).items() if k != "first"}, "small": one.small}
            for one in listed
        ],
        "skews": [
            {**{k: _round(v) for k, v in vars(one).items() if k != "first"}, "says": one.sentence()}
            for one in skews(table)[:TOLD]
        ],
    }


def _round(value: Any) -> Any:  # a field of Skew
    return round(value, 4) if isinstance(value, float) else value
