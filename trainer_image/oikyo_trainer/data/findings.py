"""What is wrong with the data, row by row: counted by code, the first kept, all written to a file.

A finding is about a row that is not used (BadRow: made by the readers and the shapes), or about one
that a check of spec.data.checks found. Findings takes both; judge.py says what follows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oikyo.api.checks import CHECKS, Check, Severity, next_step

from . import personal
from .journal import Journal

FILE = "findings.jsonl"
"""The whole list: beside report.json, in the version and in the folder of the stage."""
KEPT = 1000
"""Bad rows that the report lists; all are counted."""
FIRST = 20
"""Findings of each code that the report lists."""
EXCERPT = 80
"""Characters of a row that are shown."""

_NUMBER = re.compile(r"\+?\d(?:[ ./()-]{0,2}\d){6,}")
"""Any long number: an excerpt shows less than the check personal-data would find."""


class RowFault(ValueError):
    """Why a row is no example of the task: a code and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Finding:
    """Something that a person should know about one row, or about several when `rows` says so."""

    line: int
    """Line of the file on which the row begins, from 1; in Parquet the number of the row; 0: none."""
    code: str
    """Stable word for programs: a code of oikyo.api.checks or of a bad row, for example not-json."""
    message: str
    """What is wrong and what was expected."""
    excerpt: str = ""
    """The beginning of the row: shortened, personal data masked, control characters escaped."""
    file: str = ""
    severity: Severity = "Error"
    """Error: the row is lost or may refuse the job. Of a check, Findings fills it in."""
    next_step: str = ""
    """What a person does about it; Findings fills it in from oikyo.api.checks when it is empty."""
    rows: int = 1
    """How many rows it speaks of."""
    other: str = ""
    """File and line of the other row, when it is about two."""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def sentence(self) -> str:
        shown = f" ({self.excerpt})" if self.excerpt else ""
        where = f"{self.where}: " if self.where else ""
        return f"{where}{self.message}{shown}"


class BadRow(Finding):
    """One row that is not used; data.maxBadRows says how many there may be."""


def excerpt(value: object, limit: int = EXCERPT) -> str:
    """The first `limit` characters of `value`, fit for a status that other people read."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: 4 * limit]
    text = _NUMBER.sub("<number>", personal.mask(text, personal.find(text)))
    # Escaped, so that a row can neither forge a log line nor move a terminal's cursor.
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else _escape(letter) for letter in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


@dataclass
class Findings(Journal):
    """All findings of a run, in the order in which they were met."""

    checks: Mapping[str, Check] = field(default_factory=lambda: CHECKS)
    """The checks in force, by code."""
    bad: int = 0
    """Rows that are not used."""
    bad_codes: Counter[str] = field(default_factory=Counter)
    kept: list[BadRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Rows that the checks found, by code."""
    first: dict[str, list[Finding]] = field(default_factory=dict)
    """The first findings of each code."""

    def wants(self, code: str) -> bool:
        """Whether the check `code` is to be made at all."""
        return self.checks[code].action != "Ignore"

    def add(self, finding: Finding) -> None:
        """Take in a bad row, or what a check found; the latter goes unheard when it is ignored."""
        if isinstance(finding, BadRow):
            step = finding.next_step or next_step(finding.code)
            finding = replace(finding, next_step=step)
            self.bad += 1
            self.bad_codes[finding.code] += 1
            if len(self.kept) < KEPT:
                self.kept.append(finding)
        elif not self.wants(finding.code):
            return
        else:
            finding = self._filled(finding)
            self.counts[finding.code] += finding.rows
        examples = self.first.setdefault(finding.code, [])
        if len(examples) < FIRST:
            examples.append(finding)
        self._write(vars(finding))

    def _filled(self, finding: Finding) -> Finding:
        check = self.checks[finding.code]
        severity: Severity = "Error" if check.action == "Fail" else "Warning"
        step = finding.next_step or check.next_step
        return replace(finding, severity=severity, next_step=step)

    def report(self) -> dict[str, Any]:
        """The bad rows, for report.json."""
        return {
            "count": self.bad,
            "codes": dict(sorted(self.bad_codes.items())),
            "listed": [dict(vars(bad)) for bad in self.kept],
        }
