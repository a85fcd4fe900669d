"""The first of two readings, for steps that must know all rows: lines that many share, and lengths."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from oikyo.api.clean import Clean
from oikyo.api.stages import PrepareSpec

from ..columns import Columns, choose
from ..readers import read
from ..readers.row import Row
from ..sources import DataFile
from . import boilerplate, quality

LOOK_AHEAD = 256


@dataclass(frozen=True)
class Survey:
    """What the rows have in common."""

    lines: frozenset[str] = frozenset()
    """Boilerplate."""
    fence: quality.Fence | None = None
    """The sizes of inputs that stay."""


Inputs = Callable[[Row, Columns], str]
"""The input of a row as the steps before see it."""


def survey(spec: PrepareSpec, files: Iterable[DataFile], inputs: Inputs) -> Survey:
    """Read the `files` that are learnt from; the test set has no say in what is boilerplate."""
    asked: Clean = spec.clean
    counts = boilerplate.LineCount(float(asked.boilerplate or 0) or 1.0)
    sizes = array("d")
    for row, columns in _rows(spec, files):
        text = inputs(row, columns)
        if asked.lines:
            counts.add(boilerplate.lines(text))
        sizes.append(quality.size(text))
    times = asked.quality.length_fence if asked.quality else None
    bounds = None
    if times is not None and len(sizes):
        low, high = np.percentile(np.frombuffer(sizes, dtype=np.float64), (25, 75))
        bounds = quality.fence(float(low), float(high), float(times))
    return Survey(counts.common() if asked.lines else frozenset(), bounds)


def _rows(spec: PrepareSpec, files: Iterable[DataFile]) -> Iterator[tuple[Row, Columns]]:
    for file in files:
        items = (item for item in read(file) if isinstance(item, Row))
        first = list(itertools.islice(items, LOOK_AHEAD))
        present = list(dict.fromkeys(name for row in first for name in row.values))
        if first:
            columns = choose(spec.task, spec.fields, present, file.name, spec.objective)
            yield from ((row, columns) for row in itertools.chain(first, items))
