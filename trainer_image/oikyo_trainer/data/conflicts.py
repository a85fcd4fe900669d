"""Rows with the same input and different answers: only a person knows which one is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..numbers import text_of
from .dedup import Kept
from .intake import Intake
from .report import where
from .spool import Rows
from .texts import tell

CODE = "conflicting-answers"


def check(intake: Intake, rows: Rows, kept: Kept) -> None:
    """A finding for each kept row whose input another kept row answers differently."""
    if intake.findings.wants(CODE):
        tell(intake, rows, CODE, _found(intake, rows, kept))


def _found(intake: Intake, rows: Rows, kept: Kept) -> Iterator[tuple[int, str]]:
    groups = kept.questions[kept.conflicts]
    order = np.lexsort((kept.conflicts, groups))
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0]) if len(order) else order
    for members in np.split(kept.conflicts[order], starts[1:]) if len(order) else ():
        for row in members.tolist():
            other = int(members[0] if row != members[0] else members[1])
            message = f"{_answer(rows, row)}; {where(intake, rows, other)} {_answer(rows, other)}"
            yield row, message


def _answer(rows: Rows, row: int) -> str:
    if rows.numbers is not None:
        return f"has the number {text_of(float(rows.numbers[row]))}"
    if not rows.labels:
        return "has the same input and another answer"
    return f"has the label {rows.labels[rows.label_codes[row]]!r}"
