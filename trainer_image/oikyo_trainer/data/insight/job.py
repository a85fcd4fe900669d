"""The statistics of a job's own rows, within a budget: as findings and for the report.

The same as `oikyo data report` makes, over fewer rows; the page says over how many.
"""

from __future__ import annotations

from typing import Any

from ..findings import Finding, excerpt
from ..intake import Intake
from ..split import Sides
from ..spool import Rows, Spool
from .asked import LABEL_ERROR, OUTLIER
from .overview import statistics
from .suspects import Suspect, noise, ranked
from .table import Table, of_rows

ROWS = 5_000
"""Rows that are looked at; of more, those with the least ids, as everywhere in the statistics."""
CHARACTERS = 1_000_000
"""Characters of them in all; of many texts the beginning."""
CELLS = 2_000_000
"""Rows times classes at most: a model has a number for each."""


def check(intake: Intake, rows: Rows, sides: Sides, spool: Spool) -> dict[str, Any]:
    """Add a finding for each suspect, the worst first; gives the part of the report."""
    limit = min(ROWS, CELLS // max(1, len(rows.labels)))
    table = of_rows(intake, rows, sides, spool, limit)
    found = noise(table, CHARACTERS)
    suspects = ranked(table, found)
    for one in suspects:
        for code in one.why:
            if code in (LABEL_ERROR, OUTLIER):
                _add(intake, table, one, code)
    return statistics(table, found, suspects)


def _add(intake: Intake, table: Table, one: Suspect, code: str) -> None:
    file, _, line = table.sources[one.row].rpartition(":")
    message = "shares hardly a word with any other row"
    if code == LABEL_ERROR:
        message = (
            f"has the label {excerpt(table.answers[one.row])!r}, and {excerpt(one.suggested)!r} "
            f"fits better (confidence {one.confidence:.2f})"
        )
    shown = excerpt(table.texts[one.row])
    intake.findings.add(Finding(int(line), code, message, shown, file))
