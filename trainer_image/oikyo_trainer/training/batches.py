"""The order in which rows are learned, and how some of them become tensors.

The order is a function of (seed, epoch) alone: every rank and every resumed attempt computes the same
one, and nothing in it draws from the random state of the training. Processes must take as many rows as each
other: where an epoch lacks some, a row is dealt again as a silent one, which is computed and not learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..numbers import Scale
from .tokenfiles import IGNORED

STEPS_GROUPED = 16
"""Steps whose rows are sorted by length together: enough to leave little padding, few enough to
keep steps random samples of the data."""
Item = Mapping[str, Any]  # one row of the tokenised dataset: input_ids and labels


class GroupedSampler(Sampler[int]):
    """Shuffles rows, then lets rows of like length meet in one step.

    `batch` is the effective batch: consecutive runs of it are cut into micro-batches and dealt to
    the ranks by accelerate, so that also these hold rows of like length. A number below 0 is a silent
    row (`named`).
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int, together: int = 1) -> None:
        """`together`: rows that the processes take at once; accelerate would fill what an epoch lacks to them
        with rows of its beginning, which would be learned twice. 1: one process, which takes what is left."""
        self._lengths = np.asarray(lengths)
        self._batch = batch
        self._seed = seed
        self._together = together
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which pass over the data comes next; the first is 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._together) * self._together

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self._lengths, batch=self._batch, seed=self._seed, epoch=self._epoch)
        yield from order
        yield from repeat(~order[-1], len(self) - len(order))


def named(number: int) -> tuple[int, bool]:
    """The row that a number of the sampler names, and whether it is learned."""
    return (number, True) if number >= 0 else (~number, False)


class HeadedRows(Dataset[Item]):
    """Rows of one label, by the numbers of the sampler; a silent one has the label None."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Item:
        row, learned = named(number)
        item: Item = self._rows[row]
        return item if learned else {**item, "labels": None}


def epoch_order(lengths: Any, *, batch: int, seed: int, epoch: int) -> list[int]:
    """A permutation of the rows for one epoch; the step that is not full comes last."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    whole = len(order) // batch * batch
    result: list[int] = []
    for start in range(0, whole, batch * STEPS_GROUPED):
        group = order[start : min(start + batch * STEPS_GROUPED, whole)]
        steps = group[np.argsort(-np.asarray(lengths)[group], kind="stable")].reshape(-1, batch)
        result.extend(steps[random.permutation(len(steps))].ravel().tolist())
    return result + order[whole:].tolist()


@dataclass(frozen=True)
class Collator:
    """Pads rows on the right to the longest of them: input_ids, attention_mask, labels (B, T) or (B,)."""

    pad_token_id: int
    scale: Scale | None = None
    """On which labels are numbers to learn; None: they are tokens or classes."""

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        shape = (len(items), max(len(item["input_ids"]) for item in items))
        tokens = torch.full(shape, self.pad_token_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        per_token = isinstance(items[0]["labels"], Sequence)
        kind = torch.long if self.scale is None else torch.float32
        labels = torch.full(shape if per_token else shape[:1], IGNORED, dtype=kind)
        for row, item in enumerate(items):
            length = len(item["input_ids"])
            tokens[row, :length] = torch.tensor(item["input_ids"])
            mask[row, :length] = 1
            if per_token:
                labels[row, :length] = torch.tensor(item["labels"])
            else:
                labels[row] = self._label(item["labels"])
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    def _label(self, label: float | None) -> float:
        """The class, or the number as the head says it; None: of a silent row."""
        if label is None:
            return IGNORED
        if self.scale is None:
            return label
        learned = float(self.scale.learned(label))
        # A number that happens to be the mark would not be learned: it moves by one part in 100,000.
        return learned if round(learned, 3) != IGNORED else IGNORED - 1e-3
