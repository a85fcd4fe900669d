"""Rows to learn that hold a long run of words of another side, or an item of a benchmark.

What is found is told as findings; what is to go, goes. The rows to learn go by once, piece by piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import BenchmarkSource, PrepareSpec

from ..dedup import Kept, without
from ..findings import Finding
from ..intake import Intake
from ..report import EXAMPLES, where
from ..split import DROPPED, TEST, VALIDATION, Sides
from ..spool import Mask, Rows, Spool
from .benchmarks import Items, read_items
from .quoted import SAMPLE, Quoted, quoted
from .search import Found, search
from .watch import Watch, open_watch

LEAK, OF_VALIDATION, CONTAMINATED = "ngram-leak", "validation-leak", "contaminated"


def watch(
    spec: PrepareSpec, intake: Intake, spool: Spool, rows: Rows, kept: Kept, given_test: Mask
) -> Watch | None:
    """What is to see the rows that an earlier search reads; None where `check` reads them all anyway."""
    most = None if _every(spec, intake) else SAMPLE
    return open_watch(spec, spool, rows, kept, given_test, most)


def check(
    spec: PrepareSpec,
    intake: Intake,
    told: dict[str, Any],
    spool: Spool,
    rows: Rows,
    kept: Kept,
    sides: Sides,
    seen: Watch | None = None,
) -> tuple[Kept, Sides]:
    """Find and tell the rows; returns what stays once those that are to go have gone.

    `seen` has looked at rows before.
    """
    leaked, contaminated = kept.leaked.copy(), kept.contaminated.copy()
    named = _by_name(spec.contamination)
    benchmarks = [read_items(parts, spec.leakage.ngram) for parts in named]
    found = [Found(items.known) for items in benchmarks]
    if spec.leakage.action == "Ignore":
        search(found, spool, rows, (sides >= 0) & (sides != TEST))
    else:
        every, ngram = _every(spec, intake), spec.leakage.ngram
        held = quoted(found, ngram, spool, rows, sides, every=every, watch=seen)
        _tell_quoted(spec, intake, told, rows, sides, held)
        if spec.leakage.action == "Remove":
            leaked[[*held.test.rows, *held.validation.rows]] = True
    told["contamination"] = []
    for (benchmark, *_), items, one in zip(named, benchmarks, found, strict=True):
        _tell_benchmark(intake, rows, benchmark, items, one)
        told["contamination"].append(_report(intake, rows, benchmark, items, one))
        if benchmark.action == "Remove":
            contaminated[one.rows] = True
    gone = leaked | contaminated
    kept = without(kept, leaked=leaked, contaminated=contaminated)
    return kept, np.where(gone, DROPPED, sides).astype(sides.dtype)


def _every(spec: PrepareSpec, intake: Intake) -> bool:
    """Whether all of a large validation side is looked for: where what is found has consequences."""
    return spec.leakage.action == "Remove" or intake.findings.checks[OF_VALIDATION].action == "Fail"


def _by_name(given: Sequence[BenchmarkSource]) -> list[list[BenchmarkSource]]:
    """A pattern in a bucket became several sources of one name."""
    named: dict[str, list[BenchmarkSource]] = {}
    for benchmark in given:
        named.setdefault(benchmark.name, []).append(benchmark)
    return list(named.values())


def _tell_quoted(
    spec: PrepareSpec,
    intake: Intake,
    told: dict[str, Any],
    rows: Rows,
    sides: Sides,
    held: Quoted,
) -> None:
    settings = {"ngram": spec.leakage.ngram, "action": spec.leakage.action}
    _tell_leaks(spec, intake, rows, held.test, LEAK, "test side")
    told["ngram_leaks"] = {**settings, "count": len(held.test.rows)}
    if not (sides == VALIDATION).any():
        return
    _tell_leaks(spec, intake, rows, held.validation, OF_VALIDATION, "validation split")
    told["validation_leaks"] = {
        **settings,
        "count": len(held.validation.rows),
        "looked_for": len(held.looked_for),
        "of": int((sides == VALIDATION).sum()),
    }


def _tell_leaks(
    spec: PrepareSpec, intake: Intake, rows: Rows, leaks: Found, code: str, side: str
) -> None:
    done = "; it is dropped" if spec.leakage.action == "Remove" else ""
    for number, (row, item, size) in enumerate(leaks.in_order()):
        other = where(intake, rows, item)
        message = f"shares {size} words in a row with {other} of the {side}{done}"
        _add(intake, rows, row, code, message, leaks.said[number : number + 1], other)


def _tell_benchmark(
    intake: Intake, rows: Rows, benchmark: BenchmarkSource, items: Items, found: Found
) -> None:
    done = "; it is dropped" if benchmark.action == "Remove" else ""
    for number, (row, item, size) in enumerate(found.in_order()):
        other = items.where(item)
        message = f"holds {size} words of an item of {benchmark.name} ({other}){done}"
        _add(intake, rows, row, CONTAMINATED, message, found.said[number : number + 1], other)
    count = len(found.rows)
    what = "dropped" if benchmark.action == "Remove" else "kept"
    value = f"{count} {'row' if count == 1 else 'rows'} {what}" if count else "no row"
    why = f"rows to learn that hold one of the {len(items)} items of {benchmark.uri[-200:]}"
    intake.settle([Resolved(name=f"data.contamination.{benchmark.name}", value=value, reason=why)])


def _add(
    intake: Intake, rows: Rows, row: int, code: str, message: str, said: list[str], other: str
) -> None:
    file, line = intake.files[rows.files[row]].name, int(rows.lines[row])
    intake.findings.add(Finding(line, code, message, "".join(said), file, other=other))


def _report(
    intake: Intake, rows: Rows, benchmark: BenchmarkSource, items: Items, found: Found
) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "uri": benchmark.uri,
        "action": benchmark.action,
        "items": len(items),
        "items_found": len(set(found.items)),
        "rows": len(found.rows),
        "examples": [where(intake, rows, row) for row in found.rows[:EXAMPLES]],
    }
