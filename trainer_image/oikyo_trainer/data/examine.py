"""From the sources to rows that are read, cleaned, split and judged: all but the writing.

The recipe that the prepare stage and `oikyo data check` share; reads top to bottom, each part has its
module. Writes below `staging` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oikyo.api.stages import PrepareSpec, Source

from . import (
    conflicts,
    frames,
    grouping,
    heap,
    judge,
    labels,
    lengths,
    lessons,
    passing,
    report,
    targets,
    texts,
    times,
    workers,
)
from .checks import check_bad_rows, check_rows, check_split
from .clean import repeats
from .dedup import Kept, dedup
from .insight.asked import asked
from .intake import Intake, Tell, take_in
from .leakage import leaks
from .leakage.watch import Watch
from .near import near
from .split import SIDES, Sides, assign, placed_by
from .spool import SPOOL, Mask, Rows, Spool

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


@dataclass(frozen=True)
class _Read:
    """Rows that were read, and where what is found about them is told."""

    spec: PrepareSpec
    intake: Intake
    told: dict[str, Any]
    spool: Spool
    rows: Rows
    given_test: Mask
    """Rows of data.testSources."""


def examine(
    spec: PrepareSpec,
    sources: Sources,
    *,
    staging: Path,
    intake: Intake,
    told: dict[str, Any],
    tell: Tell,
    model: Mapping[str, Path] | None,
    at_a_glance: bool = False,
) -> Examined:
    """Read, clean, split, check; Refused when the rows may not be trained on.

    `intake` and `told`, the report, are filled as far as it goes, also on refusal. `model` has the
    files of the base model; without it lengths are not checked. `at_a_glance`: topics are told also where
    no check asks for them.
    """
    heap.keep()
    frames.leave_out()
    spool = take_in(spec, *sources, spool=staging / SPOOL, intake=intake, tell=tell)
    rows = spool.columns()
    check_bad_rows(intake.findings, spec.max_bad_rows)
    check_rows(intake, rows)
    given_test = np.array([file.test for file in intake.files], dtype=bool)[rows.files]
    read = _Read(spec, intake, told, spool, rows, given_test)
    kept = dedup(rows, given_test)
    repeats.tell_exact(intake, rows, kept, given_test)
    look = partial(_look_at_texts, read, kept, model, staging)
    letters = int(rows.lengths.sum(dtype=np.int64))
    # Texts are looked at beside the search for rows that resemble each other, which has one CPU at times.
    with workers.apart(look, letters) as looked:
        kept, seen = _unlike(read, kept, staging)
        kept, sides = _placed(read, kept)
        kept, sides = leaks.check(spec, intake, told, spool, rows, kept, sides, seen)
        sides, learning = _lessons(read, kept, sides)
        _look_into(read, kept, sides, at_a_glance=at_a_glance)
        longest = _tell_of_texts(read, kept, looked)
    judged = judge.judge(intake.findings, len(rows))
    told.update(report.of_rows(intake, rows, kept, sides, judged))
    judge.refuse(judged)
    check_split(spec, rows, kept, sides, given_test, intake)
    return Examined(spool, rows, kept, sides, judged, longest, learning)


def _unlike(read: _Read, kept: Kept, staging: Path) -> tuple[Kept, Watch | None]:
    """The rows without near-duplicates and near-leaks, where they are looked for.

    With what was seen on the way of runs of the sides that judge.
    """
    spec, intake, rows, given_test = read.spec, read.intake, read.rows, read.given_test
    if spec.duplicates.near == "Ignore":
        return kept, None
    seen = leaks.watch(spec, intake, read.spool, rows, kept, given_test)
    at = staging / near.FILE
    alike = near.find(read.spool, rows, kept, given_test, spec.duplicates, at, seen)
    near.tell(intake, read.spool, rows, alike, spec.duplicates)
    if spec.duplicates.near == "Remove":
        repeats.tell_near(intake, rows, alike.rows, alike.partners, alike.similarity, alike.leaked)
    read.told["near_duplicates"] = near.report(alike, spec.duplicates)
    return near.apply(kept, alike, spec.duplicates), seen


def _placed(read: _Read, kept: Kept) -> tuple[Kept, Sides]:
    """The side of each row: by its content, its group or its time."""
    split, rows, given_test = read.spec.split, read.rows, read.given_test
    if split.group_by:
        kept = grouping.by_group(rows, kept, given_test)
    sides = assign(rows, kept, given_test, split, several=read.intake.several)
    if split.group_by:
        kept, sides = grouping.apart(kept, sides)
    if split.time_by and rows.members is not None:
        masks = {name: (sides == side) & ~given_test for side, name in enumerate(SIDES)}
        placed = placed_by(rows, kept, given_test, split)
        read.told["times"] = times.report(split.time_by, rows.members[:, 0], placed, masks)
        read.intake.settle(times.resolved(read.told["times"]))
    return kept, sides


def _lessons(read: _Read, kept: Kept, sides: Sides) -> tuple[Sides, lessons.Lessons]:
    """What the training is told of each row: how often it is seen, and its fold."""
    spec, rows, given_test = read.spec, read.rows, read.given_test
    seen, sides = lessons.weigh(read.intake, rows, given_test, sides, spec.split.seed)
    folds = lessons.fold(rows, kept, given_test, sides, spec.folds) if spec.folds else None
    made = lessons.Lessons(seen, folds)
    if seen is not None:
        read.told["weights"] = lessons.report(read.intake, rows, sides, made)
    if folds is not None:
        read.told["folds"] = lessons.fold_report(sides, folds, spec.folds)
    return sides, made


def _look_into(read: _Read, kept: Kept, sides: Sides, *, at_a_glance: bool) -> None:
    """The checks of answers, labels and groups."""
    conflicts.check(read.intake, read.rows, kept)
    labels.check(read.intake, read.rows, sides)
    targets.check(read.intake, read.rows, sides)
    if read.spec.slice_by:
        from .insight import groups  # scipy, a tenth of a second

        sliced = groups.of_rows(read.intake, read.rows, sides, read.spool)
        read.told["slices"] = groups.check(read.intake, sliced)
    if asked(read.intake, read.rows):
        from .insight import job  # it loads scipy where it weighs terms

        read.told["insight"] = job.check(read.intake, read.rows, sides, read.spool)
    elif at_a_glance:
        from .insight import glance

        read.told["insight"] = glance.told(read.intake, read.rows, sides, read.spool)


def _look_at_texts(
    read: _Read, kept: Kept, model: Mapping[str, Path] | None, staging: Path
) -> Iterator[tuple[list[texts.Found], int]]:
    """What single texts show, piece by piece, and their lengths where there is a model.

    With the tokens of the longest row so far.
    """
    looks: list[passing.Look] = [
        texts.Faults(read.intake, read.rows, judge.personal_kinds(read.spec))
    ]
    measured = None
    if model is not None:
        scratch = staging / "tokenizer"
        measured = lengths.Lengths(read.spool.schema, read.spec, model, scratch)
        looks.append(measured)
    for found in passing.go_by(read.spool, read.rows, kept.mask, looks):
        yield found, measured.longest if measured else 0


def _tell_of_texts(read: _Read, kept: Kept, looked: Iterable[tuple[list[texts.Found], int]]) -> int:
    """Tell what was found of the rows that stay; the longest row's tokens."""
    longest = 0
    for found, so_far in looked:
        longest = max(longest, so_far)
        for one in found:
            if kept.mask[one.row]:
                read.intake.found(one.code, read.rows, one.row, one.message, one.shown)
    return longest
