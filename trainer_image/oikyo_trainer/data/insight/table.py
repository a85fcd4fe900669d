"""The rows that the statistics look at: all of them, or a sample chosen by content.

Rows come from a version's Parquet files or from the arrays of prepare; both give the same table for
the same rows, because the sample is that of the least ids and texts are cut at the same length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from oikyo.api import workspace as layout

from ...numbers import text_of
from ..columns import Shape
from ..dedup import in_order_of
from ..intake import Intake
from ..report import where
from ..slicing import META
from ..split import SIDES, Sides
from ..spool import Index, Mask, Rows, Spool, slices
from ..version import SYNTHETIC

ROWS = 50_000
"""Rows that the statistics look at where nothing hurries; of more, those with the least ids."""
CUT = 2000
"""Characters of a text that the statistics see."""


@dataclass(frozen=True)
class Table:
    """Rows in the order of their ids; every list and array has one entry for each row."""

    shape: Shape
    ids: list[str]
    sources: list[str]
    """file:line of each row."""
    sides: Sides
    texts: list[str]
    """The input as one text, cut at CUT characters."""
    answers: list[str]
    """The label, the number, the completion or the last turn, cut likewise."""
    lengths: npt.NDArray[np.int64]
    """Characters of input and answer (of the text alone for classes and numbers), uncut."""
    labels: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    """Place of the row's label in `labels`; empty when rows have no labels."""
    meta: dict[str, list[str | None]] = field(default_factory=dict)
    total: int = 0
    """Rows that the table was chosen from."""
    several: bool = False
    """Whether each label is a set of names (labelset)."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def numbers(self) -> npt.NDArray[np.float64] | None:
        """The number of each row; None: rows have none."""
        return np.array(self.answers, dtype=np.float64) if self.shape == "regression" else None

    @property
    def sampled(self) -> bool:
        return self.total > len(self)


def of_version(folder: Path, limit: int, *, made: bool = False) -> Table:
    """The rows of a prepared version; with `made` those that data.augment made of them as well."""
    manifest = json.loads((folder / layout.MANIFEST).read_bytes())
    parts = []
    for side, name in enumerate(SIDES):
        table = pq.read_table(folder / f"{name}.parquet")
        parts.append(table.append_column("side", pa.array([side] * len(table), pa.int8())))
    together = pa.concat_tables(parts)
    if not made and SYNTHETIC in together.column_names:
        together = together.filter(pc.is_null(together[SYNTHETIC]))
    order = pc.sort_indices(together["id"])[:limit]
    table = _table(manifest["shape"], together.take(order), len(together))
    return replace(table, several=bool(manifest.get("several")))


def of_rows(intake: Intake, rows: Rows, sides: Sides, spool: Spool, limit: int) -> Table:
    """The kept rows of a running prepare."""
    kept = sides >= 0
    order = least(rows, kept, limit)
    parts = [
        _with_names(intake, rows, sides, piece, texts)
        for piece, texts in spool.gather(order, rows.lengths)
    ]
    together = (
        pa.concat_tables(parts)
        if parts
        else _with_names(intake, rows, sides, order, spool.schema.empty_table())
    )
    table = _table(spool.shape, together, int(kept.sum()))
    return replace(table, several=intake.several)


def least(rows: Rows, kept: Mask, limit: int) -> Index:
    """The `limit` rows of `kept` with the least ids, in their order."""
    share = 2 * limit / max(1, int(kept.sum()))
    most = np.uint64(share * 2**64) if share < 1 else np.uint64(2**64 - 1)
    parts = [
        np.flatnonzero(kept[part] & (rows.rows[part, 0] <= most)) + part.start
        for part in slices(len(kept))
    ]
    near = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    if len(near) < limit:  # ids are hashes: twice as many were to be expected
        near = np.flatnonzero(kept)
    return near[in_order_of(rows.rows[near])][:limit]


def _with_names(intake: Intake, rows: Rows, sides: Sides, piece: Index, texts: Any) -> Any:
    ids = [f"{high:016x}{low:016x}" for high, low in rows.rows[piece].tolist()]
    names = [where(intake, rows, int(row)) for row in piece]
    columns = {"id": pa.array(ids, pa.string()), "source": pa.array(names, pa.string())}
    columns["side"] = pa.array(sides[piece], pa.int8())
    columns |= dict(zip(texts.column_names, texts.columns, strict=True))
    columns |= intake.slices.columns(piece) if intake.slices else {}
    return pa.table(columns)


def _table(shape: Shape, table: Any, total: int) -> Table:  # Any: pyarrow is untyped
    texts, answers, lengths = _texts(shape, table)
    labels: tuple[str, ...] = ()
    codes = np.zeros(0, dtype=np.int64)
    if shape == "classification":
        named, codes = np.unique(np.array(answers, dtype=object), return_inverse=True)
        labels = tuple(named.tolist())
    return Table(
        shape=shape,
        ids=table["id"].to_pylist(),
        sources=table["source"].to_pylist(),
        sides=np.array(table["side"], dtype=np.int8),
        texts=texts,
        answers=answers,
        lengths=lengths,
        labels=labels,
        codes=codes.astype(np.int64),
        meta={
            name.removeprefix(META): _words(table[name])
            for name in table.column_names
            if name.startswith(META)
        },
        total=total,
    )


def _words(column: Any) -> list[str | None]:
    return [None if value is None else str(value) for value in column.to_pylist()]


def _texts(shape: Shape, table: Any) -> tuple[list[str], list[str], npt.NDArray[np.int64]]:
    if shape == "messages":
        return _chats(table["messages"].to_pylist())
    if shape in ("preference", "unpaired"):
        answers = table["chosen" if shape == "preference" else "completion"].to_pylist()
        asked = zip(table["prompt"].to_pylist(), answers, strict=True)
        return _chats([[*prompt, {"content": answer}] for prompt, answer in asked])
    if shape == "text":
        lengths = np.array(pc.utf8_length(table["text"]), dtype=np.int64)
        return _cut(table["text"]), [""] * len(table), lengths
    if shape == "regression":
        lengths = np.array(pc.utf8_length(table["text"]), dtype=np.int64)
        return _cut(table["text"]), [text_of(n) for n in table["label"].to_pylist()], lengths
    text, answer = ("text", "label") if shape == "classification" else ("prompt", "completion")
    lengths = np.array(pc.utf8_length(table[text]), dtype=np.int64)
    if shape != "classification":
        lengths = lengths + np.array(pc.utf8_length(table[answer]), dtype=np.int64)
    return _cut(table[text]), _cut(table[answer]), lengths


def _cut(column: Any) -> list[str]:
    cut: list[str] = pc.utf8_slice_codeunits(column, 0, CUT).to_pylist()
    return cut


def _chats(chats: Sequence[Any]) -> tuple[list[str], list[str], npt.NDArray[np.int64]]:
    said = ["\n".join(turn["content"] for turn in chat[:-1])[:CUT] for chat in chats]
    answers = [chat[-1]["content"][:CUT] for chat in chats]
    lengths = [sum(len(turn["content"]) for turn in chat) for chat in chats]
    return said, answers, np.array(lengths, dtype=np.int64)


def labelled(table: Table) -> Iterator[tuple[str, Index]]:
    """Each label with the places of its rows."""
    for code, name in enumerate(table.labels):
        yield name, np.flatnonzero(table.codes == code)


def with_labels(table: Table, codes: npt.NDArray[np.int64]) -> Table:
    """The same rows under other labels."""
    return replace(table, codes=codes, answers=[table.labels[code] for code in codes.tolist()])
