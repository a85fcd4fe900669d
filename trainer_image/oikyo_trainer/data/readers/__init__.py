"""Readers: one file in, rows with their line out; memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from oikyo.api.sources import Format

from ..sources import DataFile
from . import array, arrow, columnar, delimited, jsonl, parquet, text
from .row import Item

COLUMNAR: dict[Format, columnar.Opened] = {"Parquet": parquet.opened, "Arrow": arrow.opened}

READERS: dict[Format, Callable[[DataFile], Iterator[Item]]] = {
    "JSONL": jsonl.read,
    "JSON": array.read,
    "CSV": delimited.read,
    "TSV": delimited.read,
    **{kind: partial(columnar.rows, opened=opened) for kind, opened in COLUMNAR.items()},
    "Text": text.read,
}


def read(file: DataFile) -> Iterator[Item]:
    """Every row of `file` as a Row, or as a BadRow that says why it is none."""
    return READERS[file.format](file)


Parse = Callable[[int, Any], Iterable[Item]]
"""The rows of a block whose first row has this line; any process can make them."""


def in_blocks(file: DataFile) -> tuple[Parse, Iterator[tuple[int, Any]]] | None:
    """What reads a block, and the blocks of the file with the line of the first row of each.

    None for a format of which only the whole can be read.
    """
    if file.format == "JSONL":
        of_part = partial(jsonl.rows_of_part, name=file.name, path=file.path)
        return of_part, jsonl.read_parts(file)
    if (opened := COLUMNAR.get(file.format)) is not None:
        of_block = partial(columnar.rows_of_block, name=file.name, kind=file.format)
        return of_block, columnar.blocks(file, opened)
    return None
