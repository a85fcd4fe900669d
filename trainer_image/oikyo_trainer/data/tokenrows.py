"""The splits of a dataset written as tokens, piece by piece, so that memory is bounded.

Called by `tokenise`. Many rows go through the tokenizer at once, which uses all cores.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from oikyo.api import workspace as layout

from ..errors import Refused
from ..evaluation.cut import Reading
from ..evaluation.prompts import Encoded, encode, encode_answers, encode_texts
from ..evaluation.rendering import TemplateRefuses
from ..evaluation.rows import Row, Shape, columns_of
from ..training.tokenfiles import RowLessons, write_lessons, write_rows, write_votes
from .lessons import FOLD, TIMES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation")
ROWS_AT_ONCE = 1024
CHARACTERS_AT_ONCE = 4 << 20
"""A token costs some sixty bytes until it is written."""

Tell = Callable[[float], None]
"""Told the share of the rows that are done."""
Labelled = tuple[Any, Any]  # tokens of a row, and its label or the marks of its tokens


@dataclass
class Counted:
    """What became of the rows of one split."""

    rows: int = 0
    """Rows that are learned from."""
    tokens: int = 0
    longest: int = 0
    """Tokens of the longest row before the cut."""
    too_long: int = 0
    """Rows that were cut, or left out for their length."""
    unlabelled: int = 0
    """Rows left out because no token to learn was within the limit."""

    def take(self, encoded: Encoded, reading: Reading) -> None:
        self.longest = max(self.longest, encoded.length)
        self.too_long += encoded.length > reading.max_length


class Writer:
    """Writes the splits of one dataset."""

    def __init__(
        self, dataset: Path, tokenizer: PreTrainedTokenizerBase, reading: Reading, tell: Tell
    ) -> None:
        manifest = json.loads((dataset / layout.MANIFEST).read_bytes())
        self._dataset = dataset
        self._shape: Shape = manifest["shape"]
        self._number = {label: code for code, label in enumerate(manifest.get("labels") or ())}
        self._tokenizer = tokenizer
        self._reading = reading
        self._tell = tell
        self._total = sum(self._rows_of(split) for split in SPLITS)
        self._done = 0
        self._votes: list[bool] = []
        self._lessons: dict[str, array[int]] = {}

    def write(self, folder: Path, split: str) -> Counted:
        """Write one split; Refused where the training split has nothing to learn from."""
        counted = Counted()
        self._votes = []
        self._lessons = {name: array("i") for name in self._told(split)}
        rows = self._encoded(split, counted)
        write_rows(folder, split, rows, per_token=self._shape != "classification")
        if self._shape in ("preference", "unpaired"):
            write_votes(folder, split, self._votes)
        told = {name: np.frombuffer(v, dtype=np.int32) for name, v in self._lessons.items()}
        write_lessons(folder, split, RowLessons(told.get(TIMES), told.get(FOLD)))
        if split == "train" and not counted.rows:
            raise self._nothing(counted)
        return counted

    def _nothing(self, counted: Counted) -> Refused:
        limit = self._reading.max_length
        if not counted.unlabelled and counted.too_long:
            what = f"every row has more than training.maxLength {limit} tokens, and is dropped"
        elif self._shape in ("preference", "unpaired"):
            what = f"in no row do both answers begin within training.maxLength {limit}"
        else:
            what = f"in no row does any token of the answer stand within training.maxLength {limit}"
        step = "Raise training.maxLength above the length of the prompts."
        return Refused("NoLabelledTokens", what, next_step=step)

    def _path(self, split: str) -> Path:
        return self._dataset / f"{split}.parquet"

    def _rows_of(self, split: str) -> int:
        path = self._path(split)
        return int(pq.read_metadata(path).num_rows) if path.exists() else 0

    def _told(self, split: str) -> list[str]:
        """The columns of the split that say how its rows are learned."""
        path = self._path(split)
        names = pq.read_schema(path).names if path.exists() else []
        return [name for name in (TIMES, FOLD) if name in names]

    def _keep(self, row: Row) -> None:
        """Take what is told of a row that is written."""
        for name, values in self._lessons.items():
            values.append(row[name])

    def _encoded(self, split: str, counted: Counted) -> Iterator[Labelled]:
        if not self._path(split).exists():
            return
        for rows in pieces(self._read(split)):
            yield from self._piece(rows, split, counted)
            self._done += len(rows)
            self._tell(self._done / max(1, self._total))

    def _read(self, split: str) -> Iterator[Row]:
        """The rows of a split; a vote gets the answer of the next row, as `_comparisons` needs it."""
        file = pq.ParquetFile(self._path(split))
        columns = columns_of(self._shape, file)
        columns += [n for n in ("source", *self._lessons) if n in file.schema_arrow.names]
        batches = (batch.to_pylist() for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns))
        rows = (row for batch in batches for row in batch)
        yield from _with_other(rows) if self._shape == "unpaired" else rows

    def _piece(self, rows: Sequence[Row], split: str, counted: Counted) -> Iterator[Labelled]:
        kinds = {
            "classification": self._classes,
            "preference": self._comparisons,
            "unpaired": self._comparisons,
        }
        kind = kinds.get(self._shape, self._answers)
        try:
            yield from kind(rows, split, counted)
        except TemplateRefuses as error:
            if len(rows) > 1:  # which one is it?
                for row in rows:
                    list(self._piece([row], split, Counted()))
            error.evidence = str(rows[0].get("source", ""))
            raise

    def _classes(self, rows: Sequence[Row], split: str, counted: Counted) -> Iterator[Labelled]:
        try:
            labels = [self._number[row["label"]] for row in rows]
        except KeyError as unknown:
            raise Refused(
                "UnknownLabel",
                f"{split}.parquet holds the class {unknown}, which the manifest does not list",
                evidence=str(layout.dataset(self._dataset.name) / layout.MANIFEST),
                next_step="Apply the job under a new name: its prepare stage writes the data again.",
            ) from None
        texts = [row["text"] for row in rows]
        encoded = encode_texts(self._tokenizer, texts, self._reading)
        for row, (tokens, length), label in zip(rows, encoded, labels, strict=True):
            counted.longest = max(counted.longest, length)
            counted.too_long += length > self._reading.max_length
            if len(tokens):
                counted.rows, counted.tokens = counted.rows + 1, counted.tokens + len(tokens)
                self._keep(row)
                yield tokens, label

    def _answers(self, rows: Sequence[Row], split: str, counted: Counted) -> Iterator[Labelled]:
        """Rows with a token to learn within the limit; others teach nothing."""
        every = encode(self._tokenizer, rows, self._shape, self._reading)
        for row, encoded in zip(rows, every, strict=True):
            counted.take(encoded, self._reading)
            # The first token is never predicted: a label there carries no loss.
            if encoded.answer[1:].any():
                counted.rows += 1
                counted.tokens += len(encoded.tokens)
                self._keep(row)
                yield encoded.tokens, encoded.answer
            elif len(encoded.tokens):
                counted.unlabelled += 1

    def _comparisons(self, rows: Sequence[Row], split: str, counted: Counted) -> Iterator[Labelled]:
        """Two rows of tokens for each: chosen and rejected, or an answer and an unrelated one."""
        sides = ("chosen", "rejected") if self._shape == "preference" else ("completion", "other")
        pairs = [(row["prompt"], row[side]) for row in rows for side in sides]
        encoded = encode_answers(self._tokenizer, pairs, self._reading)
        for row, first, second in zip(rows, encoded[::2], encoded[1::2], strict=True):
            longer = max(first, second, key=lambda one: one.length)
            counted.take(longer, self._reading)
            if not (first.answer[1:].any() and second.answer[1:].any()):
                counted.unlabelled += bool(len(first.tokens) and len(second.tokens))
                continue
            counted.rows += 1
            counted.tokens += len(first.tokens) + len(second.tokens)
            self._keep(row)
            self._votes.append(row.get("desirable", True))
            yield first.tokens, first.answer
            yield second.tokens, second.answer


def _with_other(rows: Iterable[Row]) -> Iterator[Row]:
    """Each row with the answer of the next, of the last one with that of the first.

    Unrelated to the prompt, as KTO's estimate of the divergence needs it.
    """
    first = before = None
    for row in rows:
        if before is None:
            first = row
        else:
            yield {**before, "other": row["completion"]}
        before = row
    if before is not None and first is not None:
        yield {**before, "other": first["completion"]}


def pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows that are tokenised at once: so many that all cores work, so few that memory is bounded."""
    piece: list[Row] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += _characters(row)
        if len(piece) >= ROWS_AT_ONCE or size >= CHARACTERS_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_characters(part) for part in value.values())
    return sum(_characters(part) for part in value) if isinstance(value, list) else 0
