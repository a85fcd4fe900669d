"""Rows of tokens in flat files that every process maps into memory, in any order, at no cost.

    <split>.tokens    int32   the tokens of all rows, one after the other
    <split>.tokens16  uint16  instead of them, where the model knows no more than 65,536
    <split>.ends      int64   where each row ends in the tokens
    <split>.marks     uint8   beside each token: whether it is learned (rows of text)
    <split>.labelled  int64   of each row, how many tokens that are (so that steps are dealt at once)
    <split>.classes   int64   one class for each row (rows of a classification), instead of the two
    <split>.numbers   float64 one number for each row (rows of a regression), instead of the two
    <split>.votes     uint8   of preferences, which are two rows each: whether the first is wanted
    <split>.times     int32   how often an epoch shows each row (a pair once); absent: once
    <split>.folds     int32   the fold of each row in a cross-validation; absent: there is none

Little-endian whatever the machine, so that the same rows are the same bytes everywhere. No torch in
here: the prepare stage writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import Refused
from ..files import Digested

TOKEN, SHORT = np.dtype("<i4"), np.dtype("<u2")
WIDE, MARK, NUMBER = np.dtype("<i8"), np.dtype("u1"), np.dtype("<f8")
WIDTHS: dict[str, np.dtype[Any]] = {"tokens": TOKEN, "tokens16": SHORT}
"""Files of tokens, one of which a split has."""
Beside = Literal["marks", "classes", "numbers"]
"""What stands beside the tokens of a split: a mark of each token, or a class or number of each row."""
FORMS: dict[Beside, np.dtype[Any]] = {"marks": MARK, "classes": WIDE, "numbers": NUMBER}
IGNORED = -100
"""Label that carries no loss, by torch's convention."""


