"""The slices of a job: what data.sliceBy makes of its rows, as findings and for the report."""

from __future__ import annotations

from typing import Any

from ..findings import Finding
from ..intake import Intake
from ..split import Sides
from ..spool import Rows, Spool
from . import slices, table

SMALL, SKEW = "small-slice", "outcome-skew"


def of_rows(intake: Intake, rows: Rows, sides: Sides, spool: Spool) -> table.Table:
    return table.of_rows(intake, rows, sides, spool, table.ROWS)


def check(intake: Intake, found: table.Table) -> dict[str, Any] | None:
    """Add a finding for each small slice and each skew; gives the part of the report."""
    for one in slices.slices(found):
        if one.small:
            message = f"{one.column} = {one.value} {one.small}"
            _add(intake, found, SMALL, one.first, message, one.rows)
    for skew in slices.skews(found)[: slices.TOLD]:
        _add(intake, found, SKEW, skew.first, skew.sentence(), skew.rows)
    return slices.section(found)


def _add(
    intake: Intake, found: table.Table, code: str, first: int, message: str, count: int
) -> None:
    file, _, line = found.sources[first].rpartition(":")
    intake.findings.add(Finding(int(line), code, message, file=file, rows=count))
