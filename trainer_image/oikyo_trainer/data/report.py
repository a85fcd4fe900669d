"""report.json: what was read, what was dropped and why, what is on each side; for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import Refused
from ..numbers import text_of
from . import targets
from .dedup import Kept
from .intake import Intake
from .judge import Judged
from .split import SIDES, Sides
from .spool import Index, Mask, Rows, counted, slices

EXAMPLES = 20
HISTOGRAM = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536, 1 << 20)
"""Upper ends of the buckets, in characters."""
UNEVEN = 0.5
"""A class whose share of a split is off by more than this factor is named."""

Report = dict[str, Any]  # JSON


def of_intake(intake: Intake) -> Report:
    """The part that is known even when the data is refused."""
    columns = intake.columns
    return {
        "rows": intake.rows,
        "shape": columns.shape if columns else None,
        "columns": dict(columns.names) if columns else {},
        "bad_rows": intake.findings.report(),
        "cleaned": intake.cleaned.report(),
        "sources": [
            {
                "name": file.name,
                "test": file.test,
                "rows": file.rows,
                "bad": file.bad,
                "cleaned": file.cleaned,
            }
            for file in intake.files
        ],
    }


def of_rows(
    intake: Intake, rows: Rows, kept: Kept, sides: Sides, judged: Sequence[Judged]
) -> Report:
    """The whole report."""
    report = of_intake(intake)
    for number, source in enumerate(report["sources"]):
        own = rows.files == number
        source["duplicates"] = int((kept.duplicate & own).sum())
        source["leaked"] = int((kept.leaked & own).sum())
        source["contaminated"] = int((kept.contaminated & own).sum())
        source["kept"] = int((kept.mask & own).sum())
    report["duplicates"] = _removed(intake, rows, np.flatnonzero(kept.duplicate))
    report["leaked"] = _removed(intake, rows, np.flatnonzero(kept.leaked))
    report["contaminated"] = _removed(intake, rows, np.flatnonzero(kept.contaminated))
    report["conflicts"] = _conflicts(intake, rows, kept)
    report["findings"] = [one.report() for one in judged]
    bounds = targets.bounds(rows, sides)
    report["splits"] = {name: _side(rows, sides == side, bounds) for side, name in enumerate(SIDES)}
    report["notes"] = _notes(rows, sides)
    return report


def refusal(error: Refused) -> Report:
    """Why a training would refuse the rows."""
    return {"reason": error.reason, "message": error.message, "next_step": error.next_step}


def where(intake: Intake, rows: Rows, row: int) -> str:
    return f"{intake.files[rows.files[row]].name}:{rows.lines[row]}"


def _removed(intake: Intake, rows: Rows, index: Index) -> Report:
    examples = [where(intake, rows, int(row)) for row in index[:EXAMPLES]]
    return {"count": len(index), "examples": examples}


def _conflicts(intake: Intake, rows: Rows, kept: Kept) -> Report:
    """Inputs with several answers: kept, because only a person knows which one is right."""
    by_input: dict[int, list[int]] = {}
    for row in kept.conflicts[np.argsort(kept.questions[kept.conflicts], kind="stable")]:
        members = by_input.setdefault(int(kept.questions[row]), [])
        members.append(int(row))
        if len(by_input) > EXAMPLES:
            break
    examples = [
        [_answer(intake, rows, row) for row in sorted(members)[:EXAMPLES]]
        for members in list(by_input.values())[:EXAMPLES]
    ]
    inputs = len(np.unique(kept.questions[kept.conflicts]))
    return {"rows": len(kept.conflicts), "inputs": inputs, "examples": examples}


def _answer(intake: Intake, rows: Rows, row: int) -> dict[str, str]:
    told = {"where": where(intake, rows, row)}
    if rows.numbers is not None:
        return {**told, "label": text_of(float(rows.numbers[row]))}
    return {**told, "label": rows.labels[rows.label_codes[row]]} if rows.labels else told


def _side(rows: Rows, own: Mask, bounds: targets.Bounds) -> Report:
    lengths = rows.lengths[own]
    counts = np.zeros(len(HISTOGRAM) + 1, dtype=np.int64)
    for part in slices(len(lengths)):
        counts += np.bincount(np.searchsorted(HISTOGRAM, lengths[part]), minlength=len(counts))
    side: Report = {
        "rows": len(lengths),
        "characters": {
            "total": int(lengths.sum(dtype=np.int64)),
            "median": float(np.median(lengths)) if len(lengths) else 0.0,
            "longest": int(lengths.max()) if len(lengths) else 0,
            "histogram": [
                {"up_to": end, "rows": int(count)}
                for end, count in zip(HISTOGRAM, counts[:-1], strict=True)
            ],
        },
    }
    if rows.labels:
        side["labels"] = _label_counts(rows, own)
    if rows.numbers is not None and len(lengths):
        side["numbers"] = targets.describe(rows.numbers[own], bounds)
    return side


def _label_counts(rows: Rows, own: Mask) -> dict[str, int]:
    counts = counted(rows.label_codes, own, len(rows.labels))
    return {rows.labels[code]: int(counts[code]) for code in np.argsort(rows.labels)}


def _notes(rows: Rows, sides: Sides) -> list[str]:
    """Where the shares of the classes differ between the splits: the hash decides, nobody evens out."""
    if not rows.labels:
        return []
    counts = [
        counted(rows.label_codes, sides == side, len(rows.labels)) for side in range(len(SIDES))
    ]
    together = np.sum(counts, axis=0)
    share = together / max(1, int(together.sum()))
    notes = []
    for side, name in enumerate(SIDES):
        total = int(counts[side].sum())
        if total:
            expected = share * total
            off = np.abs(counts[side] - expected) > UNEVEN * expected
            notes += [
                f"{name}: {counts[side][code]} rows of {rows.labels[code]!r}, "
                f"{expected[code]:.1f} would be its share"
                for code in np.flatnonzero(off)
            ]
    return notes[:EXAMPLES] + (
        [f"and {len(notes) - EXAMPLES} more"] if len(notes) > EXAMPLES else []
    )
