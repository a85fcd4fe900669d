"""The splits of a dataset written as tokens, piece by piece, so that memory is bounded.

Called by `tokenise`. Many rows go through the tokenizer at once, which uses all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oikyo.api import workspace as layout

from ..errors import Refused
from ..evaluation.cut import Reading
from ..evaluation.encoder import Encoder
from ..evaluation.prompts import Batch, answers, chats, pairs, plain
from ..evaluation.ragged import Marks, Places, Ragged
from ..evaluation.rendering import TemplateRefuses
from ..evaluation.rows import Row, columns_of
from ..training.tokenfiles import (
    Beside,
    RowLessons,
    SplitWriter,
    labelled_tokens,
    write_lessons,
    write_votes,
)
from .columns import Shape
from .lessons import FOLD, TIMES
from .tables import SPLITS, Tables
from .threads import ahead, in_order

BESIDE: dict[Shape, Beside] = {"classification": "classes", "regression": "numbers"}
"""What is written beside the tokens; of other rows, which tokens are learned."""
IN_COLUMNS: tuple[Shape, ...] = (*BESIDE, "prompt-completion", "text")
"""Rows of texts as they stand; all others are rendered by the chat template, one by one."""
ROWS_AT_ONCE = 4096
BYTES_AT_ONCE = 8 << 20
"""Of the texts that become tokens at once: a token costs some tens of bytes until it is written."""
EMPTY, NO_MARKS = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.bool_)

Tell = Callable[[float], None]
"""Told the share of the rows that are done."""
Labelled = tuple[Ragged, Any, Places | None]
"""Tokens of rows, their labels or the marks of their tokens, and of the latter how many each row has."""
Columns = dict[str, npt.NDArray[Any]]


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


def is_rendered(shape: Shape) -> bool:
    """Whether rows of this shape go through the model's chat template."""
    return shape not in IN_COLUMNS


