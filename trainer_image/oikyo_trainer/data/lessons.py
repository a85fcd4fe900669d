"""How often a row is learned in an epoch (data.sources[].weight), and its fold of a cross-validation.

Both follow from the content of the row, and stand beside the rows in a version: the training reads them,
nothing else need know. A version without weights and folds has neither column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oikyo.api.jobstatus import Resolved

from ..errors import Refused
from .dedup import Kept, group
from .intake import Intake
from .near.shingles import mix
from .split import DROPPED, TEST, TRAIN, Sides, of_families
from .spool import Index, Mask, Rows

TIMES, FOLD = "learn.times", "learn.fold"
"""Columns of a version."""


@dataclass(frozen=True)
class Lessons:
    """What the training is told of each row."""

    times: npt.NDArray[np.int32] | None = None
    folds: npt.NDArray[np.int32] | None = None

    def with_made(self, sources: Index) -> Lessons:
        """With rows that were made of the rows `sources`: each is told what its source is told."""
        return Lessons(
            *(
                None if values is None else np.concatenate([values, values[sources]])
                for values in (self.times, self.folds)
            )
        )

    def columns(self, wanted: Index) -> list[Any]:  # pyarrow is untyped
        return [pa.array(values[wanted]) for values in self._given().values()]

    def fields(self) -> list[Any]:
        return [pa.field(name, pa.int32()) for name in self._given()]

    def content(self, wanted: Index) -> bytes:
        """What goes into the digest of a version."""
        return b"".join(
            name.encode() + values[wanted].astype("<i4").tobytes()
            for name, values in self._given().items()
        )

    def _given(self) -> dict[str, npt.NDArray[np.int32]]:
        both = {TIMES: self.times, FOLD: self.folds}
        return {name: values for name, values in both.items() if values is not None}


def weigh(
    intake: Intake, rows: Rows, given_test: Mask, sides: Sides, seed: int
) -> tuple[npt.NDArray[np.int32] | None, Sides]:
    """How often each row is seen in an epoch; rows of the training side that are not drawn go.

    A weight of 2.3 shows each row twice, and three of ten once more: which, its hash decides. A row that
    stands in several sources has the greatest of their weights.
    """
    weights = np.array([float(file.weight) for file in intake.files])
    own = np.array([not file.test for file in intake.files])
    if (weights[own] == 1).all():
        return None, sides
    weight = _greatest(rows, weights[rows.files], ~given_test)
    whole = np.floor(weight)
    uniform = (
        mix(rows.rows[:, 1] ^ mix(np.array([seed], dtype=np.uint64))) >> np.uint64(11)
    ) / 2**53
    times = (whole + (uniform < weight - whole)).astype(np.int32)
    times[sides != TRAIN] = 1
    sides = np.where(times == 0, DROPPED, sides).astype(sides.dtype)
    _tell(intake, rows, sides, times)
    return times, sides


def _greatest(rows: Rows, weight: npt.NDArray[np.float64], own: Mask) -> npt.NDArray[np.float64]:
    groups = group(rows.rows)
    greatest = np.zeros(int(groups.max(initial=-1)) + 1)
    np.maximum.at(greatest, groups[own], weight[own])
    return np.where(own, greatest[groups], 1.0)


def _tell(intake: Intake, rows: Rows, sides: Sides, times: npt.NDArray[np.int32]) -> None:
    learnt = sides == TRAIN
    given = sorted({file.weight for file in intake.files if not file.test}, key=float)
    value = f"{int(times[learnt].sum())} rows an epoch of {int(learnt.sum())} different ones"
    why = f"data.sources[].weight: {', '.join(given)}; the sides of the split are not weighed"
    intake.settle([Resolved(name="data.sources.weight", value=value, reason=why)])


def report(intake: Intake, rows: Rows, sides: Sides, lessons: Lessons) -> list[dict[str, Any]]:
    """For each source: its weight, its different training rows, and how many an epoch shows."""
    told = []
    for number, file in enumerate(intake.files):
        own = (rows.files == number) & (sides == TRAIN)
        seen = lessons.times[own].sum() if lessons.times is not None else own.sum()
        if not file.test:
            told.append(
                {
                    "name": file.name,
                    "weight": file.weight,
                    "train_rows": int(own.sum()),
                    "rows_an_epoch": int(seen),
                }
            )
    return told


def fold(
    rows: Rows, kept: Kept, given_test: Mask, sides: Sides, folds: int
) -> npt.NDArray[np.int32]:
    """The fold of every row, from 0: families and groups stay whole. Refused when one is empty.

    Taken from the second half of the hash of which the first gives the side.
    """
    if rows.members is not None:
        uniform = rows.members[:, 1]
    else:
        uniform = of_families(rows.inputs[:, 1], kept.families, ~given_test)
    found = (uniform // np.uint64(2**64 // folds + 1)).astype(np.int32)
    counts = np.bincount(found[(sides >= 0) & (sides != TEST)], minlength=folds)
    if (least := int(counts.argmin())) is not None and not counts[least]:
        raise Refused(
            "FoldTooSmall",
            f"fold {least + 1} of the {folds} of evaluation.crossValidation has no row "
            f"({_counts(counts)} rows in the folds)",
            next_step="Lower crossValidation.folds, or add data",
        )
    return found


def fold_report(sides: Sides, folds: npt.NDArray[np.int32], count: int) -> list[int]:
    """Rows to learn of each fold, for report.json."""
    return np.bincount(folds[(sides >= 0) & (sides != TEST)], minlength=count).tolist()


def _counts(counts: Sequence[int] | Index) -> str:
    return ", ".join(str(int(count)) for count in counts)
