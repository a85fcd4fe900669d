"""What places a row beside its content: the value of split.groupBy, or the time of split.timeBy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oikyo.api.split import Split

from ..errors import Refused
from . import grouping, times
from .columns import SHOWN
from .findings import BadRow, excerpt
from .readers.row import Row

Marker = Callable[[Row], bytes | BadRow]


def marker(split: Split, *, test: bool) -> Marker | None:
    """The function that gives the 16 bytes of a row of the sources or of the test set, if any do."""
    if (group := split.group_by) is not None:
        return lambda row: grouping.member(split.seed, row, group)
    if (time := split.time_by) is not None:
        return (lambda row: times.ANY_TIME) if test else (lambda row: times.mark(row, time))
    return None


def check_column(split: Split, present: Sequence[str], file: str, *, test: bool) -> None:
    """Refused when `file` lacks the column that its rows are placed by."""
    field = "groupBy" if split.group_by else "timeBy"
    column = split.group_by or (None if test else split.time_by)
    if column is None or column in present:
        return
    there = ", ".join(excerpt(name) for name in present[:SHOWN])
    raise Refused(
        "MissingColumn",
        f"{file} has no column {column!r} (data.split.{field}); its columns are {there}",
        evidence=file,
        next_step=f"Set data.split.{field} to a column that every file has, or leave it out",
    )
