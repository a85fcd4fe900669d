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
from .readers.row import LONGEST_ROW, Item, Objects, Row

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
    if isinstance(items, Objects):  # of one block, which has few characters
        yield from (_piece(form, part) for part in items.cut(PIECE_ROWS))
        return
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


def _piece(form: Form, chunk: Sequence[Item] | Objects) -> Piece:
    lines, values, bad = _apart(chunk)
    columns = _columns(form.columns, values)
    lengths = _lengths(columns)
    looked = _looked_at(form.columns, lines, values, columns, lengths)
    if looked:
        worse = {place: one for place, one in looked.items() if isinstance(one, BadRow)}
        bad = _in_order(chunk, worse)
        columns = _mended(columns, looked)
        good = [place for place in range(len(values)) if place not in worse]
        lines, values = [lines[place] for place in good], [values[place] for place in good]
        lengths = _lengths(columns)
    return _of_columns(form, len(chunk), bad, lines, values, columns, lengths)


def _apart(
    chunk: Sequence[Item] | Objects,
) -> tuple[Sequence[int], Sequence[Mapping[str, Any]], list[BadRow]]:
    """The lines of the rows, their values, and what is no row."""
    if isinstance(chunk, Objects):
        return chunk.lines, chunk.values, []
    rows = [item for item in chunk if type(item) is Row]
    bad = [item for item in chunk if isinstance(item, BadRow)]
    return [row.line for row in rows], [row.values for row in rows], bad


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
    form: Columns,
    lines: Sequence[int],
    values: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any],
    lengths: Index,
) -> Looked:
    """The rows that are not clean, as the converter sees them."""
    odd = lengths > LONGEST_ROW
    for column in columns.values():
        if column.null_count:
            odd |= np.asarray(pc.is_null(column))
    convert = converter(form)
    places = np.flatnonzero(odd).tolist()
    return {place: convert(Row(lines[place], values[place])) for place in places}


def _lengths(columns: Mapping[str, Any]) -> Index:
    """Characters of each row, its label apart."""
    texts = [_characters(one) for role, one in columns.items() if role != "label"]
    return np.asarray(np.sum(texts, axis=0, dtype=np.int64))


def _characters(texts: Any) -> Any:  # an array of numbers
    ascii_only = pc.all(pc.string_is_ascii(texts), min_count=0).as_py()
    # Bytes are known, characters have to be counted.
    count = pc.binary_length if ascii_only else pc.utf8_length
    return np.asarray(pc.fill_null(count(texts), 0))


def _in_order(chunk: Iterable[Item], worse: Mapping[int, BadRow]) -> list[BadRow]:
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
    lines: Sequence[int],
    values: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Any],
    lengths: Index,
) -> Piece:
    shape = form.columns.shape
    asked, answer = (*columns.values(), pa.array([""] * len(values), pa.string()))[:2]
    labels, codes = _numbered(answer) if shape == "classification" else ((), b"")
    sliced = ({name: row.get(name) for name in form.slice_by} for row in values)
    return Piece(
        rows=count,
        bad=tuple(bad),
        batch=pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMAS[shape]),
        keys=keys_of_columns(form.split.seed, asked, answer),
        marks=b"",
        lines=array("q", lines),
        lengths=array("i", lengths.astype(np.int32).tobytes()),
        labels=labels,
        codes=array("i", codes),
        sliced=tuple(sliced) if form.slice_by else (),
    )


def _numbered(labels: Any) -> tuple[tuple[str, ...], bytes]:  # pyarrow is untyped
    """The different labels, in the order of their first row, and the number of each row's."""
    found = pc.dictionary_encode(labels)
    return tuple(found.dictionary.to_pylist()), np.asarray(found.indices, dtype=np.int32).tobytes()
