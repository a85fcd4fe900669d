"""What follows from the findings: spec.data.checks against the counts. Pure but for the refusal.

The row is what a finding is about; here the whole is judged: more rows than `max` make an Error or a
Warning, as the check's action says, fewer are told as Info.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from oikyo.api.checks import Check, Severity

from ..errors import Refused
from .findings import Finding, Findings

SHOWN = 3
"""First findings of a failed check that a refusal shows."""
ORDER: tuple[Severity, ...] = ("Error", "Warning", "Info")


@dataclass(frozen=True)
class Judged:
    """One check that found something."""

    check: Check
    severity: Severity
    count: int
    """Rows that were found."""
    rows: int
    """Rows that were looked at."""
    first: tuple[Finding, ...]

    def sentence(self) -> str:
        one = self.count == 1
        rows = f"{self.count} of {self.rows} rows {self.check.description}"
        return rows.replace(" rows have ", " rows has ", 1) if one else rows

    def report(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "code": self.check.code,
            "severity": self.severity,
            "action": self.check.action,
            "max": self.check.max,
            "count": self.count,
            "rows": self.rows,
            "examples": [vars(finding) for finding in self.first],
        }


def judge(findings: Findings, rows: int) -> tuple[Judged, ...]:
    """Every check that found something among `rows` usable rows, the worst first."""
    judged = [
        Judged(check, _severity(check, count, rows), count, rows, tuple(findings.first[code]))
        for code, check in findings.checks.items()
        if (count := findings.counts[code])
    ]
    return tuple(sorted(judged, key=lambda one: (ORDER.index(one.severity), -one.count)))


def _severity(check: Check, count: int, rows: int) -> Severity:
    if count <= Decimal(check.max) * rows:
        return "Info"
    return "Error" if check.action == "Fail" else "Warning"


def refuse(judged: Sequence[Judged]) -> None:
    """Raise Refused when a check failed: counts, the first examples, what to do."""
    failed = [one for one in judged if one.severity == "Error"]
    if not failed:
        return
    told = "; ".join(
        f"{one.check.code}: {one.sentence()}, max is {one.check.max}" for one in failed
    )
    first = failed[0]
    code = first.check.code
    accept = f"set {{code: {code}, action: Warn}} in data.checks to train all the same"
    raise Refused(
        "DataCheckFailed",
        f"{told}; the first: {first.first[0].sentence()}",
        evidence="\n".join(item.sentence() for one in failed for item in one.first[:SHOWN]),
        next_step=f"{first.first[0].next_step}; or {accept}",
    )
