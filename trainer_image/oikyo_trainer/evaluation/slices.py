"""How good a model is in each group of data.sliceBy: accuracy or loss with its interval, beside the base model.

Only told: no gate looks at it. A slice of few rows has a wide interval, which is the point of showing it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..data.insight.slices import MISSING, MOST, wilson
from ..data.slicing import META
from .record import SliceScore
from .rows import Row

if TYPE_CHECKING:
    from .generation import Losses

Right = npt.NDArray[np.bool_]
"""Of each row, whether the most likely label is the true one."""
Z = 1.96
"""Of the 95 % interval after Wilson (1927)."""


def slice_scores(rows: Sequence[Row], tuned: Right, base: Right) -> tuple[SliceScore, ...]:
    """Each value of each column that groups the rows, the least accurate first."""
    found = [_score(one, tuned[one.rows], base[one.rows]) for one in _slices(rows)]
    return tuple(sorted(found, key=lambda one: (float(one.accuracy), one.column, one.value)))


def slice_losses(rows: Sequence[Row], tuned: Losses, base: Losses) -> tuple[SliceScore, ...]:
    """The same of a model that generates text, the highest loss first."""
    found = [_loss(one, tuned, base) for one in _slices(rows) if tuned.tokens[one.rows].sum()]
    return tuple(sorted(found, key=lambda one: (-float(one.loss), one.column, one.value)))


class _Slice(NamedTuple):
    column: str
    value: str
    rows: npt.NDArray[np.int64]


def _slices(rows: Sequence[Row]) -> Iterator[_Slice]:
    for name in (name for name in rows[0] if name.startswith(META)):
        values = np.array(
            [MISSING if row[name] is None else row[name] for row in rows], dtype=object
        )
        known = sorted(set(values))
        if len(known) <= MOST:  # else it groups nothing
            for value in known:
                yield _Slice(name.removeprefix(META), value, np.flatnonzero(values == value))


def _score(one: _Slice, tuned: Right, base: Right) -> SliceScore:
    rate = float(tuned.mean())
    low, high = wilson(rate, len(tuned), Z)
    return SliceScore(
        column=one.column,
        value=one.value,
        rows=len(tuned),
        accuracy=f"{rate:.4f}",
        low=f"{max(0.0, low):.4f}",
        high=f"{min(1.0, high):.4f}",
        baseline=f"{float(base.mean()):.4f}",
    )


def _loss(one: _Slice, tuned: Losses, base: Losses) -> SliceScore:
    """Mean loss of an answer's token; the interval is that of a ratio of sums over the rows."""
    sums, tokens = tuned.sums[one.rows], tuned.tokens[one.rows]
    count = len(one.rows)
    mean = float(sums.sum() / tokens.sum())
    # Cochran, Sampling Techniques (1977), 6.4: rows are drawn, not tokens.
    spread = float(((sums - mean * tokens) ** 2).sum())
    error = Z * math.sqrt(count / max(1, count - 1) * spread) / float(tokens.sum())
    known = count > 1
    return SliceScore(
        column=one.column,
        value=one.value,
        rows=count,
        loss=f"{mean:.4f}",
        low=f"{max(0.0, mean - error):.4f}" if known else "",
        high=f"{mean + error:.4f}" if known else "",
        baseline=f"{float(base.sums[one.rows].sum() / tokens.sum()):.4f}",
    )
