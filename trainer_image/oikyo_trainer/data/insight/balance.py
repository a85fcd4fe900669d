"""How many rows each class has, and how long rows are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..split import SIDES
from .table import Table

FEW_ROWS = 10
"""A class with fewer rows is named."""
QUANTILES = (1, 25, 50, 75, 95, 99)


def classes(table: Table) -> dict[str, Any] | None:
    """Balance of the classes; None without labels.

    `effective` is the exponential of the entropy (Hill 1973): as many equally frequent classes would
    be as hard to guess. `majority` is the accuracy of always guessing the largest.
    """
    if not table.labels:
        return None
    counts = np.bincount(table.codes, minlength=len(table.labels))
    share = counts[counts > 0] / counts.sum()
    order = np.argsort(-counts, kind="stable")
    return {
        "count": len(table.labels),
        "largest": {"label": table.labels[order[0]], "rows": int(counts[order[0]])},
        "smallest": {"label": table.labels[order[-1]], "rows": int(counts[order[-1]])},
        "effective": round(float(np.exp(-(share * np.log(share)).sum())), 1),
        "majority": round(float(share.max()), 4),
        "few": [
            {"label": table.labels[code], "rows": int(counts[code])}
            for code in order[::-1]
            if counts[code] < FEW_ROWS
        ],
    }


def lengths(table: Table) -> dict[str, Any]:
    """Quantiles of the length in characters, in all and on each side."""

    def quantiles(lengths: Any) -> dict[str, int]:
        if not len(lengths):
            return {}
        found = np.percentile(lengths, QUANTILES, method="inverted_cdf")
        return {f"p{q}": int(value) for q, value in zip(QUANTILES, found, strict=True)}

    sides = {name: quantiles(table.lengths[table.sides == i]) for i, name in enumerate(SIDES)}
    return {"all": quantiles(table.lengths), **{name: q for name, q in sides.items() if q}}
