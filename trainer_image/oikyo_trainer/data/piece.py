"""What becomes of neighbouring rows of a file: texts as an Arrow batch, hashes and numbers as bytes."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from oikyo.api.split import Split

from .columns import Columns, Shape
from .findings import BadRow
from .keys import Keys

TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
CALLING_TURN = pa.struct(
    [*TURN, *((name, pa.string()) for name in ("name", "tool_calls", "tool_call_id"))]
)
"""tool_calls is JSON: arguments are of any type."""
PIECE_ROWS = 8192
PIECE_CHARACTERS = 8 << 20
SCHEMAS: dict[Shape, pa.Schema] = {
    "classification": pa.schema([("text", pa.string()), ("label", pa.string())]),
    "regression": pa.schema([("text", pa.string()), ("label", pa.float64())]),
    "prompt-completion": pa.schema([("prompt", pa.string()), ("completion", pa.string())]),
    "messages": pa.schema([("messages", pa.list_(CALLING_TURN)), ("tools", pa.string())]),
    "preference": pa.schema(
        [("prompt", pa.list_(TURN)), ("chosen", pa.string()), ("rejected", pa.string())]
    ),
    "unpaired": pa.schema(
        [("prompt", pa.list_(TURN)), ("completion", pa.string()), ("desirable", pa.bool_())]
    ),
    "text": pa.schema([("text", pa.string())]),
}


class Form(NamedTuple):
    """How the rows of one file are understood."""

    columns: Columns
    split: Split
    test: bool
    """Whether the file belongs to the given test set."""
    slice_by: Sequence[str] = ()
    """Columns that are carried beside the rows."""


class Piece(NamedTuple):
    """What came of neighbouring rows of a file."""

    rows: int
    """All of them, bad ones too."""
    bad: tuple[BadRow, ...]
    batch: Any
    """An Arrow record batch, or the Place where it lies."""
    keys: Keys
    marks: bytes
    """16 bytes a row that place it instead of its content (marks.py), or nothing."""
    lines: array[int]
    lengths: array[int]
    labels: tuple[str, ...]
    """The different labels, in the order of their first row; none for generation."""
    codes: array[int]
    """Of each row, the number of its label."""
    numbers: bytes = b""
    """8 bytes a row: the number to learn (regression), else nothing."""
    sliced: tuple[Mapping[str, Any], ...] = ()
    """Of each row, the columns of data.sliceBy, when there are any."""

    @property
    def characters(self) -> int:
        return sum(self.lengths)
