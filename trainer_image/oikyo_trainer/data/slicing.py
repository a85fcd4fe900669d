"""The columns of data.sliceBy, carried beside the rows: one small number for each row and column."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Refused
from .columns import SHOWN
from .findings import excerpt
from .spool import Index

META = "meta."
"""Prefix of these columns in the files of a version."""
LONGEST = 64
"""Characters of a value that count."""
MOST = 1000
"""Values of a column that are told apart; a column with more groups nothing."""
OTHER = "(other)"


class SliceColumns:
    """Takes the values of each row that goes into the spool, in the same order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._codes = {name: array("i") for name in names}
        self._values: dict[str, dict[str, int]] = {name: {} for name in names}

    def add(self, values: Mapping[str, Any]) -> None:
        """Take one row; a value that is missing, null or empty is none."""
        for name in self.names:
            given = values.get(name)
            known = self._values[name]
            if given is None or given == "":
                self._codes[name].append(-1)
                continue
            value = _word(given)
            if value not in known and len(known) >= MOST:
                value = OTHER
            self._codes[name].append(known.setdefault(value, len(known)))

    def repeat(self, rows: Index) -> None:
        """Take the values of `rows` once more, for rows that were made of them."""
        for codes in self._codes.values():
            codes.frombytes(np.frombuffer(codes, dtype=np.int32)[rows].tobytes())

    def columns(self, wanted: Index) -> dict[str, Any]:
        """The values of the rows `wanted`, as Arrow columns under their names in a version."""
        return {META + name: self._column(name, wanted) for name in self.names}

    def fields(self) -> list[Any]:
        return [pa.field(META + name, pa.string()) for name in self.names]

    def content(self, wanted: Index) -> bytes:
        """What goes into the digest of a version: other values make another version."""
        columns = self.columns(wanted)
        parts = [f"{name}\0{value}" for name in columns for value in columns[name].to_pylist()]
        return "\n".join(parts).encode(errors="backslashreplace")

    def _column(self, name: str, wanted: Index) -> Any:  # pyarrow is untyped
        codes = np.frombuffer(self._codes[name], dtype=np.int32)[wanted]
        words = pa.array(list(self._values[name]), pa.string())
        return words.take(pa.array(codes, mask=codes < 0))


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())[:LONGEST] or OTHER


def check_columns(names: Sequence[str], present: Sequence[str], file: str) -> None:
    """Refused when `file` lacks a column that its rows are grouped by."""
    for name in names:
        if name not in present:
            there = ", ".join(excerpt(one) for one in present[:SHOWN])
            raise Refused(
                "MissingColumn",
                f"{file} has no column {name!r} (data.sliceBy); its columns are {there}",
                evidence=file,
                next_step="Name columns in data.sliceBy that every file has, or leave them out",
            )
