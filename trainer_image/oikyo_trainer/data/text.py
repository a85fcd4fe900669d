"""The text of one field, or why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .findings import RowFault

MISSING: Any = object()  # a key that a row lacks, as opposed to one that is null


def text_of(values: Mapping[str, Any], column: str) -> str:
    """The text of `column`; RowFault when it is missing, empty, damaged or no text."""
    value = values.get(column, MISSING)
    if value is MISSING or value is None:
        raise RowFault("missing-field", f"the field {column!r} is missing")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise RowFault("wrong-type", f"the field {column!r} is of type {kind}; expected text")
    if not value or value.isspace():
        raise RowFault("empty-text", f"the field {column!r} is empty")
    printable(value, column)
    return value


def printable(value: str, column: str) -> None:
    """RowFault when `value` holds NUL or is no Unicode text."""
    if "\0" in value:
        raise RowFault("nul", f"the field {column!r} holds a NUL byte; the file may be damaged")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RowFault(
                "invalid-utf8", f"the field {column!r} is not UTF-8; save the file as UTF-8"
            ) from None
