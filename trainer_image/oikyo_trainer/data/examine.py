"""From the sources to rows that are read, cleaned, split and judged: all but the writing.

The recipe that the prepare stage and `oikyo data check` share; reads top to bottom, each part has its
module. Writes below `staging` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oikyo.api.stages import PrepareSpec, Source

from . import conflicts, grouping, judge, labels, lengths, lessons, report, texts, times
from .checks import check_bad_rows, check_rows, check_split
from .clean import repeats
from .columns import Shape
from .dedup import Kept, Mask, dedup
from .intake import Intake, Tell, take_in
from .leakage import leaks
from .near import near
from .split import SIDES, Sides, assign, placed_by
from .spool import Rows, Spool

Sources = tuple[tuple[Source, ...], tuple[Source, ...]]
"""To learn from, and to test on."""


@dataclass(frozen=True)
class Examined:
    """Rows that may be trained on."""

    spool: Spool
    rows: Rows
    kept: Kept
    sides: Sides
    judged: tuple[judge.Judged, ...]
    longest: int = 0
    """Tokens of the longest row; 0: not counted."""
    lessons: lessons.Lessons = field(default_factory=lessons.Lessons)


def examine(
    spec: PrepareSpec,
    sources: Sources,
    *,
    staging: Path,
    intake: Intake,
    told: dict[str, Any],
    tell: Tell,
    model: Mapping[str, Path] | None,
) -> Examined:
    """Read, clean, split, check; Refused when the rows may not be trained on.

    `intake` and `told`, the report, are filled as far as it goes, also on refusal. `model` has the
    files of the base model; without it lengths are not checked.
    """
    spool = take_in(spec, *sources, open_spool=_spool_in(staging), intake=intake, tell=tell)
    rows = spool.columns()
    check_bad_rows(intake.findings, spec.max_bad_rows)
    check_rows(intake, rows)
    given_test = np.array([file.test for file in intake.files], dtype=bool)[rows.files]
    kept = dedup(rows, given_test)
    repeats.tell_exact(intake, rows, kept, given_test)
    if spec.duplicates.near != "Ignore":
        alike = near.find(spool, rows, kept, given_test, spec.duplicates, staging / near.FILE)
        near.tell(intake, spool, rows, alike, spec.duplicates)
        if spec.duplicates.near == "Remove":
            repeats.tell_near(
                intake, rows, alike.rows, alike.partners, alike.similarity, alike.leaked
            )
        kept = near.apply(kept, alike, spec.duplicates)
        told["near_duplicates"] = near.report(alike, spec.duplicates)
    if spec.split.group_by:
        kept = grouping.by_group(rows, kept, given_test)
    sides = assign(rows, kept, given_test, spec.split)
    if spec.split.group_by:
        kept, sides = grouping.apart(kept, sides)
    if spec.split.time_by and rows.members is not None:
        masks = {name: (sides == side) & ~given_test for side, name in enumerate(SIDES)}
        placed = placed_by(rows, kept, given_test, spec.split)
        told["times"] = times.report(spec.split.time_by, rows.members[:, 0], placed, masks)
        intake.settle(times.resolved(told["times"]))
    kept, sides = leaks.check(spec, intake, told, spool, rows, kept, sides)
    sides, learning = _lessons(spec, intake, rows, kept, given_test, sides, told)
    conflicts.check(intake, rows, kept)
    labels.check(intake, rows, sides)
    if spec.slice_by:
        told["slices"] = _slices(intake, rows, sides, spool)
    texts.check(intake, rows, kept.mask, spool, judge.personal_kinds(spec))
    longest = 0
    if model is not None:
        longest = lengths.check(intake, rows, kept.mask, spool, spec, model, staging / "tokenizer")
    judged = judge.judge(intake.findings, len(rows))
    told.update(report.of_rows(intake, rows, kept, sides, judged))
    judge.refuse(judged)
    check_split(spec, rows, kept, sides, given_test, intake)
    return Examined(spool, rows, kept, sides, judged, longest, learning)


def _lessons(
    spec: PrepareSpec,
    intake: Intake,
    rows: Rows,
    kept: Kept,
    given_test: Mask,
    sides: Sides,
    told: dict[str, Any],
) -> tuple[Sides, lessons.Lessons]:
    """What the training is told of each row: how often it is seen, and its fold."""
    times, sides = lessons.weigh(intake, rows, given_test, sides, spec.split.seed)
    folds = lessons.fold(rows, kept, given_test, sides, spec.folds) if spec.folds else None
    made = lessons.Lessons(times, folds)
    if times is not None:
        told["weights"] = lessons.report(intake, rows, sides, made)
    if folds is not None:
        told["folds"] = lessons.fold_report(sides, folds, spec.folds)
    return sides, made


def _slices(intake: Intake, rows: Rows, sides: Sides, spool: Spool) -> dict[str, Any] | None:
    from .insight import groups  # scipy's statistics, half a second that only slices need

    return groups.check(intake, groups.of_rows(intake, rows, sides, spool))


def _spool_in(staging: Path) -> Callable[[Shape], Spool]:
    return lambda shape: Spool(staging / "rows.arrow", shape)
