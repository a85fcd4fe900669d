"""Rows of one file turned into pieces, which the spool takes.

Pure: the same items give the same pieces in whatever process, so that workers.py can make them beside
the reading. What is no example of the task stands in the piece as a BadRow.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from . import flat, marks
from .example import Example, converter
from .findings import BadRow
from .keys import Hashed, keys_of
from .piece import PIECE_CHARACTERS, PIECE_ROWS, SCHEMAS, Form, Piece
from .readers.row import Item, Row


@dataclass
class _Filling:
    """A piece that is being filled."""

    rows: int = 0
    characters: int = 0
    bad: list[BadRow] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    marks: list[bytes] = field(default_factory=list)
    sliced: list[Mapping[str, Any]] = field(default_factory=list)

    def piece(self, form: Form) -> Piece:
        piece = piece_of(form, self.examples)
        return piece._replace(
            rows=self.rows,
            bad=tuple(self.bad),
            marks=b"".join(self.marks),
            sliced=tuple(self.sliced),
        )


def pieces(form: Form, items: Iterable[Item]) -> Iterator[Piece]:
    """All of `items`, in their order, cut by rows and by characters."""
    return flat.pieces(form, items) if flat.is_flat(form) else _one_by_one(form, items)


def _one_by_one(form: Form, items: Iterable[Item]) -> Iterator[Piece]:
    convert, mark_of = converter(form.columns), marks.marker(form.split, test=form.test)
    filling = _Filling()
    for item in items:
        filling.rows += 1
        example = convert(item) if isinstance(item, Row) else item
        if mark_of is not None and isinstance(item, Row) and isinstance(example, Example):
            mark = mark_of(item)
            if isinstance(mark, BadRow):
                example = mark
            else:
                filling.marks.append(mark)
        if isinstance(example, BadRow):
            filling.bad.append(example)
            continue
        if form.slice_by and isinstance(item, Row):
            filling.sliced.append({name: item.values.get(name) for name in form.slice_by})
        filling.examples.append(example)
        filling.characters += example.length
        if len(filling.examples) >= PIECE_ROWS or filling.characters >= PIECE_CHARACTERS:
            yield filling.piece(form)
            filling = _Filling()
    if filling.rows:
        yield filling.piece(form)


def piece_of(form: Form, examples: list[Example]) -> Piece:
    """The piece of these examples, without bad rows and without what stands beside a row."""
    shape = form.columns.shape
    codes: dict[str, int] = {}
    labelled = examples if shape == "classification" else []
    numbered = [codes.setdefault(one.answer, len(codes)) for one in labelled]
    told = [one.payload["label"] for one in examples] if shape == "regression" else []
    return Piece(
        rows=len(examples),
        bad=(),
        batch=_batch(SCHEMAS[shape], examples),
        keys=keys_of(
            form.split.seed, [Hashed(one.input, one.answer, one.question) for one in examples]
        ),
        marks=b"",
        lines=array("q", [one.line for one in examples]),
        lengths=array("i", [one.length for one in examples]),
        labels=tuple(codes),
        codes=array("i", numbered),
        numbers=array("d", told).tobytes(),
    )


def _batch(schema: Any, examples: list[Example]) -> Any:  # pyarrow is untyped
    columns = [
        pa.array([one.payload.get(column.name) for one in examples], type=column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
