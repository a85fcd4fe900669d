"""Prepared rows as tokens: tokenised once by rank 0, then memory-mapped by every rank and attempt.

runs/<run>/train/tokens/<key>/ holds the files of `tokenfiles`, where the key is a digest over everything
the tokens depend on. A row becomes input_ids and labels; padding and packing are the batch's business.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from oikyo.api import workspace as layout

from ..errors import Refused
from ..evaluation.prompts import PLAIN_TEMPLATE, encode
from ..files import commit_folder
from .batches import IGNORED
from .distributed import World, barrier
from .tokenfiles import TokenRows, open_rows, write_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 2
"""Number of this file's encoding; part of the key, so that a change never meets old tokens."""
ROWS_AT_ONCE = 1000
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Source:
    """A prepared dataset in the workspace."""

    folder: Path
    digest: str
    shape: str
    """classification, prompt-completion or messages."""
    labels: tuple[str, ...]

    def count(self, split: str) -> int:
        """Rows of a split, from the file's footer; 0 where the file is absent."""
        path = self.folder / f"{split}.parquet"
        return int(pq.read_metadata(path).num_rows) if path.exists() else 0


@dataclass(frozen=True)
class Tokens:
    """The tokenised splits, memory-mapped."""

    train: TokenRows
    validation: TokenRows | None

    @property
    def lengths(self) -> Any:
        """Tokens of each training row, numpy int64."""
        return self.train.lengths


def open_source(workspace: Path, digest: str, task: str) -> Source:
    """The prepared dataset; refuses one that does not fit the task or that is not there."""
    folder = workspace / layout.dataset(digest)
    try:
        manifest = json.loads((folder / layout.MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Refused(
            "DatasetMissing",
            f"the workspace holds no prepared dataset {digest}",
            evidence=str(layout.dataset(digest) / layout.MANIFEST),
            next_step="Apply the job under a new name: its prepare stage writes the dataset again.",
        ) from None
    source = Source(folder, digest, manifest["shape"], tuple(manifest.get("labels") or ()))
    if (source.shape == "classification") != (task == "TextClassification"):
        raise Refused(
            "WrongShape",
            f"task is {task} and the prepared rows are of shape {source.shape}",
            next_step="Set task to what the data holds, or data.fields to the columns of the task.",
        )
    return source


def tokenise(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    folder: Path,
    model_digest: str,
    world: World,
) -> Tokens:
    """The tokens of both splits, made by rank 0 unless an earlier attempt left them."""
    target = folder / "tokens" / _key(source, tokenizer, max_length, model_digest)
    if world.is_first and not target.exists():
        _write(source, tokenizer, max_length, target)
    barrier(world)
    validation = open_rows(target, "validation")
    return Tokens(open_rows(target, "train"), validation if len(validation) else None)


def _key(
    source: Source, tokenizer: PreTrainedTokenizerBase, max_length: int, model_digest: str
) -> str:
    parts = [FORMAT, source.digest, source.shape, source.labels, model_digest, max_length]
    parts.append(tokenizer.chat_template)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _write(
    source: Source, tokenizer: PreTrainedTokenizerBase, max_length: int, target: Path
) -> None:
    staging = target.with_name(f".{target.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    per_token = source.shape != "classification"
    for split in SPLITS:
        rows = _encoded(source, split, tokenizer, max_length)
        write_rows(staging, split, rows, per_token=per_token)
    commit_folder(staging, target)


def _encoded(
    source: Source, split: str, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[tuple[list[int], Any]]:
    path = source.folder / f"{split}.parquet"
    if not path.exists():
        return
    kept = 0
    for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE):
        rows = batch.to_pylist()
        if source.shape == "classification":
            pairs = _classes(rows, source, split, tokenizer, max_length)
        else:
            pairs = _answers(rows, source, tokenizer, max_length)
        kept += len(pairs)
        yield from pairs
    if split == "train" and not kept:
        raise Refused(
            "NoLabelledTokens",
            f"in no row does any token of the answer stand within training.maxLength {max_length}",
            next_step="Raise training.maxLength above the length of the prompts.",
        )


def _classes(
    rows: list[dict[str, Any]],
    source: Source,
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> list[tuple[list[int], Any]]:
    texts = [row["text"] for row in rows]
    encoded = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    number = {label: index for index, label in enumerate(source.labels)}
    try:
        labels = [number[row["label"]] for row in rows]
    except KeyError as unknown:
        raise Refused(
            "UnknownLabel",
            f"{split}.parquet holds the class {unknown}, which the dataset's manifest does not list",
            evidence=str(source.folder / layout.MANIFEST),
            next_step="Apply the job under a new name: its prepare stage writes the dataset again.",
        ) from None
    return list(zip(encoded, labels, strict=True))


def _answers(
    rows: list[dict[str, Any]], source: Source, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[tuple[list[int], Any]]:
    """Tokens and labels of each row whose answer begins within `max_length`; others teach nothing."""
    shape: Any = source.shape
    # The plain template has no end of turn: without one the model would never learn to stop.
    ends = shape == "messages" and tokenizer.chat_template == PLAIN_TEMPLATE
    pairs: list[tuple[list[int], Any]] = []
    for row in rows:
        encoded = encode(tokenizer, row, shape, max_length)
        labels = [
            token if answer else IGNORED
            for token, answer in zip(encoded.tokens, encoded.answer, strict=True)
        ]
        if ends and encoded.answer[-1:] == [True] and len(labels) < max_length:
            encoded.tokens.append(tokenizer.eos_token_id)
            labels.append(tokenizer.eos_token_id)
        # The first token is never predicted: a label there carries no loss.
        if any(label != IGNORED for label in labels[1:]):
            pairs.append((encoded.tokens, labels))
    return pairs
