"""What the statistics find, by code, and whether a job's checks ask for them. Imports nothing heavy."""

from __future__ import annotations

from ..intake import Intake
from ..spool import Rows

CONFLICT, LABEL_ERROR, OUTLIER = "conflicting-answers", "probable-label-error", "outlier"


def asked(intake: Intake, rows: Rows) -> bool:
    """Whether a check in force needs the statistics of these rows."""
    judged = bool(rows.labels) and not intake.several and intake.findings.wants(LABEL_ERROR)
    return judged or intake.findings.wants(OUTLIER)
