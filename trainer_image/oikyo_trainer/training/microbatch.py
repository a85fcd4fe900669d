"""A micro-batch as tensors: rows laid end to end, or one below the other with padding.

Everything that the device would otherwise have to be asked for (how many tokens, where labels stand,
where rows begin) is counted here, on the host, before the tensors leave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class MicroBatch:
    """Inputs of one forward pass, and what is known of it without asking the device."""

    inputs: Tensors
    positions: torch.Tensor
    """(N,) int64: where the labels are predicted, in the flattened (B, T)."""
    targets: torch.Tensor
    """(N,) int64: the labelled tokens themselves."""
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
        moved = {
            name: value.to(device, non_blocking=True) if torch.is_tensor(value) else value
            for name, value in self.inputs.items()
        }
        positions = self.positions.to(device, non_blocking=True)
        targets = self.targets.to(device, non_blocking=True)
        return replace(self, inputs=moved, positions=positions, targets=targets)

    def pin_memory(self) -> MicroBatch:
        """What torch's DataLoader calls where a GPU copies faster from pinned memory."""
        pinned = {k: v.pin_memory() if torch.is_tensor(v) else v for k, v in self.inputs.items()}
        positions, targets = self.positions.pin_memory(), self.targets.pin_memory()
        return replace(self, inputs=pinned, positions=positions, targets=targets)


def build(rows: Any, bin_: Sequence[int], layout: Layout) -> MicroBatch:
    """The micro-batch of `bin_`; ~row is a row whose labels do not count."""
    items = [rows[row if row >= 0 else ~row] for row in bin_]
    tokens = [np.asarray(item["input_ids"], dtype=np.int64) for item in items]
    labels = [
        np.asarray(item["labels"], dtype=np.int64) if row >= 0 else np.full(len(ids), IGNORED)
        for item, ids, row in zip(items, tokens, bin_, strict=True)
    ]
    return (_packed if layout.packed else _padded)(tokens, labels, layout)


def _packed(tokens: list[Any], labels: list[Any], layout: Layout) -> MicroBatch:
    lengths = [len(ids) for ids in tokens]
    flat = np.concatenate(tokens)
    positions = np.concatenate([np.arange(length) for length in lengths])
    inputs: Tensors = {
        "input_ids": torch.from_numpy(flat)[None],
        "position_ids": torch.from_numpy(positions)[None],
        **_boundaries(lengths),
    }
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return _labelled(inputs, labels, starts, lengths, sum(lengths))


def _boundaries(lengths: list[int]) -> Tensors:
    """Where rows begin, as the packed attention (attention.py) wants to be told."""
    # A mask of four dimensions is taken as it is; this one keeps transformers from making one.
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    ends = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return {"attention_mask": mask, "segments": tuple(lengths), "boundaries": ends}


def _padded(tokens: list[Any], labels: list[Any], layout: Layout) -> MicroBatch:
    lengths = [len(ids) for ids in tokens]
    width = max(lengths)
    ids = np.full((len(tokens), width), layout.pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, part in enumerate(tokens):
        ids[row, : len(part)], mask[row, : len(part)] = part, 1
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    starts = np.arange(len(tokens)) * width
    return _labelled(inputs, labels, starts, lengths, ids.size)


def _labelled(
    inputs: Tensors, labels: list[Any], starts: Any, lengths: list[int], slots: int
) -> MicroBatch:
    """A label is predicted one position before it; the first token of a row is never predicted."""
    where = [np.flatnonzero(row[1:] != IGNORED) for row in labels]
    positions = np.concatenate([at + start for at, start in zip(where, starts, strict=True)])
    targets = np.concatenate([row[1:][at] for row, at in zip(labels, where, strict=True)])
    return MicroBatch(
        inputs,
        torch.from_numpy(positions),
        torch.from_numpy(targets),
        tokens=sum(lengths),
        slots=slots,
        labels=len(targets),
        squares=sum(length * length for length in lengths),
    )


@dataclass(frozen=True)
class Step:
    """What one process learns in one step, as tensors."""

    parts: list[MicroBatch]
    labels: int
    """Labelled tokens of the step over all processes."""

    def to(self, device: torch.device, **_: Any) -> Step:
        return Step([part.to(device) for part in self.parts], self.labels)

    def pin_memory(self) -> Step:
        return Step([part.pin_memory() for part in self.parts], self.labels)


class Steps(Dataset[Step]):
    """Indexed by the Share of a process: its micro-batches."""

    def __init__(self, rows: Any, layout: Layout) -> None:
        self.rows = rows
        self.layout = layout

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, share: Share) -> Step:
        return Step([build(self.rows, bin_, self.layout) for bin_ in share.bins], share.labels)


def only(items: Sequence[Step]) -> Step:
    """The DataLoader's batches hold one Step each."""
    (step,) = items
    return step
