"""Rows that are left out because another one stands for them, in the log of the cleaning."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oikyo.api.clean import CleanStep

from ..dedup import Kept, repeated
from ..intake import Intake
from ..spool import Index, Mask, Rows
from .log import Cleaned


def tell_exact(intake: Intake, rows: Rows, kept: Kept, given_test: Mask) -> None:
    """Duplicates beside the row that stays, leaked rows beside that of the test set."""
    gone = np.flatnonzero(kept.duplicate)
    if len(gone):
        found, groups = repeated(rows.rows)
        ordered = np.argsort(found)
        found, same = found[ordered], groups[ordered] * 2 + given_test[found[ordered]]
        stays = found[_first(same, ~kept.duplicate[found])]
        own = same[kept.duplicate[found]]
        _tell(intake, rows, "duplicates", "the same row as", gone, stays[own])
    gone = np.flatnonzero(kept.leaked)
    if len(gone):
        stays = _first(kept.groups, given_test & kept.mask)
        why = "its input stands in the test set"
        _tell(intake, rows, "leaked", why, gone, stays[kept.groups[gone]])


def tell_near(
    intake: Intake,
    rows: Rows,
    gone: Index,
    partners: Index,
    share: npt.NDArray[np.float64],
    leaked: Mask,
) -> None:
    """Near-duplicates that are removed, beside the row that each resembles."""
    for row, other, alike, tests in zip(gone, partners, share, leaked, strict=True):
        step: CleanStep = "leaked" if tests else "nearDuplicates"
        _tell_one(intake, rows, step, f"{alike:.0%} like", int(row), int(other))


def _first(groups: Index, stays: Mask) -> Index:
    """Of each group the first row that stays, -1 where none does."""
    first = np.full(int(groups.max(initial=-1)) + 1, -1, dtype=np.int64)
    index = np.flatnonzero(stays)[::-1]
    first[groups[index]] = index
    return first


def _tell(
    intake: Intake, rows: Rows, step: CleanStep, why: str, gone: Index, others: Index
) -> None:
    for row, other in zip(gone.tolist(), others.tolist(), strict=True):
        _tell_one(intake, rows, step, why, row, other)


def _tell_one(intake: Intake, rows: Rows, step: CleanStep, why: str, row: int, other: int) -> None:
    place = f"{intake.files[rows.files[other]].name}:{rows.lines[other]}"
    file, line = intake.files[rows.files[row]].name, int(rows.lines[row])
    intake.cleaned.add(Cleaned(file, line, step, "dropped", f"{why} {place}", other=place))
