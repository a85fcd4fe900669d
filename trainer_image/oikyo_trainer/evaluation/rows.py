"""The rows that are scored: read from the prepared dataset, chosen by content, in a fixed order.

Which rows are scored depends on their content alone, so two runs over the same data compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from oikyo.api import workspace as layout

from ..data.columns import Shape
from ..data.slicing import META
from ..numbers import Scale, scale_stored
from ..prepared import manifest_of

Row = dict[str, Any]  # a row of the dataset; its columns are fixed by the shape
COLUMNS: dict[Shape, tuple[str, ...]] = {
    "classification": ("text", "label"),
    "regression": ("text", "label"),
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages", "tools"),
    "preference": ("prompt", "chosen", "rejected"),
    "unpaired": ("prompt", "completion", "desirable"),
    "text": ("text",),
}


BATCH = 4096


def columns_of(shape: Shape, there: Sequence[str]) -> list[str]:
    """The columns of the shape that are `there`: older versions declare no tools."""
    return [name for name in COLUMNS[shape] if name in there]


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset, as far as evaluation reads it."""

    folder: Path
    shape: Shape
    labels: tuple[str, ...]
    several: bool = False
    """Whether each of `labels` is a set of names."""
    scale: Scale | None = None
    """Of the numbers of the training rows (regression)."""

    def rows(self, split: str, most: int | None = None) -> list[Row]:
        """The rows of a split, or the first `most` of them."""
        rows: list[Row] = []
        for batch in self._batches(split):
            rows += batch.to_pylist()
            if most is not None and len(rows) >= most:
                rows = rows[:most]
                break
        return self._shaped(rows)

    def fold(self, number: int) -> list[Row]:
        """The training and validation rows of a fold of the cross-validation, less those that were made."""
        rows: list[Row] = []
        for split in ("train", "validation"):
            for batch in self._batches(split, "learn.fold", "synthetic"):
                own = pc.equal(batch["learn.fold"], number)
                if "synthetic" in batch.schema.names:
                    own = pc.and_(own, pc.is_null(batch["synthetic"]))
                kept = batch.filter(own)
                names = [n for n in kept.schema.names if n not in ("learn.fold", "synthetic")]
                rows += kept.select(names).to_pylist()
        return self._shaped(rows)

    def _batches(self, split: str, *more: str) -> Iterator[Any]:  # pyarrow is untyped
        file = pq.ParquetFile(self.folder / f"{split}.parquet")
        there = file.schema_arrow.names
        beside = [name for name in there if name.startswith(META) or name in more]
        return file.iter_batches(BATCH, columns=[*columns_of(self.shape, there), *beside])

    def _shaped(self, rows: list[Row]) -> list[Row]:
        return [_bare(row) for row in rows] if self.shape == "messages" else rows


def _bare(row: Row) -> Row:
    """A chat without the columns that it has no use for."""
    turns = [{key: value for key, value in turn.items() if value is not None}
             for turn in row["messages"]]  # fmt: skip
    rest = {key: value for key, value in row.items() if key != "tools" or value}
    return {**rest, "messages": turns}


def open_dataset(workspace: Path, digest: str) -> Dataset:
    """The dataset of this digest; refuses one that prepare did not finish."""
    folder, manifest = workspace / layout.dataset(digest), manifest_of(workspace, digest)
    labels, several = tuple(manifest.get("labels") or ()), bool(manifest.get("several"))
    return Dataset(folder, manifest["shape"], labels, several, scale_stored(manifest))


def content_key(row: Row) -> str:
    """SHA-256 over a row's content, without the columns that group it: the order in which rows are chosen."""
    own = {name: value for name, value in row.items() if not name.startswith(META)}
    body = json.dumps(own, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def choose(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """At most `limit` rows, those with the least content key, in the order of the key."""
    chosen = sorted(rows, key=content_key)
    return chosen if limit is None else chosen[:limit]


def by_length(lengths: Sequence[int], *, most_tokens: int, most_rows: int = 64) -> list[list[int]]:
    """Indices in batches of like length, longest first; rows * longest <= `most_tokens` or one row."""
    batches: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = not batches or len(batches[-1]) >= most_rows
        if full or width * (len(batches[-1]) + 1) > most_tokens:
            batches.append([])
            width = max(1, lengths[index])
        batches[-1].append(index)
    return batches
