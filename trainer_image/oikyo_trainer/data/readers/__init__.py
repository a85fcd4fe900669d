"""Readers: one file in, rows with their line out; memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator

from ..sources import DataFile
from . import delimited, jsonl, parquet
from .row import Item

READERS = {"JSONL": jsonl.read, "CSV": delimited.read, "Parquet": parquet.read}


def read(file: DataFile) -> Iterator[Item]:
    """Every row of `file` as a Row, or as a BadRow that says why it is none."""
    return READERS[file.format](file)
