"""The round trip through a person: suspects out as CSV, decisions in, the corrected file out.

A row is known by its id, the hash of its input and answer, so the decision also reaches its
duplicates, and a file that changed since the export is noticed.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from oikyo.api import workspace as layout

from ..errors import Refused
from ..numbers import text_of
from .columns import choose
from .example import converter
from .findings import BadRow, excerpt
from .guess import Said, guess
from .insight.suspects import Suspect
from .insight.table import Table
from .intake import LOOK_AHEAD
from .keys import keys, normalise
from .readers import read
from .readers.row import Row
from .slicing import META
from .sources import data_files, here
from .split import SIDES
from .version import SYNTHETIC

COLUMNS = (
    "id",
    "source",
    "text",
    "label",
    "suggested_label",
    "confidence",
    "why",
    "decision",
)
KEEP, DROP, RELABEL = "keep", "drop", "relabel:"
SHOWN = 500
"""Characters of a text in review.csv."""
LONGEST_FIELD = 1 << 20


@dataclass(frozen=True)
class Decision:
    """What a person decided of one row."""

    line: int
    """Line of review.csv, for messages."""
    drop: bool
    label: str | None = None
    """The new label; None leaves the old one."""


@dataclass
class Applied:
    """What came of the decisions, in rows of the file."""

    kept: int = 0
    dropped: int = 0
    relabelled: int = 0
    bad: int = 0
    """Rows that cannot be read; they are left out."""


def export(table: Table, suspects: Sequence[Suspect]) -> str:
    """review.csv: one line for each suspect, the most suspicious first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for suspect in suspects:
        row = suspect.row
        confidence = "" if suspect.confidence is None else f"{suspect.confidence:.3f}"
        shown = [
            table.ids[row],
            table.sources[row],
            excerpt(table.texts[row], SHOWN),
            excerpt(table.answers[row], SHOWN),
            suspect.suggested,
            confidence,
            "; ".join(suspect.why),
            "",
        ]
        writer.writerow([_harmless(cell) for cell in shown])
    return out.getvalue()


