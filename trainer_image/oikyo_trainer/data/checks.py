"""What is refused before anything is trained: data on which a training or a verdict would be void."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from oikyo.api.stages import PrepareSpec

from .. import labelset
from ..errors import Refused
from . import targets
from .dedup import Kept
from .findings import Findings, excerpt
from .intake import Intake
from .split import SIDES, TEST, TRAIN, VALIDATION, Sides
from .spool import Mask, Rows

SHOWN = 5
MANY_LABELS = 200
"""So many classes are looked at twice: the column may be free text."""


def check_bad_rows(findings: Findings, limit: int) -> None:
    if findings.bad <= limit:
        return
    first = findings.kept[0]
    rows = "row" if findings.bad == 1 else "rows"
    raise Refused(
        "InvalidData",
        f"{findings.bad} bad {rows}, data.maxBadRows is {limit}; the first: {first.sentence()}",
        evidence="\n".join(bad.sentence() for bad in findings.kept[:SHOWN]),
        next_step="Mend the rows, or raise data.maxBadRows to drop them",
    )


def check_rows(intake: Intake, rows: Rows) -> None:
    """At least one usable row in all, and answers that something can be learnt from."""
    check_some(intake)
    check_answers(intake, rows)


def check_some(intake: Intake) -> None:
    """At least one usable row in all."""
    learn = sum(file.usable for file in intake.files if not file.test)
    if not learn:
        raise Refused(
            "NoRows",
            f"no usable row is left of {intake.rows}{_cleaned_away(intake)}",
            evidence="\n".join(bad.sentence() for bad in intake.findings.kept[:SHOWN]),
            next_step="Mend the rows: each needs the columns of the task",
        )


def check_answers(intake: Intake, rows: Rows) -> None:
    """At least two classes or two numbers, and a label that is a class."""
    columns = intake.columns
    if rows.numbers is not None and columns is not None:
        targets.check_rows(rows, columns.names["label"])
    if columns is None or columns.shape != "classification":
        return
    name = columns.names["label"]
    if len(rows.labels) == 1:
        raise Refused(
            "SingleClass",
            f"every row has the label {excerpt(rows.labels[0])!r} (column {name!r}): "
            "there is nothing to tell apart",
            next_step="Add rows of a second class, or set data.fields.label to another column",
        )
    if columns.separator:
        _check_names(labelset.all_names(rows.labels), name, len(rows))
    elif len(rows.labels) > max(MANY_LABELS, len(rows) // 2):
        raise Refused(
            "LabelIsNoClass",
            f"column {name!r} has {len(rows.labels)} different values in {len(rows)} rows: "
            "that is no class",
            next_step="Set data.fields.label to the column with the class",
        )


def _check_names(names: tuple[str, ...], column: str, rows: int) -> None:
    """Labels of rows that may have several: some, and not as many as rows."""
    if 1 <= len(names) <= max(MANY_LABELS, rows // 2):
        return
    raise Refused(
        "LabelIsNoClass",
        f"column {column!r} has {len(names)} different labels in {rows} rows",
        next_step="Set data.fields.labelSeparator to what stands between the labels of a row",
    )


def _cleaned_away(intake: Intake) -> str:
    away = [f"{one.name} {one.dropped}" for one in intake.cleaned.steps() if one.dropped]
    return f"; data.clean left out: {', '.join(away)}" if away else ""


def check_split(
    spec: PrepareSpec, rows: Rows, kept: Kept, sides: Sides, given_test: Mask, intake: Intake
) -> None:
    """Enough rows on every side, and no class in the test set that training never sees."""
    counts = [int((sides == side).sum()) for side in range(len(SIDES))]
    if not counts[TRAIN]:
        raise Refused(
            "NoTrainingRows",
            f"the training split has no row ({_away(kept)})",
            next_step="Add data, or lower split.test and split.validation",
        )
    targets.check_sides(rows, sides)
    if rows.labels:
        _check_unseen(rows, sides, intake, given=bool(given_test.any()))
    if counts[TEST] < spec.min_test_rows:
        raise _few_test_rows(spec, counts[TEST], kept, given=bool(spec.test_sources))
    if not counts[VALIDATION] and float(spec.split.validation) > 0:
        raise Refused(
            "ValidationTooSmall",
            f"the validation split has no row; split.validation is {spec.split.validation}",
            next_step='Add data, raise split.validation, or set it to "0" to train without',
        )


def _few_test_rows(spec: PrepareSpec, count: int, kept: Kept, *, given: bool) -> Refused:
    where = "data.testSources give" if given else "test split has"
    step = "add data" if given else "add data or raise split.test"
    share = "" if given else f" (split.test is {spec.split.test})"
    distinct = len(np.unique(kept.groups[kept.mask]))
    few = f"; the rows have only {distinct} different inputs" if distinct < 10 else ""
    rows = "row" if count == 1 else "rows"
    return Refused(
        "TestSplitTooSmall",
        f"{where} {count} {rows}{share}, data.minTestRows is {spec.min_test_rows}: {step}{few}",
        next_step=f"{step[0].upper()}{step[1:]}; or lower data.minTestRows and trust the verdict less",
    )


def _away(kept: Kept) -> str:
    told = f"{int(kept.duplicate.sum())} duplicates, {int(kept.leaked.sum())} also in the test or validation set"
    benchmarks = int(kept.contaminated.sum())
    return f"{told}, {benchmarks} with items of a benchmark" if benchmarks else told


def _check_unseen(rows: Rows, sides: Sides, intake: Intake, *, given: bool) -> None:
    learnt = np.unique(rows.label_codes[sides == TRAIN])
    if intake.several:
        _check_unseen_names(rows, sides, intake, learnt)
        return
    if len(learnt) == 1:
        raise Refused(
            "SingleClass",
            f"every training row has the label {excerpt(rows.labels[learnt[0]])!r}: "
            "there is nothing to tell apart",
            next_step="Add training rows of a second class",
        )
    for side in (TEST, VALIDATION):
        unseen = np.setdiff1d(rows.label_codes[sides == side], learnt)
        if len(unseen):
            raise _unseen(rows, sides, intake, side, unseen, learnt, given)


def _check_unseen_names(rows: Rows, sides: Sides, intake: Intake, learnt: Any) -> None:
    """A set of labels may be new, a label in it may not."""
    known = set(labelset.all_names(rows.labels[code] for code in learnt))
    for side in (TEST, VALIDATION):
        for code in np.unique(rows.label_codes[sides == side]):
            for name in labelset.names_of(rows.labels[code]):
                if name in known:
                    continue
                row = int(np.flatnonzero((rows.label_codes == code) & (sides == side))[0])
                where = f"{intake.files[rows.files[row]].name}:{rows.lines[row]}"
                raise Refused(
                    "UnseenLabel",
                    f"the {SIDES[side]} split has the label {excerpt(name)!r} that no training row "
                    f"has ({where})",
                    evidence=where,
                    next_step="Add training rows with that label, or take it out of that row",
                )


def _unseen(
    rows: Rows,
    sides: Sides,
    intake: Intake,
    side: int,
    unseen: Any,
    learnt: Any,
    given: bool,
) -> Refused:  # Any: arrays of label codes
    label = rows.labels[unseen[0]]
    row = int(np.flatnonzero((rows.label_codes == unseen[0]) & (sides == side))[0])
    where = f"{intake.files[rows.files[row]].name}:{rows.lines[row]}"
    known = [rows.labels[code] for code in learnt]
    near = difflib.get_close_matches(label, known, n=1, cutoff=0.8)
    hint = f"Did you mean {near[0]!r}?" if near else "Add training rows of that class"
    more = f" and {len(unseen) - 1} more labels" if len(unseen) > 1 else ""
    source = "data.testSources" if given and side == TEST else f"the {SIDES[side]} split"
    return Refused(
        "UnseenLabel",
        f"{source} has the label {excerpt(label)!r}{more} that no training row has ({where})",
        evidence=where,
        next_step=f"{hint}, or take the row out of the test set",
    )
