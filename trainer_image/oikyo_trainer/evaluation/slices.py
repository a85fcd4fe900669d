"""How right a classifier is in each group of data.sliceBy: shares with their intervals, beside the base model.

Only told: no gate looks at it. A slice of few rows has a wide interval, which is the point of showing it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..data.insight.slices import MISSING, MOST, wilson
from ..data.slicing import META
from .record import SliceScore
from .rows import Row

Right = npt.NDArray[np.bool_]
"""Of each row, whether the most likely label is the true one."""
Z = 1.96
"""Of the 95 % interval after Wilson (1927)."""


def slice_scores(rows: Sequence[Row], tuned: Right, base: Right) -> tuple[SliceScore, ...]:
    """Each value of each column that groups the rows, the least accurate first."""
    names = [name for name in rows[0] if name.startswith(META)]
    found = [score for name in names for score in _of_column(name, rows, tuned, base)]
    return tuple(sorted(found, key=lambda one: (float(one.accuracy), one.column, one.value)))


def _of_column(name: str, rows: Sequence[Row], tuned: Right, base: Right) -> list[SliceScore]:
    values = np.array([MISSING if row[name] is None else row[name] for row in rows], dtype=object)
    known = sorted(set(values))
    if len(known) > MOST:
        return []  # it groups nothing
    return [_score(name, value, tuned[values == value], base[values == value]) for value in known]


def _score(name: str, value: str, tuned: Right, base: Right) -> SliceScore:
    rate = float(tuned.mean())
    low, high = wilson(rate, len(tuned), Z)
    return SliceScore(
        column=name.removeprefix(META),
        value=value,
        rows=len(tuned),
        accuracy=f"{rate:.4f}",
        low=f"{max(0.0, low):.4f}",
        high=f"{min(1.0, high):.4f}",
        baseline=f"{float(base.mean()):.4f}",
    )
