"""Rows taken by the column are the rows that are taken one by one: same pieces, same findings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo.api.split import Split
from oikyo_trainer.data import flat, pieces
from oikyo_trainer.data.columns import Columns, Shape
from oikyo_trainer.data.findings import BadRow
from oikyo_trainer.data.piece import Form, Piece
from oikyo_trainer.data.readers import jsonl
from oikyo_trainer.data.readers.row import LONGEST_ROW, Item, Row

NAMES: dict[Shape, tuple[dict[str, str], ...]] = {
    "classification": ({"text": "text", "label": "label"}, {"text": "label", "label": "text"}),
    "prompt-completion": (
        {"prompt": "text", "completion": "label"},
        {"prompt": "text", "completion": "label", "input": "more"},
    ),
    "text": ({"text": "text"},),
}
ODD = [
    "", " ", "\u3000", "\x1f", "a\0b", "\ud800", "a\udfff", " a", "a  b", "e\u0301", "\u00e9", "\t",
    "<na>", "x" * 257, None, True, False, 0, 1, 7, -3, 10**300, 1.0, 2.5, float("nan"), b"a", [],
    ["a"], {"a": 1},
]  # fmt: skip
CELLS = st.one_of(st.sampled_from(["a", "b c", "one two three"]), st.sampled_from(ODD), st.text())
TWICE = '{"a": "b", "a": "c"}'
ROWS = st.dictionaries(st.sampled_from(["text", "label", "more", "other"]), CELLS, max_size=4)


def told(piece: Piece) -> tuple[Any, ...]:
    """A piece as values; repr, because no number equals NaN."""
    whole = piece._replace(batch=None, bad=(), sliced=())
    found = [(one.line, one.code, one.message, one.excerpt) for one in piece.bad]
    return (*whole, found, repr(piece.sliced), piece.batch.to_pylist())


@pytest.mark.parametrize(
    ("shape", "names"), [(shape, names) for shape, every in NAMES.items() for names in every]
)
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.one_of(ROWS, st.none()), max_size=12), sliced=st.booleans())
def test_both_ways_give_the_same_pieces(
    shape: Shape, names: dict[str, str], rows: list[dict[str, Any] | None], sliced: bool
) -> None:
    items: list[Item] = [
        BadRow(line, "not-json", "told by the reader") if row is None else Row(line, row)
        for line, row in enumerate(rows, 1)
    ]
    form = Form(Columns(shape, names, {}), Split(seed=3), False, ("other",) if sliced else ())
    assert flat.is_flat(form)
    by_column = [told(piece) for piece in flat.pieces(form, items)]
    assert by_column == [told(piece) for piece in pieces._one_by_one(form, items)]


def test_a_row_that_is_too_long_is_told_and_the_others_stay() -> None:
    items = [Row(line, {"text": "a" * length}) for line, length in ((1, 5), (2, LONGEST_ROW + 1))]
    form = Form(Columns("text", {"text": "text"}, {}), Split(), False)
    (piece,) = flat.pieces(form, items)
    assert [(one.line, one.code) for one in piece.bad] == [(2, "too-long")]
    assert piece.batch.to_pylist() == [{"text": "aaaaa"}]


def test_many_rows_come_in_pieces_of_bounded_size() -> None:
    def rows() -> Iterator[Row]:
        for line in range(1, 41):
            yield Row(line, {"text": "a" * (1 << 20)})

    form = Form(Columns("text", {"text": "text"}, {}), Split(), False)
    found = list(flat.pieces(form, rows()))
    assert [piece.rows for piece in found] == [8] * 5
    assert [line for piece in found for line in piece.lines] == list(range(1, 41))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(['"a"', '"b\\"c"', '"\\\\"', "1", "null", "true", "[]", '["a"]', "{}"]),
            st.sampled_from([TWICE, '"\\ud800"', '"\\u0000"']),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.sampled_from(["text", "label", "a\\\\b"]), min_size=1, max_size=4),
)
def test_a_key_that_stands_twice_is_never_overlooked(cells: list[str], keys: list[str]) -> None:
    pairs = list(zip(keys, cells, strict=False))
    line = "{" + ", ".join(f'"{key}": {cell}' for key, cell in pairs) + "}"
    twice = len({key for key, _ in pairs}) < len(pairs) or TWICE in {cell for _, cell in pairs}
    found = jsonl.row(1, line.encode())
    if twice:
        assert isinstance(found, BadRow)
        assert found.code == "duplicate-key"
    elif "\\ud800" not in line:
        assert isinstance(found, Row)
        assert found.values == json.loads(line)
