"""split.timeBy: the time that a row carries, the cuts that a split by time needs, and what is told of them.

A time is kept as a number that falls as time goes on, so that it can stand where the hash of a row
stands in split.py: the oldest row of a family decides for it, and of each class the oldest trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from oikyo.api.jobstatus import Resolved

from ..errors import Refused
from .findings import BadRow, excerpt
from .readers.row import Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LEAST = 10**8
"""A smaller number is no time of epoch: it would lie before March 1973."""
UNITS = ((10**11, 10**6), (10**14, 10**3), (10**17, 1))
"""A number below the first is of seconds, then of milli- and microseconds, then of nanoseconds."""
OLDEST = 2**63
HELD = ("validation", "test")
EXPECTED = "a date, a time as 2026-11-23T21:00:00Z or a number of seconds since 1970"

Numbers = npt.NDArray[np.uint64]
ANY_TIME = bytes(16)
"""Mark of a row whose time does not matter: one of the given test set."""


def mark(row: Row, column: str) -> bytes | BadRow:
    """16 bytes that place the row by the time in `column`, or why it has none."""
    value = row.values.get(column)
    if value is None or value == "":
        message = f"the column {column!r} of data.split.timeBy is missing or empty"
        return BadRow(row.line, "missing-field", message)
    at = microseconds(value)
    if at is None:
        message = f"the column {column!r} of data.split.timeBy is no time; expected {EXPECTED}"
        return BadRow(row.line, "not-a-time", message, excerpt(value))
    return (OLDEST - 1 - at).to_bytes(8, "big") + bytes(8)


def microseconds(value: Any) -> int | None:  # Any: JSON or Arrow value
    """Microseconds since 1970 in UTC, or None; a time without a zone counts as UTC."""
    if isinstance(value, datetime):
        return _since(value)
    if isinstance(value, date):
        return _since(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if isinstance(value, str):
        return _said(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _counted(value)


def _said(text: str) -> int | None:
    try:
        return _since(datetime.fromisoformat(text))
    except ValueError:
        pass
    try:
        return _counted(Decimal(text)) if len(text) < 32 else None
    except ArithmeticError:
        return None


def _since(time: datetime) -> int:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def _counted(number: int | float | Decimal) -> int | None:
    if not math.isfinite(number) or not LEAST <= number < 10**20:
        return None
    factor = next((factor for end, factor in UNITS if number < end), None)
    return int(Decimal(number) * factor) if factor else int(Decimal(number) / 1000)


def shown(number: int) -> str:
    """The time of a mark, as people write it."""
    time = EPOCH + (OLDEST - 1 - number) * MICROSECOND
    return time.isoformat(timespec="auto").replace("+00:00", "Z")


@dataclass(frozen=True)
class Cuts:
    """Marks from which on a row is older than the side: below `test` it tests, and so on."""

    test: np.uint64
    validation: np.uint64


def cuts(marks: Numbers, test: Decimal, validation: Decimal, column: str) -> Cuts:
    """Where the newest shares of the rows begin, to the nearest time: equal times are not parted."""
    different, counts = np.unique(marks, return_counts=True)
    sides = 1 + (test > 0) + (validation > 0)
    if len(different) < sides:
        raise Refused(
            "TooFewTimes",
            f"the rows have {len(different)} different times in the column {column!r} "
            f"(data.split.timeBy), and {sides} sides need at least as many",
            next_step="Name a column with finer times, or leave timeBy out to split by content",
        )
    ends = np.cumsum(counts)
    held = 0
    first, after = np.uint64(0), np.uint64(0)
    if test > 0:
        held = _nearest(ends, float(test) * len(marks), 1, len(different) - sides + 1)
        first = after = different[held]
    if validation > 0:
        share = float(test + validation) * len(marks)
        after = different[_nearest(ends, share, held + 1, len(different) - 1)]
    return Cuts(first, after)


def _nearest(ends: npt.NDArray[np.int64], wanted: float, least: int, most: int) -> int:
    """How many times, from `least` to `most`, hold about `wanted` rows."""
    return least + int(np.argmin(np.abs(ends[least - 1 : most] - wanted)))


def resolved(told: Mapping[str, Any]) -> tuple[Resolved, ...]:
    """The cuts of a report, for status.resolved."""
    parts = [f"{name} from {told['sides'][name]['from']}" for name in HELD if name in told["sides"]]
    late = told["newer_in_train"]
    why = f"the column {told['column']!r} has the times of the rows; equal times are not parted"
    if late:
        why += f"; {late} rows train though they are newer: they resemble an older row, or are all "
        why += "that their class has"
    value = ", ".join(parts) or "no side but train"
    return (Resolved(name="data.split.timeBy", value=value, reason=why),)


def report(
    column: str, own: Numbers, of_family: Numbers, sides: Mapping[str, Any]
) -> dict[str, Any]:
    """For report.json: from when on each side is, and how many rows train though they are newer.

    `own` and `of_family` are the marks of each row and of its family, `sides` masks of the rows.
    """
    told: dict[str, Any] = {"column": column, "sides": {}}
    for name, mask in sides.items():
        if mask.any():
            told["sides"][name] = {
                "from": shown(int(of_family[mask].max())),
                "until": shown(int(own[mask].min())),
            }
    held = sides["validation"] | sides["test"]
    late = sides["train"] & (own <= of_family[held].max(initial=np.uint64(0)))
    told["newer_in_train"] = int(late.sum()) if held.any() else 0
    return told
