"""split.groupBy: rows with an equal value in a column stay on one side, by the hash of that value.

A group keeps its side when it grows, since its content does not count. The price: the same input in two
groups may fall on two sides; it is then dropped on the side that is closer to training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .dedup import Kept, group, without
from .findings import BadRow
from .keys import normalise
from .readers.row import Row
from .split import DROPPED, TEST, TRAIN, VALIDATION, Sides
from .spool import Mask, Rows


def member(seed: int, row: Row, column: str) -> bytes | BadRow:
    """16 bytes over seed and the value of `column`, or why the row belongs to no group."""
    value = _value(row.values, column)
    if isinstance(value, str) and value:
        return hashlib.sha256(f"{seed}\0{value}".encode("utf-8", "surrogatepass")).digest()[:16]
    said = "is missing or empty" if value is not None else "is no text, number or truth value"
    message = f"the column {column!r} of data.split.groupBy {said}"
    return BadRow(row.line, "missing-field" if value is not None else "wrong-type", message)


def _value(values: Mapping[str, Any], column: str) -> str | None:  # Any: JSON or Arrow value
    value = values.get(column, "")
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with gaps comes as floats
    return normalise(str(value)) if isinstance(value, str | int | float) else None


def by_group(rows: Rows, kept: Kept, given_test: Mask) -> Kept:
    """Rows of one group as one family; those whose group stands in the given test set leak."""
    assert rows.members is not None
    families = group(rows.members)
    in_test = np.zeros(len(rows) + 1, dtype=bool)
    in_test[families[given_test]] = True
    leaked = kept.leaked | (kept.mask & ~given_test & in_test[families])
    return without(replace(kept, families=families), leaked=leaked)


def apart(kept: Kept, sides: Sides) -> tuple[Kept, Sides]:
    """Drop rows whose input stands on a side that must not know it: test before validation."""
    leaked = kept.leaked.copy()
    for held, others in ((TEST, (VALIDATION, TRAIN)), (VALIDATION, (TRAIN,))):
        known = np.zeros(len(sides) + 1, dtype=bool)
        known[kept.groups[(sides == held) & ~leaked]] = True
        leaked |= known[kept.groups] & np.isin(sides, others)
    return without(kept, leaked=leaked), np.where(leaked, DROPPED, sides).astype(sides.dtype)
