"""data.contamination: the items of benchmark files, whatever their columns are called."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from oikyo.api.stages import BenchmarkSource

from ...errors import Refused
from ..columns import SHOWN
from ..findings import excerpt
from ..near.shingles import words_of
from ..piece import PIECE_CHARACTERS
from ..readers import read
from ..readers.row import Row
from ..sources import DataFile, data_files
from .runs import Known

SHORTEST = 3
"""Words of the shortest text that is an item: "yes" stands everywhere."""
DEEPEST = 8
"""Lists and objects within each other that are looked into."""


@dataclass
class Items:
    """The items of one benchmark, and where they stand."""

    known: Known
    files: list[str] = field(default_factory=list)
    _file: array[int] = field(default_factory=lambda: array("i"))
    _line: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self._line)

    def add(self, line: int) -> int:
        """One more item of the newest file; returns its number."""
        self._file.append(len(self.files) - 1)
        self._line.append(line)
        return len(self) - 1

    def where(self, item: int) -> str:
        return f"{self.files[self._file[item]]}:{self._line[item]}"


def read_items(parts: Sequence[BenchmarkSource], ngram: int) -> Items:
    """Read the files of one benchmark; Refused when they hold no text."""
    items, benchmark = Items(Known(ngram, SHORTEST)), parts[0]
    for part in parts:
        for file in data_files(part, test=True):
            items.files.append(file.name)
            _read_file(part, file, items)
    items.known.close(len(items))
    if not len(items.known):
        raise Refused(
            "EmptyBenchmark",
            f"the benchmark {benchmark.name} has no text of {SHORTEST} words or more ({benchmark.uri})",
            evidence=benchmark.uri,
            next_step="Name its file with the questions, and their column in columns",
        )
    return items


def _read_file(benchmark: BenchmarkSource, file: DataFile, items: Items) -> None:
    for texts, owners in _batches(_texts(benchmark, file, items)):
        for words in words_of(pa.table({"text": pa.array(texts, type=pa.string())})):
            items.known.add(words, np.array(owners, dtype=np.int64))


def _texts(benchmark: BenchmarkSource, file: DataFile, items: Items) -> Iterator[tuple[str, int]]:
    """Every text of the file with the number of its item."""
    checked = False
    for row in read(file):
        if not isinstance(row, Row):
            continue
        if not checked:
            _check_columns(benchmark, file, row)
            checked = True
        item = items.add(row.line)
        wanted = benchmark.columns or row.values
        for name in wanted:
            for text in _strings(row.values.get(name), DEEPEST):
                yield text, item


def _check_columns(benchmark: BenchmarkSource, file: DataFile, row: Row) -> None:
    missing = [name for name in benchmark.columns if name not in row.values]
    if missing:
        there = ", ".join(excerpt(name) for name in list(row.values)[:SHOWN])
        raise Refused(
            "MissingColumn",
            f"{file.name} has no column {missing[0]!r} (data.contamination, {benchmark.name}); its "
            f"columns are {there}",
            evidence=file.name,
            next_step="Write the columns that it has, or none: then every text counts",
        )


def _strings(value: Any, left: int) -> Iterator[str]:  # Any: JSON or Arrow value
    if isinstance(value, str):
        yield value.encode("utf-8", "replace").decode("utf-8")
    elif left and isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part, left - 1)
    elif left and isinstance(value, dict):
        for part in value.values():
            yield from _strings(part, left - 1)


def _batches(texts: Iterator[tuple[str, int]]) -> Iterator[tuple[list[str], list[int]]]:
    held: tuple[list[str], list[int]] = ([], [])
    characters = 0
    for text, item in texts:
        held[0].append(text)
        held[1].append(item)
        characters += len(text) + 1
        if characters >= PIECE_CHARACTERS:
            yield held
            held, characters = ([], []), 0
    if held[0]:
        yield held