class Writer:
    """Writes the splits of one dataset."""

    def __init__(
        self, tables: Tables, encoder: Encoder, reading: Reading, vocabulary: int, tell: Tell
    ) -> None:
        self._tables, self._vocabulary = tables, vocabulary
        self._shape = tables.shape
        self._labels = list(tables.labels)
        self._encoder = encoder
        self._reading = reading
        self._tell = tell
        self._total = sum(tables.count(split) for split in SPLITS)
        self._done = 0
        self.facts: dict[str, dict[str, Any]] = {}
        """Size and digest of the files that are known so far."""
        self._votes: list[Marks] = []
        self._lessons: dict[str, list[npt.NDArray[np.int32]]] = {}

    def write(self, folder: Path, split: str) -> Counted:
        """Write one split; Refused where the training split has nothing to learn from."""
        counted = Counted()
        self._votes = []
        names = self._tables.names(split)
        self._lessons = {name: [] for name in (TIMES, FOLD) if name in names}
        beside = BESIDE.get(self._shape, "marks")
        with SplitWriter(folder, split, beside, self._vocabulary) as file:
            for rows, (batch, labels, labelled) in ahead(self._encoded(split, counted)):
                file.add(batch.flat, batch.ends, labels, labelled)
                self._done += rows
                self._tell(self._done / max(1, self._total))
        self.facts |= file.facts
        if self._shape in ("preference", "unpaired"):
            write_votes(folder, split, [vote for part in self._votes for vote in part])
        lessons = {name: np.concatenate(parts or [EMPTY]) for name, parts in self._lessons.items()}
        write_lessons(folder, split, RowLessons(lessons.get(TIMES), lessons.get(FOLD)))
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

    def _encoded(self, split: str, counted: Counted) -> Iterator[tuple[int, Labelled]]:
        """Pieces of a split as tokens, each with the number of rows that it was."""
        if not self._tables.names(split):
            return
        in_columns = self._shape in IN_COLUMNS
        parts = self._batches(split) if in_columns else pieces(self._rows(split))
        for part, made in in_order(lambda part: (part, self._made(part)), parts):
            yield len(part), self._counted(part, made, split, counted)

    def _batches(self, split: str) -> Iterator[Any]:
        """The rows of a split as columns, in pieces that memory has room for."""
        there = self._tables.names(split)
        beside = [name for name in ("source", *self._lessons) if name in there]
        columns = [*columns_of(self._shape, there), *beside]
        for batch in self._tables.batches(split, columns, ROWS_AT_ONCE):
            parts = -(-batch.nbytes // BYTES_AT_ONCE) or 1
            size = -(-len(batch) // parts)
            yield from (batch.slice(start, size) for start in range(0, len(batch), size))

    def _rows(self, split: str) -> Iterator[Row]:
        """The rows of a split; a vote gets the answer of the next row, as `_rendered` needs it."""
        rows = (row for batch in self._batches(split) for row in batch.to_pylist())
        yield from _with_other(rows) if self._shape == "unpaired" else rows

    def _made(self, part: Any) -> Batch:
        """Rows as tokens; on any thread. Of rows with a class or a number nothing is marked."""
        if self._shape in BESIDE:
            tokens, lengths = plain(self._encoder, part["text"], self._reading)
            return Batch(tokens, NO_MARKS, lengths)
        if self._shape in IN_COLUMNS:
            return self._texts(part)
        try:
            return self._rendered(part)
        except TemplateRefuses as error:
            if len(part) > 1:  # which one is it?
                for row in part:
                    self._made([row])
            error.evidence = str(part[0].get("source", ""))
            raise

    def _texts(self, part: Any) -> Batch:
        """Rows with a token to learn within the limit; others teach nothing."""
        if self._shape == "text":  # to go on with: the whole is the answer to nothing
            prompts, said = pa.repeat("", len(part)), part["text"]
        else:
            prompts, said = part["prompt"], part["completion"]
        return pairs(self._encoder, prompts, said, self._reading)

    def _rendered(self, rows: Sequence[Row]) -> Batch:
        """Chats; or two rows of tokens for each: chosen and rejected, an answer and an unrelated one."""
        if self._shape == "messages":
            return chats(self._encoder, rows, self._reading)
        sides = ("chosen", "rejected") if self._shape == "preference" else ("completion", "other")
        said = [(row["prompt"], row[side]) for row in rows for side in sides]
        return answers(self._encoder, said, self._reading)

    def _counted(self, part: Any, made: Batch, split: str, counted: Counted) -> Labelled:
        """The rows of `part` that are written, with what is learned of each, counted."""
        if self._shape == "classification":
            return self._whole(part, self._codes(part, split), made, counted)
        if self._shape == "regression":
            return self._whole(part, part["label"], made, counted)
        if self._shape in ("preference", "unpaired"):
            return self._compared(part, made, counted)
        return self._answers(made, self._of(part), counted)

    def _codes(self, part: Any, split: str) -> Any:
        codes = pc.index_in(part["label"], value_set=pa.array(self._labels, pa.string()))
        if codes.null_count:
            unknown = part["label"].filter(pc.is_null(codes))[0].as_py()
            raise Refused(
                "UnknownLabel",
                f"{split}.parquet holds the class {unknown!r}, which the manifest does not list",
                evidence=str(layout.dataset(self._tables.name) / layout.MANIFEST),
                next_step="Apply the job under a new name: its prepare stage writes the data again.",
            )
        return codes

    def _whole(self, part: Any, labels: Any, made: Batch, counted: Counted) -> Labelled:
        """Texts with what each teaches in whole: a class or a number."""
        self._take(counted, made.lengths)
        kept = made.tokens.lengths > 0
        self._keep(self._of(part), kept)
        return self._learned(counted, made.tokens, kept), np.asarray(labels)[kept], None

    def _answers(self, batch: Batch, lessons: Columns, counted: Counted) -> Labelled:
        self._take(counted, batch.lengths)
        labelled = labelled_tokens(batch.answer, batch.tokens.ends)
        kept = labelled > 0
        counted.unlabelled += int((~kept & (batch.tokens.lengths > 0)).sum())
        marks = batch.answer if kept.all() else batch.answer[np.repeat(kept, batch.tokens.lengths)]
        self._keep(lessons, kept)
        return self._learned(counted, batch.tokens, kept), marks, labelled[kept]

    def _compared(self, rows: Sequence[Row], batch: Batch, counted: Counted) -> Labelled:
        self._take(counted, batch.lengths.reshape(-1, 2).max(axis=1))
        learned = labelled_tokens(batch.answer, batch.tokens.ends).reshape(-1, 2)
        there = (batch.tokens.lengths.reshape(-1, 2) > 0).all(axis=1)
        kept = (learned > 0).all(axis=1)
        counted.unlabelled += int((~kept & there).sum())
        self._keep(self._of(rows), kept)
        votes = [row.get("desirable", True) for row in rows]
        self._votes.append(np.array(votes, dtype=np.bool_)[kept])
        both = np.repeat(kept, 2)
        tokens = self._learned(counted, batch.tokens, both)
        counted.rows -= int(kept.sum())  # two rows of tokens are one that is learned
        marks = batch.answer[np.repeat(both, batch.tokens.lengths)]
        return tokens, marks, learned.ravel()[both]

    def _take(self, counted: Counted, lengths: Places) -> None:
        """Count rows by their lengths before the cut."""
        counted.longest = max(counted.longest, int(lengths.max(initial=0)))
        counted.too_long += int((lengths > self._reading.max_length).sum())

    def _learned(self, counted: Counted, tokens: Ragged, kept: Marks) -> Ragged:
        """The rows that are kept, counted."""
        tokens = tokens if kept.all() else tokens.take(np.flatnonzero(kept))
        counted.rows += len(tokens)
        counted.tokens += len(tokens.flat)
        return tokens

    def _of(self, part: Any) -> Columns:
        """What is told of the rows of `part`."""
        if self._shape in IN_COLUMNS:
            return {name: part[name].to_numpy() for name in self._lessons}
        return {name: np.array([row[name] for row in part]) for name in self._lessons}

    def _keep(self, lessons: Columns, kept: Marks) -> None:
        """Take what is told of the rows that are written."""
        for name, parts in self._lessons.items():
            parts.append(lessons[name][kept].astype(np.int32))


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
        if len(piece) >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
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
