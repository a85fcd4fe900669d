"""What follows from the findings: spec.data.checks against the counts. Pure but for the refusal.

The row is what a finding is about; here the whole is judged: more rows than `max` make an Error or a
Warning, as the check's action says, fewer are told as Info.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from oikyo.api.checks import Check, Severity, in_force
from oikyo.api.clean import PERSONAL_KINDS, PersonalKind
from oikyo.api.stages import PrepareSpec

from ..errors import Refused
from .findings import Finding, Findings

PERSONAL = "personal-data"
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


def checks(spec: PrepareSpec) -> Mapping[str, Check]:
    """The checks in force; data.clean.personalData set to Fail is the check personal-data set to it."""
    found = in_force(spec.checks)
    if _refuses_personal_data(spec):
        found = {**found, PERSONAL: replace(found[PERSONAL], action="Fail", max="0")}
    return found


def personal_kinds(spec: PrepareSpec) -> tuple[PersonalKind, ...]:
    """What counts as personal data for the check."""
    private = spec.clean.personal_data
    return private.kinds if private and _refuses_personal_data(spec) else PERSONAL_KINDS


def _refuses_personal_data(spec: PrepareSpec) -> bool:
    return spec.clean.personal_data is not None and spec.clean.personal_data.action == "Fail"


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
