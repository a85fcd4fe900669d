"""The numbers that rows are to teach: what they look like, and data on which they teach nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import Refused
from ..numbers import text_of
from .intake import Intake
from .split import SIDES, TEST, TRAIN, Sides
from .spool import Rows
from .texts import tell

Numbers = npt.NDArray[np.float64]
Bounds = Numbers
"""Ends of the buckets of a histogram, the same for all sides; what lies beyond the last is one more."""
BUCKETS = 20
TAILS = (0.01, 0.99)
"""Shares between which the buckets are equally wide: one row far out would make one bucket of the rest."""
OUTLIER = "number-outlier"
FAR = 10
"""Widths of the middle half beyond which a number is far from it."""
QUANTILES = (1, 5, 25, 50, 75, 95, 99)


def bounds(rows: Rows, sides: Sides) -> Bounds:
    """The buckets for the rows that stay; none for rows without numbers."""
    if rows.numbers is None or not (sides >= 0).any():
        return np.zeros(0)
    low, high = np.quantile(rows.numbers[sides >= 0], TAILS)
    return np.unique(np.linspace(low, high, BUCKETS))


def describe(numbers: Numbers, ends: Bounds) -> dict[str, Any]:
    """Mean, spread, quantiles and a histogram, for report.json."""
    counts = np.bincount(np.searchsorted(ends, numbers), minlength=len(ends) + 1).tolist()
    upper = [*ends.tolist(), float(numbers.max())]
    cut = np.percentile(numbers, QUANTILES, method="inverted_cdf")
    return {
        "mean": float(numbers.mean()),
        "std": float(numbers.std()),
        "least": float(numbers.min()),
        "greatest": float(numbers.max()),
        "different": len(np.unique(numbers)),
        **{f"p{q}": float(value) for q, value in zip(QUANTILES, cut, strict=True)},
        "histogram": [
            {"up_to": end, "rows": count} for end, count in zip(upper, counts, strict=True)
        ],
    }


def check(intake: Intake, rows: Rows, sides: Sides) -> None:
    """A finding for each row that stays whose number is far from the others."""
    if rows.numbers is None or not (sides >= 0).any():
        return
    kept = np.flatnonzero(sides >= 0)
    low, high = np.quantile(rows.numbers[kept], (0.25, 0.75))
    reach = FAR * (high - low)
    if not reach:
        return  # half of the rows have one number: any other would be far
    far = (rows.numbers[kept] < low - reach) | (rows.numbers[kept] > high + reach)
    between = f"half of the rows lie between {low:g} and {high:g}"
    found = ((row, text_of(float(rows.numbers[row]))) for row in kept[far].tolist())
    tell(intake, rows, OUTLIER, ((row, f"has the number {one}; {between}") for row, one in found))


def check_rows(rows: Rows, column: str) -> None:
    """Refused where every row has the same number."""
    if rows.numbers is None or not len(rows) or (rows.numbers != rows.numbers[0]).any():
        return
    raise Refused(
        "ConstantNumber",
        f"every row has the number {text_of(float(rows.numbers[0]))} (column {column!r}): there is "
        "nothing to learn",
        next_step="Add rows with other numbers, or set data.fields.label to another column",
    )


def check_sides(rows: Rows, sides: Sides) -> None:
    """Refused where all training rows, or all test rows, have the same number."""
    if rows.numbers is None:
        return
    for side, why in ((TRAIN, "there is nothing to learn"), (TEST, "a constant would be right")):
        own = rows.numbers[sides == side]
        if len(own) and not (own != own[0]).any():
            raise Refused(
                "ConstantNumber",
                f"every row of the {SIDES[side]} split has the number {text_of(float(own[0]))}: {why}",
                next_step="Add rows with other numbers, or change split.seed",
            )
