"""Readers: one file in, rows with their line out; memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from oikyo.api.sources import Format

from ..sources import DataFile
from . import array, arrow, delimited, jsonl, parquet, text
from .row import Item

READERS: dict[Format, Callable[[DataFile], Iterator[Item]]] = {
    "JSONL": jsonl.read,
    "JSON": array.read,
    "CSV": delimited.read,
    "TSV": delimited.read,
    "Parquet": parquet.read,
    "Arrow": arrow.read,
    "Text": text.read,
}


def read(file: DataFile) -> Iterator[Item]:
    """Every row of `file` as a Row, or as a BadRow that says why it is none."""
    return READERS[file.format](file)