class TokenRows:
    """Random access to one split: input_ids and labels (of each token, or one class or number)."""

    def __init__(self, tokens: Any, labels: Any, ends: Any, labelled: Any | None) -> None:
        self._tokens = tokens
        self._labels = labels
        self._starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        self._ends = ends
        self._labelled = labelled
        self.lengths: npt.NDArray[np.int64] = np.asarray(self._ends - self._starts)
        """Tokens of each row."""

    def take(self, rows: npt.NDArray[np.int64]) -> TokenRows:
        """These rows in this order, each as often as it is named; the tokens are not copied."""
        taken = copy(self)
        taken._starts, taken._ends = self._starts[rows], self._ends[rows]
        taken.lengths = np.asarray(taken._ends - taken._starts)
        if self._labelled is None:
            taken._labels = self._labels[rows]
        else:
            taken._labelled = self._labelled[rows]
        return taken

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Labelled tokens of each row, or 1; the first token of a row is never predicted."""
        if self._labelled is None:
            return np.ones(len(self), dtype=np.int64)
        return np.asarray(self._labelled)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if self._labelled is None:
            return {"input_ids": self._ids(row), "labels": self._labels[row].item()}
        tokens, marks = self.marked(row)
        return {"input_ids": tokens, "labels": np.where(marks, tokens, IGNORED)}

    def marked(self, row: int) -> tuple[Any, Any]:
        """Tokens of a row of text, and which of them are learned."""
        return self._ids(row), self._labels[self._span(row)].astype(np.bool_)

    def _ids(self, row: int) -> Any:
        return np.asarray(self._tokens[self._span(row)], dtype=TOKEN)

    def _span(self, row: int) -> slice:
        return slice(int(self._starts[row]), int(self._ends[row]))


class SplitWriter:
    """The files of one split, written piece by piece."""

    def __init__(
        self, folder: Path, split: str, beside: Beside, vocabulary: int | None = None
    ) -> None:
        """`vocabulary`: no token is as high; None: not known."""
        self._folder, self._split, self._beside = folder, split, beside
        short = vocabulary is not None and vocabulary <= 1 << 16
        self._width = "tokens16" if short else "tokens"
        self._ends: list[npt.NDArray[np.int64]] = []
        self._labelled: list[npt.NDArray[np.int64]] = []
        self._end = 0
        self.facts: dict[str, dict[str, Any]] = {}
        """Size and digest of each file, once all are written."""

    def __enter__(self) -> SplitWriter:
        self._tokens_file, self._labels_file = self._open(self._width), self._open(self._beside)
        return self

    def add(self, tokens: Any, ends: Any, labels: Any, labelled: Any | None = None) -> None:
        """Rows one after the other in `tokens`, where each ends, and what stands beside.

        `labelled` are the labelled tokens of each, where they have been counted.
        """
        form = WIDTHS[self._width]
        if form is SHORT and (highest := int(np.max(tokens, initial=0))) > np.iinfo(form).max:
            raise Refused(  # cut to two bytes it would be another token
                "VocabularyMismatch",
                f"the tokenizer makes token {highest}, and the model embeds fewer",
                next_step="Resize the model's embeddings to its tokenizer and save both again.",
            )
        self._tokens_file.write(_octets(tokens, form))
        self._labels_file.write(_octets(labels, FORMS[self._beside]))
        if self._beside == "marks":
            if labelled is None:
                labelled = labelled_tokens(np.asarray(labels, dtype=np.bool_), np.asarray(ends))
            self._labelled.append(labelled)
        self._ends.append(np.asarray(ends, dtype=np.int64) + self._end)
        self._end += len(tokens)

    def __exit__(self, *raised: object) -> None:
        files = [self._tokens_file, self._labels_file, self._written("ends", self._ends)]
        if self._beside == "marks":
            files.append(self._written("labelled", self._labelled))
        for file in files:
            file.close()
        self.facts = {file.name: file.facts() for file in files}

    def _open(self, name: str) -> Digested:
        return Digested(self._folder / f"{self._split}.{name}")

    def _written(self, name: str, parts: list[npt.NDArray[np.int64]]) -> Digested:
        file = self._open(name)
        for values in parts:
            file.write(_octets(values, WIDE))
        return file


def _octets(values: Any, form: np.dtype[Any]) -> memoryview:
    return np.ascontiguousarray(values, dtype=form).data.cast("B")


def labelled_tokens(marks: npt.NDArray[np.bool_], ends: npt.NDArray[np.int64]) -> Any:
    """How many tokens of each row are learned; the first is never predicted, a mark there is none."""
    counted = np.zeros(
        len(marks) + 1, dtype=np.int32
    )  # half the bytes: nobody adds 2^31 tokens at once
    np.cumsum(marks.view(MARK), dtype=counted.dtype, out=counted[1:])
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return (counted[ends] - counted[np.minimum(starts + 1, ends)]).astype(np.int64)


def open_rows(folder: Path, split: str) -> TokenRows:
    """Map what a SplitWriter wrote."""
    width = next(name for name in WIDTHS if (folder / f"{split}.{name}").exists())
    tokens = _map(folder / f"{split}.{width}", WIDTHS[width])
    ends = _map(folder / f"{split}.ends", WIDE)
    beside = next(name for name in FORMS if (folder / f"{split}.{name}").exists())
    labels = _map(folder / f"{split}.{beside}", FORMS[beside])
    labelled = _map(folder / f"{split}.labelled", WIDE) if beside == "marks" else None
    return TokenRows(tokens, labels, ends, labelled)


def write_votes(folder: Path, split: str, votes: Iterable[bool]) -> None:
    """Write beside the rows whether the first of each two is wanted."""
    values = np.fromiter(votes, dtype=np.bool_).astype(MARK)
    (folder / f"{split}.votes").write_bytes(values.tobytes())


def open_votes(folder: Path, split: str) -> Any:
    """Map what `write_votes` wrote."""
    return _map(folder / f"{split}.votes", MARK)


@dataclass(frozen=True)
class RowLessons:
    """What the training is told of each row of a split."""

    times: npt.NDArray[np.int32] | None = None
    folds: npt.NDArray[np.int32] | None = None


def write_lessons(folder: Path, split: str, lessons: RowLessons) -> None:
    """Write beside the rows what is told of them."""
    for name, values in vars(lessons).items():
        if values is not None:
            (folder / f"{split}.{name}").write_bytes(values.astype(TOKEN).tobytes())


def open_lessons(folder: Path, split: str) -> RowLessons:
    """Map what `write_lessons` wrote."""
    files = {name: folder / f"{split}.{name}" for name in ("times", "folds")}
    return RowLessons(**{name: _map(path, TOKEN) for name, path in files.items() if path.exists()})


def _map(path: Path, dtype: np.dtype[Any]) -> Any:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
