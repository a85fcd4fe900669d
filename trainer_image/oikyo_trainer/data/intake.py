"""The one pass over the sources: every row becomes an example in the spool or a finding."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import PrepareSpec, Source

from ..errors import Refused
from . import marks
from .clean.cleaner import open_cleaner
from .clean.log import CleanLog
from .columns import Columns, choose
from .findings import BadRow, Finding, Findings, excerpt
from .piece import Form, Piece
from .pieces import pieces
from .readers import Parse, in_blocks, read
from .readers.row import Item, Row
from .shelf import Shelf
from .slicing import SliceColumns, check_columns
from .sources import DataFile, data_files
from .spool import Rows, Spool
from .workers import opened

LOOK_AHEAD = 256
"""Rows from which the columns of a file are told: JSON objects need not all have the same keys."""


@dataclass
class FileCount:
    """What came of one file."""

    name: str
    test: bool
    rows: int = 0
    bad: int = 0
    cleaned: int = 0
    """Rows that the cleaning left out."""
    weight: str = "1"
    """How often an epoch shows each training row."""

    @property
    def usable(self) -> int:
        return self.rows - self.bad - self.cleaned

    def leave_out(self) -> None:
        """Count a row that the cleaning left out."""
        self.rows += 1
        self.cleaned += 1


@dataclass
class Intake:
    """Everything that the pass learned beside the rows themselves."""

    findings: Findings = field(default_factory=Findings)
    files: list[FileCount] = field(default_factory=list)
    columns: Columns | None = None
    """Of the first file."""
    resolved: dict[tuple[str, str], Resolved] = field(default_factory=dict)
    spool: Spool | None = None
    cleaned: CleanLog = field(default_factory=CleanLog)
    slices: SliceColumns | None = None
    """The columns of data.sliceBy; None without them."""

    @property
    def several(self) -> bool:
        """Whether the label of a row is a set of names (labelset)."""
        return self.columns is not None and bool(self.columns.separator)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def found(
        self, code: str, rows: Rows, row: int, message: str, shown: object = "", count: int = 1
    ) -> None:
        """Add what the check `code` says of the row `row`; `shown` is the text to quote.

        A finding about `count` rows names the first of them.
        """
        file, line = self.files[rows.files[row]].name, int(rows.lines[row])
        quoted = excerpt(shown) if shown else ""
        self.findings.add(Finding(line, code, message, quoted, file, rows=count))

    def settle(self, choices: Iterable[Resolved]) -> None:
        """Tell what was chosen, each choice once."""
        for item in choices:
            self.resolved.setdefault((item.name, item.value), item)


Tell = Callable[[float, Intake], None]
"""Told the share of the bytes that are read, about."""


def take_in(
    spec: PrepareSpec,
    sources: tuple[Source, ...],
    tests: tuple[Source, ...],
    *,
    spool: Path,
    intake: Intake,
    tell: Tell,
) -> Spool:
    """Read every file into the spool at the path `spool`; what is found on the way stands in `intake`, also
    on refusal."""
    plan = [(file, False) for source in sources for file in data_files(source)]
    plan += [(file, True) for source in tests for file in data_files(source, test=True)]
    _refuse_same_file(plan)
    intake.slices = SliceColumns(spec.slice_by) if spec.slice_by else None
    cleaner = open_cleaner(spec, [file for file, test in plan if not test], intake.cleaned)
    total, done = sum(file.size for file, _ in plan), 0
    largest = max((file.size for file, _ in plan), default=0)
    shelf = Shelf(spool)
    with opened(partial(_put, shelf), largest) as each, _closing(intake):
        for file, is_test in plan:
            items = iter(read(file))
            first = list(itertools.islice(items, LOOK_AHEAD))
            columns = _columns(spec, file, first, intake, is_test)
            if intake.spool is None:
                intake.spool = Spool(spool, columns.shape, shelf)
            count = FileCount(file.name, is_test, weight=file.weight)
            intake.files.append(count)
            every: Iterator[Item] = itertools.chain(first, items)
            if cleaner is not None:
                every = cleaner.rows(every, columns, file.name, count.leave_out)
            form, characters = Form(columns, spec.split, is_test, spec.slice_by), 0
            found = in_blocks(file) if cleaner is None else None
            for piece in _of_blocks(found, form, each) if found else pieces(form, every):
                _take_piece(piece, count, intake)
                characters += piece.characters
                tell((done + min(characters, file.size)) / total, intake)
            done += file.size
    assert intake.spool is not None  # the contract asks for at least one source
    return intake.spool


@contextmanager
def _closing(intake: Intake) -> Iterator[None]:
    """End the writing of the spool, also on refusal."""
    try:
        yield
    finally:
        if intake.spool is not None:
            intake.spool.close()


def _refuse_same_file(plan: list[tuple[DataFile, bool]]) -> None:
    seen: dict[object, str] = {}
    for file, is_test in plan:
        other = seen.setdefault((file.path, is_test), file.name)
        if other is not file.name:
            raise Refused(
                "SameFileTwice",
                f"{file.name} and {other} are the same file",
                next_step="Name it once",
            )


def _columns(
    spec: PrepareSpec, file: DataFile, first: list[Item], intake: Intake, is_test: bool
) -> Columns:
    rows = [item for item in first if isinstance(item, Row)]
    if not rows:
        raise _no_rows(file, first, intake)
    present = list(dict.fromkeys(name for row in rows for name in row.values))
    columns = choose(spec.task, spec.fields, present, file.name, spec.objective)
    check_columns(spec.slice_by, present, file.name)
    marks.check_column(spec.split, present, file.name, test=is_test)
    if intake.columns is None:
        intake.columns = columns
    elif intake.columns.shape != columns.shape:
        raise Refused(
            "MixedShapes",
            f"{file.name} holds {columns.shape} rows, {intake.files[0].name} "
            f"{intake.columns.shape} rows",
            next_step="Convert one of them: all files of a job have the same shape",
        )
    intake.settle((*file.resolved(), *columns.resolved()))
    return columns


def _no_rows(file: DataFile, first: list[Item], intake: Intake) -> Refused:
    bad = [replace(item, file=file.name) for item in first if isinstance(item, BadRow)]
    for item in bad:
        intake.findings.add(item)
    if bad:
        return Refused(
            "InvalidData",
            f"none of the first {len(bad)} rows of {file.name} can be read: {bad[0].sentence()}",
            evidence="\n".join(item.sentence() for item in bad[:5]),
            next_step=f"Write {file.format} or set the source's format",
        )
    return Refused(
        "EmptyFile", f"{file.name} holds no rows", next_step="Write rows into it or leave it out"
    )


class Job(NamedTuple):
    """Whole rows of a file."""

    form: Form
    parse: Parse
    number: int
    """Line of the first."""
    data: Any
    """What `parse` reads."""


def read_block(job: Job) -> list[Piece]:
    """The rows of a block; any process can make them."""
    return list(pieces(job.form, job.parse(job.number, job.data)))


def _put(shelf: Shelf, job: Job) -> list[Piece]:
    """As `read_block`, with the batches on the shelf."""
    return [piece._replace(batch=shelf.put(piece.batch)) for piece in read_block(job)]


def _of_blocks(
    found: tuple[Parse, Iterator[tuple[int, Any]]],
    form: Form,
    each: Callable[[Iterable[Job]], Iterator[list[Piece]]],
) -> Iterator[Piece]:
    parse, blocks = found
    jobs = (Job(form, parse, *block) for block in blocks)
    return itertools.chain.from_iterable(each(jobs))


def _take_piece(piece: Piece, count: FileCount, intake: Intake) -> None:
    count.rows += piece.rows
    count.bad += len(piece.bad)
    for bad in piece.bad:
        intake.findings.add(replace(bad, file=count.name))
    assert intake.spool is not None
    intake.spool.add(piece, len(intake.files) - 1)
    if intake.slices is not None:
        for values in piece.sliced:
            intake.slices.add(values)
