"""Which rows of a step meet in one forward pass, on which process. Pure numpy; a function of (seed, epoch).

A step is `batch` rows, always. Packed, they are dealt to the processes and micro-batches by tokens, the
longest first to the emptiest (Graham 1969, LPT), so that every process computes as much as the others
and nothing is padded. Padded, rows of like length meet, `micro_batch` at a time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from .batches import epoch_order

Lengths = npt.NDArray[np.int64]
Bins = list[tuple[int, ...]]
"""Rows of each micro-batch. ~row stands for a row whose labels do not count: it only keeps a process
in step with the others where the step has no row left for it."""


@dataclass(frozen=True)
class Shape:
    """How the rows of a step are laid out."""

    batch: int
    """Rows of a step, over all processes."""
    processes: int
    """Processes, or tensor groups, that learn different rows."""
    packed: bool
    micro_tokens: int
    """Most tokens of a packed micro-batch, unless one row alone has more."""
    micro_batch: int
    """Rows of a padded micro-batch."""


@dataclass(frozen=True)
class Share:
    """What one process learns in one step."""

    bins: tuple[tuple[int, ...], ...]
    labels: int
    """Labelled tokens of the whole step, over all processes: the loss is their mean."""


def deal(lengths: Lengths, rows: Any, shape: Shape) -> list[Bins]:
    """The micro-batches of each process for the step that holds `rows`; as many for each of them."""
    bins = _packed(lengths, rows, shape) if shape.packed else _padded(lengths, rows, shape)
    dealt = [bins[rank :: shape.processes] for rank in range(shape.processes)]
    most = max(len(mine) for mine in dealt)
    silent = (~int(rows[int(np.argmin(lengths[rows]))]),)
    return [mine + [silent] * (most - len(mine)) for mine in dealt]


def _packed(lengths: Lengths, rows: Any, shape: Shape) -> Bins:
    order = np.asarray(rows)[np.argsort(-lengths[rows], kind="stable")]
    tokens = int(lengths[order].sum())
    rounds = max(1, math.ceil(tokens / (shape.micro_tokens * shape.processes)))
    while True:
        bins, fullest = _spread(lengths, order, rounds * shape.processes)
        if fullest <= shape.micro_tokens or rounds * shape.processes >= len(order):
            return bins
        rounds += 1


def _spread(lengths: Lengths, order: Any, number: int) -> tuple[Bins, int]:
    """Rows, longest first, each into the bin with the fewest tokens; and the tokens of the fullest."""
    bins: list[list[int]] = [[] for _ in range(number)]
    heap = [(0, place) for place in range(number)]
    for row in order.tolist():
        tokens, place = heapq.heappop(heap)
        bins[place].append(row)
        heapq.heappush(heap, (tokens + int(lengths[row]), place))
    return [tuple(rows) for rows in bins if rows], max(tokens for tokens, _ in heap)


def _padded(lengths: Lengths, rows: Any, shape: Shape) -> Bins:
    order = np.asarray(rows)[np.argsort(-lengths[rows], kind="stable")].tolist()
    # The last step of an epoch may be short: every process still gets something of it.
    size = max(1, min(shape.micro_batch, math.ceil(len(order) / shape.processes)))
    return [tuple(order[start : start + size]) for start in range(0, len(order), size)]


class StepSampler(Sampler[Share]):
    """One Share for each process of each step, in the order of the ranks: accelerate deals them so."""

    def __init__(
        self, lengths: Lengths, labels: Lengths, shape: Shape, *, seed: int, copies: int = 1
    ) -> None:
        """`copies`: processes, neighbours by rank, that learn the same rows."""
        self._lengths = lengths
        self._labels = labels
        self._shape = shape
        self._seed = seed
        self._copies = copies
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which pass over the data comes next; the first is 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return (
            math.ceil(len(self._lengths) / self._shape.batch) * self._shape.processes * self._copies
        )

    def __iter__(self) -> Iterator[Share]:
        order = np.asarray(self._order())
        for start in range(0, len(order), self._shape.batch):
            rows = order[start : start + self._shape.batch]
            labels = int(self._labels[rows].sum())
            for bins in deal(self._lengths, rows, self._shape):
                yield from repeat(Share(tuple(bins), labels), self._copies)

    def _order(self) -> list[int]:
        if self._shape.packed:  # nothing is padded: steps are plain random samples of the rows
            order: list[int] = (
                np.random.default_rng([self._seed, self._epoch])
                .permutation(len(self._lengths))
                .tolist()
            )
            return order
        return epoch_order(
            self._lengths, batch=self._shape.batch, seed=self._seed, epoch=self._epoch
        )