def _harmless(cell: str) -> str:
    """A cell that a spreadsheet does not take for a formula (OWASP, CSV injection)."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def decisions(path: Path) -> dict[str, Decision]:
    """The decisions of a review.csv by row id; Refused with the line of the first bad one."""
    found: dict[str, Decision] = {}
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=_delimiter(file))
            for row in reader:
                _check_header(path, reader.fieldnames)
                decision = _decision(path, reader.line_num, row)
                _once(path, found, str(row["id"]), decision)
    except FileNotFoundError:
        step = "Name the file that oikyo data review -o wrote"
        raise _bad(path, 0, "does not exist", step) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _bad(path, 0, f"cannot be read: {error}", "Save it as CSV in UTF-8") from None
    return found


def _delimiter(file: TextIO) -> str:
    """What parts the cells: spreadsheets write a semicolon or tab where a comma stands in numbers."""
    header = file.readline()
    file.seek(0)
    return max(",;\t", key=header.count)


def _check_header(path: Path, names: Sequence[str] | None) -> None:
    missing = [name for name in ("id", "decision") if name not in (names or ())]
    if missing:
        raise _bad(path, 1, f"has no column {missing[0]!r}", "Export it with oikyo data review -o")


def _decision(path: Path, line: int, row: dict[str, Any]) -> Decision:
    said = (row["decision"] or "").strip()
    folded = said.casefold()
    if folded in ("", KEEP):
        return Decision(line, drop=False)
    if folded == DROP:
        return Decision(line, drop=True)
    if folded.startswith(RELABEL) and normalise(said[len(RELABEL) :]):
        return Decision(line, drop=False, label=normalise(said[len(RELABEL) :]))
    raise _bad(
        path,
        line,
        f"the decision {excerpt(said)!r} is none",
        "Write keep, drop or relabel:<label>; empty keeps the row",
    )


def _once(path: Path, found: dict[str, Decision], name: str, decision: Decision) -> None:
    other = found.setdefault(name, decision)
    if (other.drop, other.label) != (decision.drop, decision.label):
        message = f"decides otherwise of the row of line {other.line}"
        raise _bad(path, decision.line, message, "Leave one of the two decisions")


def _bad(path: Path, line: int, message: str, step: str) -> Refused:
    where = f"{path.name}:{line}" if line else path.name
    return Refused("InvalidReview", f"{where}: {message}", evidence=where, next_step=step)


def apply(
    data: Path,
    review: Path,
    output: Path,
    *,
    said: Said | None = None,
    new_labels: bool = False,
) -> Applied:
    """Write `data` as JSON Lines with the decisions of `review`; nothing is written when refused."""
    decided = decisions(review)
    rows = _version_rows(data) if (data / layout.MANIFEST).is_file() else None
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    done, met, labels = Applied(), set[str](), set[str]()
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows if rows is not None else _file_rows(data, said or Said(), done):
                labels.add(row.label)
                if row.id in decided:
                    met.add(row.id)
                _write(file, row, decided.get(row.id), review, done)
        _check_met(review, decided, met, data)
        if not new_labels:
            _check_labels(review, decided, labels)
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return done


@dataclass(frozen=True)
class _Row:
    id: str
    values: dict[str, Any]
    """As the file has them."""
    column: str
    """The column of the label; empty when rows have none."""
    label: str


def _write(file: TextIO, row: _Row, decision: Decision | None, review: Path, done: Applied) -> None:
    values = row.values
    if decision is not None and decision.drop:
        done.dropped += 1
        return
    if decision is not None and decision.label is not None:
        if not row.column:
            message = "relabel: was decided, and the rows have no label"
            raise _bad(review, decision.line, message, "Write keep or drop")
        values = {**values, row.column: decision.label}
        done.relabelled += 1
    done.kept += 1
    file.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")


def _check_met(review: Path, decided: dict[str, Decision], met: set[str], data: Path) -> None:
    for name, decision in decided.items():
        if name not in met:
            message = f"{data.name} has no row with the id {name[:40]!r}"
            step = "Apply the review to the data it was exported from"
            raise _bad(review, decision.line, message, step)


def _check_labels(review: Path, decided: dict[str, Decision], labels: set[str]) -> None:
    for decision in decided.values():
        if decision.label is not None and decision.label not in labels:
            near = difflib.get_close_matches(decision.label, sorted(labels), n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            message = f"no row has the label {excerpt(decision.label)!r}"
            step = f"{hint}--new-labels accepts labels that are new"
            raise _bad(review, decision.line, message, step)


def columns_of(
    data: Path, names: Sequence[str], ids: Sequence[str], said: Said
) -> dict[str, list[str | None]]:
    """The values of the columns `names` in the rows `ids`, as text; Refused when no row has one."""
    place = {name: number for number, name in enumerate(ids)}
    found: dict[str, list[str | None]] = {name: [None] * len(ids) for name in names}
    seen = set[str]()
    version = (data / layout.MANIFEST).is_file()
    for row in _version_rows(data) if version else _file_rows(data, said, Applied()):
        seen.update(row.values)
        if row.id in place:
            for name in names:
                value = row.values.get(name)
                found[name][place[row.id]] = None if value is None else str(value)
    for name in names:
        if name not in seen:
            there = ", ".join(sorted(seen))
            message = (
                f"{data.name} has no column {excerpt(name)!r}; its columns are {excerpt(there)}"
            )
            raise Refused("MissingColumn", message, next_step="Name one of them in --slice-by")
    return found


def _version_rows(folder: Path) -> Iterator[_Row]:
    for side in SIDES:
        with pq.ParquetFile(folder / f"{side}.parquet") as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    name = values.pop("id")
                    values.pop("source")
                    if values.pop(SYNTHETIC, None):
                        continue  # made of a row that is reviewed itself
                    label = values.get("label")
                    if isinstance(label, float):
                        label = text_of(label)
                    own = {key.removeprefix(META): value for key, value in values.items()}
                    yield _Row(name, own, "label" if label is not None else "", label or "")


def _file_rows(data: Path, said: Said, done: Applied) -> Iterator[_Row]:
    source = here(data, said.format)
    guessed = guess(source, said)
    for file in data_files(source):
        items = iter(read(file))
        first = list(itertools.islice(items, LOOK_AHEAD))
        present = list(
            dict.fromkeys(name for item in first if isinstance(item, Row) for name in item.values)
        )
        columns = choose(guessed.task, guessed.fields, present, file.name, guessed.objective)
        convert, column = converter(columns), columns.names.get("label", "")
        for item in itertools.chain(first, items):
            example = convert(item) if isinstance(item, Row) else item
            if isinstance(example, BadRow) or not isinstance(item, Row):
                done.bad += 1
                continue
            name = keys(0, example.input, example.answer).row.hex()
            yield _Row(name, dict(item.values), column, example.answer if column else "")
