"""Which training rows get synthetic ones, how many, and by which method; chosen by content and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from oikyo.api.augment import Augment

from ...errors import Refused
from ..dedup import in_order_of
from ..spool import Index, Rows

METHODS = ("edits", "templates", "endpoint", "repeat")
"""The mark of a synthetic row; a row of a source has none."""
MOST_COPIES = 20
"""Synthetic rows that one row may have to fill its class: more of the same teach the same."""


@dataclass(frozen=True)
class Plan:
    """One entry for each row that is to be made."""

    rows: Index
    """The row it is made of."""
    copies: Index
    """Which one of this row it is, from 0."""
    methods: npt.NDArray[np.int8]
    """Place in METHODS."""

    def __len__(self) -> int:
        return len(self.rows)


def plan(how: Augment, rows: Rows, train: Index) -> Plan:
    """What is made of the rows `train`."""
    order = train[in_order_of(rows.rows[train])]
    if how.balance is None:
        chosen = np.repeat(order, how.per_row)
        copies = np.tile(np.arange(how.per_row), len(order))
    else:
        chosen, copies = _balanced(Decimal(how.balance), rows, order)
    # By content, so that a row keeps its methods when others come.
    turn = (rows.rows[chosen, 1] % np.uint64(1 << 32)).astype(np.int64) + copies
    methods = np.array(_methods(how), dtype=np.int8)
    return Plan(chosen, copies, methods[turn % len(methods)])


def _methods(how: Augment) -> list[int]:
    given = (how.edits is not None, bool(how.templates), how.endpoint is not None)
    return [number for number, there in enumerate(given) if there] or [METHODS.index("repeat")]


def _balanced(target: Decimal, rows: Rows, order: Index) -> tuple[Index, Index]:
    if not rows.labels:
        raise Refused(
            "NoClasses",
            "data.augment.balance fills up classes, and these rows have none",
            next_step="Drop balance, or say how many rows are made of each: perRow",
        )
    codes = rows.label_codes[order]
    counts = np.bincount(codes, minlength=len(rows.labels))
    wanted = math.ceil(target * int(counts.max(initial=0)))
    parts: list[tuple[Index, Index]] = []
    for code in np.argsort(np.array(rows.labels)):
        own = order[codes == code]
        need = min(max(0, wanted - len(own)), MOST_COPIES * len(own))
        if need:
            place = np.arange(need)
            parts.append((own[place % len(own)], place // len(own)))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
