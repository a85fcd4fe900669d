"""Rows of tokens in flat files that every process maps into memory, in any order, at no cost.

    <split>.tokens   int32   the tokens of all rows, one after the other
    <split>.labels   uint8   beside each token: whether it has a label (rows of text)
    <split>.classes  int64   one class for each row (rows of a classification), instead of labels
    <split>.ends     int64   where each row ends in the tokens

Little-endian whatever the machine, so that the same rows are the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from .batches import IGNORED

TOKEN, CLASS, END = np.dtype("<i4"), np.dtype("<i8"), np.dtype("<i8")
MARK = np.dtype("u1")


class TokenRows(Dataset[dict[str, Any]]):
    """Random access to one split: input_ids and labels (of each token, or one class)."""

    def __init__(self, tokens: Any, labels: Any, ends: Any, *, per_token: bool) -> None:
        self._tokens = tokens
        self._labels = labels
        self._starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        self._ends = ends
        self._per_token = per_token
        self.lengths: npt.NDArray[np.int64] = np.asarray(self._ends - self._starts)
        """Tokens of each row."""

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Labelled tokens of each row, or 1; the first token of a row is never predicted."""
        if not self._per_token:
            return np.ones(len(self), dtype=np.int64)
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        first = self._labels[self._starts].astype(np.int64)
        sums = np.add.reduceat(self._labels, self._starts, dtype=np.int64)
        return np.asarray(sums - first)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> dict[str, Any]:
        part = slice(int(self._starts[row]), int(self._ends[row]))
        tokens = np.asarray(self._tokens[part])
        if not self._per_token:
            return {"input_ids": tokens, "labels": int(self._labels[row])}
        return {"input_ids": tokens, "labels": np.where(self._labels[part], tokens, IGNORED)}


def write_rows(
    folder: Path, split: str, rows: Iterable[tuple[list[int], Any]], *, per_token: bool
) -> None:
    """Write a split from (tokens, labels): IGNORED or the token itself beside each, or one class."""
    ends: list[int] = []
    end = 0
    with (
        (folder / f"{split}.tokens").open("wb") as tokens_file,
        (folder / f"{split}.{'labels' if per_token else 'classes'}").open("wb") as labels_file,
    ):
        for tokens, labels in rows:
            tokens_file.write(np.asarray(tokens, dtype=TOKEN).tobytes())
            if per_token:
                labels_file.write(np.not_equal(labels, IGNORED).astype(MARK).tobytes())
            else:
                labels_file.write(np.asarray(labels, dtype=CLASS).tobytes())
            end += len(tokens)
            ends.append(end)
    (folder / f"{split}.ends").write_bytes(np.asarray(ends, dtype=END).tobytes())


def open_rows(folder: Path, split: str) -> TokenRows:
    """Map what `write_rows` wrote."""
    tokens = _map(folder / f"{split}.tokens", TOKEN)
    ends = _map(folder / f"{split}.ends", END)
    marks = folder / f"{split}.labels"
    if marks.exists():
        return TokenRows(tokens, _map(marks, MARK), ends, per_token=True)
    classes = _map(folder / f"{split}.classes", CLASS)
    return TokenRows(tokens, classes, ends, per_token=False)


def _map(path: Path, dtype: np.dtype[Any]) -> Any:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
