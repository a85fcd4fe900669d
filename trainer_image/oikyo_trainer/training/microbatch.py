"""A micro-batch as tensors: rows laid end to end, or one below the other with padding.

Everything that the device would otherwise have to be asked for (how many tokens, where labels stand,
where rows begin) is counted here, on the host, before the tensors leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .packing import Share
from .tokenfiles import IGNORED

Tensors = dict[str, Any]  # what the model's forward takes


@dataclass(frozen=True)
class Layout:
    """How the rows of one micro-batch become tensors."""

    packed: bool
    pad_token_id: int
    sequences: int = 1
    """Of each row, S: two where answers are compared; row n has the sequences from S n on."""
    sides: tuple[int, ...] = (0,)
    """Which of them are laid in."""


@dataclass(frozen=True)
class MicroBatch:
    """Inputs of one forward pass, and what is known of it without asking the device."""

    inputs: Tensors
    positions: torch.Tensor
    """(N,) int64: where the labels are predicted, in the flattened (B, T)."""
    targets: torch.Tensor
    """(N,) int64: the labelled tokens themselves."""
    owners: torch.Tensor
    """(N,) int64: whose they are, by place: first sequences of all R rows come first, then second ones."""
    numbers: torch.Tensor
    """(R,) int64: which rows these are; ~row: one whose labels do not count."""
    tokens: int
    """Real tokens."""
    slots: int
    """Tokens that are computed, padding included."""
    labels: int
    squares: int
    """Sum of the squared lengths of the rows: what attention costs."""

    def to(self, device: torch.device) -> MicroBatch:
        if self.targets.device == device:
            return self
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> MicroBatch:
        """What torch's DataLoader calls where a GPU copies faster from pinned memory."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> MicroBatch:
        """The same with each tensor changed."""
        inputs = _changed(self.inputs, change)
        return MicroBatch(**_changed({**vars(self), "inputs": inputs}, change))


def _changed(given: Tensors, change: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    return {
        name: change(value) if torch.is_tensor(value) else value for name, value in given.items()
    }


def build(rows: Any, bin_: Sequence[int], layout: Layout) -> MicroBatch:
    """The micro-batch of `bin_`; ~row is a row whose labels do not count. `rows` gives sequences."""
    numbers = np.asarray(bin_)
    # Of ~row these are ~sequence, in the other order.
    places = np.add.outer(layout.sides, layout.sequences * numbers).ravel()
    items = [rows[place if place >= 0 else ~place] for place in places.tolist()]
    tokens = [np.asarray(item["input_ids"], dtype=np.int64) for item in items]
    labels = [
        np.asarray(item["labels"], dtype=np.int64) if place >= 0 else np.full(len(ids), IGNORED)
        for item, ids, place in zip(items, tokens, places, strict=True)
    ]
    inputs, starts = _packed(tokens) if layout.packed else _padded(tokens, layout.pad_token_id)
    positions, targets, owners = _labelled(labels, starts)
    return MicroBatch(
        inputs,
        torch.from_numpy(positions),
        torch.from_numpy(targets),
        torch.from_numpy(owners),
        torch.from_numpy(numbers),
        tokens=sum(map(len, tokens)),
        slots=inputs["input_ids"].numel(),
        labels=len(targets),
        squares=sum(len(ids) ** 2 for ids in tokens),
    )


def _packed(tokens: list[Any]) -> tuple[Tensors, Any]:
    """What the model takes, and where each row begins in it."""
    lengths = [len(ids) for ids in tokens]
    flat = np.concatenate(tokens)
    positions = np.concatenate([np.arange(length) for length in lengths])
    inputs: Tensors = {
        "input_ids": torch.from_numpy(flat)[None],
        "position_ids": torch.from_numpy(positions)[None],
        **_boundaries(lengths),
    }
    return inputs, np.concatenate([[0], np.cumsum(lengths)[:-1]])


def _boundaries(lengths: list[int]) -> Tensors:
    """Where rows begin, as the packed attention (attention.py) wants to be told."""
    # A mask of four dimensions is taken as it is; this one keeps transformers from making one.
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    ends = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return {"attention_mask": mask, "segments": tuple(lengths), "boundaries": ends}


def _padded(tokens: list[Any], pad_token_id: int) -> tuple[Tensors, Any]:
    """The same of rows one below the other."""
    width = max(map(len, tokens))
    ids = np.full((len(tokens), width), pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, part in enumerate(tokens):
        ids[row, : len(part)], mask[row, : len(part)] = part, 1
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    return inputs, np.arange(len(tokens)) * width


def _labelled(labels: list[Any], starts: Any) -> tuple[Any, Any, Any]:
    """Where labels are predicted, one position before; they themselves; the places of their rows.

    The first token of a row is never predicted.
    """
    where = [np.flatnonzero(row[1:] != IGNORED) for row in labels]
    positions = np.concatenate([at + start for at, start in zip(where, starts, strict=True)])
    targets = np.concatenate([row[1:][at] for row, at in zip(labels, where, strict=True)])
    return positions, targets, np.repeat(np.arange(len(labels)), [len(at) for at in where])


@dataclass(frozen=True)
class Step:
    """What one process learns in one step, as tensors."""

    parts: list[MicroBatch]
    labels: int
    """What its loss is the mean of, over all processes: labelled tokens, or rows that are compared."""
    others: list[MicroBatch]
    """The other sequences of the same rows, where the loss is told by them and not learned from them."""

    def to(self, device: torch.device, **_: Any) -> Step:
        parts, others = ([one.to(device) for one in of] for of in (self.parts, self.others))
        return Step(parts, self.labels, others)

    def pin_memory(self) -> Step:
        parts, others = ([one.pin_memory() for one in of] for of in (self.parts, self.others))
        return Step(parts, self.labels, others)


class Steps(Dataset[Step]):
    """Indexed by the Share of a process: its micro-batches."""

    def __init__(self, rows: Any, layout: Layout, others: Layout | None = None) -> None:
        """`others`: how those of a Step are laid out; None: there are none."""
        self.rows = rows
        self.layouts = (layout, others)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, share: Share) -> Step:
        parts, others = (
            [build(self.rows, bin_, layout) for bin_ in share.bins] if layout else []
            for layout in self.layouts
        )
        return Step(parts, share.labels, others)


def only(items: Sequence[Step]) -> Step:
    """The DataLoader's batches hold one Step each."""
    (step,) = items
    return step
