"""Rows of flat shapes, taken by the column: a text with a label, a prompt with its completion, a text.

A row of clean texts needs no look of its own. Every other row is looked at by the converter of
example.py, which alone says what it means or what is wrong with it: both give the same pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import Columns
from .example import Example, converter, label_of
from .findings import BadRow, RowFault
from .keys import Index, keys_of_columns
from .piece import PIECE_CHARACTERS, PIECE_ROWS, SCHEMAS, Form, Piece
from .readers.row import LONGEST_ROW, Item, Row

Values = list[Any]  # of each row what stands in one of its columns, or None for a closer look
Looked = dict[int, Example | BadRow]
"""Place of a row that was looked at by itself -> what it is."""


def is_flat(form: Form) -> bool:
    """Whether the rows of `form` can be taken by the column."""
    if form.columns.separator or form.split.group_by or form.split.time_by:
        return False
    return form.columns.shape in ("classification", "prompt-completion", "text")


def pieces(form: Form, items: Iterable[Item]) -> Iterator[Piece]:
    """All of `items`, in their order, cut by rows and by characters."""
    names = tuple(form.columns.names.values())
    chunk: list[Item] = []
    characters = 0
    for item in items:
        chunk.append(item)
        if type(item) is Row:
            for name in names:
                value = item.values.get(name)
                if type(value) is str:
                    characters += len(value)
        if len(chunk) >= PIECE_ROWS or characters >= PIECE_CHARACTERS:
            yield _piece(form, chunk)
            chunk, characters = [], 0
    if chunk:
        yield _piece(form, chunk)


def _piece(form: Form, chunk: Sequence[Item]) -> Piece:
    rows = [item for item in chunk if type(item) is Row]
    columns = _columns(form.columns, [row.values for row in rows])
    lengths = _lengths(columns)
    looked = _looked_at(form.columns, rows, columns, lengths)
    bad = [item for item in chunk if isinstance(item, BadRow)]
    if looked:
        worse = {place: one for place, one in looked.items() if isinstance(one, BadRow)}
        bad = _in_order(chunk, worse)
        columns = _mended(columns, looked)
        rows = [row for place, row in enumerate(rows) if place not in worse]
        lengths = _lengths(columns)
    return _of_columns(form, len(chunk), bad, rows, columns, lengths)


def _columns(form: Columns, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Column of the version -> its texts as an Arrow array; null where a row needs a closer look."""
    names = form.names
    cells = {role: [row.get(names[role]) for row in values] for role in SCHEMAS[form.shape].names}
    label = cells.pop("label", None)
    found = {role: _clean(column) for role, column in cells.items()}
    if "input" in names:
        found["prompt"] = _with_input(found["prompt"], [row.get(names["input"]) for row in values])
    if label is not None:
        found["label"] = _labels(label, names["label"])
    return {role: _array(column) for role, column in found.items()}


def _clean(values: Values) -> Values:
    return [
        one if type(one) is str and one and "\0" not in one and not one.isspace() else None
        for one in values
    ]


def _with_input(prompts: Values, inputs: Values) -> Values:
    """Alpaca's layout; an input that is there has the prompt looked at."""
    return [None if given else prompt for prompt, given in zip(prompts, inputs, strict=True)]


def _labels(values: Values, column: str) -> Values:
    """The classes; each different one is looked at once."""
    kinds = set(map(type, values))
    if kinds != {int}:  # beside texts, 1 and 1.0 and true would be one
        values = [one if type(one) is str else None for one in values]
    classes = {one: _label(one, column) for one in dict.fromkeys(values)}
    return [classes[one] for one in values]


def _label(value: str | int | None, column: str) -> str | None:
    try:
        return label_of({column: value}, column)
    except RowFault:
        return None


def _array(values: Values) -> Any:  # pyarrow is untyped
    try:
        return pa.array(values, type=pa.string())
    except UnicodeEncodeError:
        return pa.array([one if _is_unicode(one) else None for one in values], type=pa.string())


def _is_unicode(value: str | None) -> bool:
    """Whether `value` has no half of a character."""
    try:
        return value is not None and bool(value.encode())
    except UnicodeEncodeError:
        return False


def _looked_at(
    form: Columns, rows: Sequence[Row], columns: Mapping[str, Any], lengths: Index
) -> Looked:
    """The rows that are not clean, as the converter sees them."""
    odd = lengths > LONGEST_ROW
    for column in columns.values():
        if column.null_count:
            odd |= np.asarray(pc.is_null(column))
    convert = converter(form)
    return {place: convert(rows[place]) for place in np.flatnonzero(odd).tolist()}


def _lengths(columns: Mapping[str, Any]) -> Index:
    """Characters of each row, its label apart."""
    texts = [_characters(one) for role, one in columns.items() if role != "label"]
    return np.asarray(np.sum(texts, axis=0, dtype=np.int64))


def _characters(texts: Any) -> Any:  # an array of numbers
    ascii_only = pc.all(pc.string_is_ascii(texts), min_count=0).as_py()
    # Bytes are known, characters have to be counted.
    count = pc.binary_length if ascii_only else pc.utf8_length
    return np.asarray(pc.fill_null(count(texts), 0))


def _in_order(chunk: Sequence[Item], worse: Mapping[int, BadRow]) -> list[BadRow]:
    """The bad rows of `chunk`; `worse` are those whose place among the rows is given."""
    found, place = [], 0
    for item in chunk:
        if type(item) is Row:
            found += [worse[place]] if place in worse else []
            place += 1
        elif isinstance(item, BadRow):
            found.append(item)
    return found


def _mended(columns: Mapping[str, Any], looked: Looked) -> dict[str, Any]:
    """The columns with what was looked at as it was found, without the bad rows."""
    good = np.ones(len(next(iter(columns.values()))), dtype=bool)
    good[[place for place, one in looked.items() if isinstance(one, BadRow)]] = False
    found = dict(columns)
    if any(isinstance(one, Example) for one in looked.values()):
        for role, column in columns.items():
            values = column.to_pylist()
            for place, one in looked.items():
                if isinstance(one, Example):
                    values[place] = one.payload[role]
            found[role] = _array(values)
    return {role: column.filter(pa.array(good)) for role, column in found.items()}


def _of_columns(
    form: Form,
    count: int,
    bad: Sequence[BadRow],
    rows: Sequence[Row],
    columns: Mapping[str, Any],
    lengths: Index,
) -> Piece:
    shape = form.columns.shape
    asked, answer = (*columns.values(), pa.array([""] * len(rows), pa.string()))[:2]
    labels, codes = _numbered(answer) if shape == "classification" else ((), b"")
    sliced = ({name: row.values.get(name) for name in form.slice_by} for row in rows)
    return Piece(
        rows=count,
        bad=tuple(bad),
        batch=pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMAS[shape]),
        keys=keys_of_columns(form.split.seed, asked, answer),
        marks=b"",
        lines=array("q", [row.line for row in rows]),
        lengths=array("i", lengths.astype(np.int32).tobytes()),
        labels=labels,
        codes=array("i", codes),
        sliced=tuple(sliced) if form.slice_by else (),
    )


def _numbered(labels: Any) -> tuple[tuple[str, ...], bytes]:  # pyarrow is untyped
    """The different labels, in the order of their first row, and the number of each row's."""
    found = pc.dictionary_encode(labels)
    return tuple(found.dictionary.to_pylist()), np.asarray(found.indices, dtype=np.int32).tobytes()
