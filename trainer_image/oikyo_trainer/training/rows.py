"""Prepared rows and their tokens, opened for a training: mapped into memory, never made here.

The prepare stage wrote both (`data.tokenise`): every rank, trial and attempt reads the same files. A row
is input_ids and labels; padding and packing are the batch's business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainSpec

from ..data.columns import Shape, task_of
from ..errors import Refused
from ..labelset import all_names, membership
from ..numbers import Scale, scale_stored
from ..prepared import manifest_of
from .heads import NUMBER, Head
from .methods.merge import PARITY_ROWS
from .tokenfiles import RowLessons, TokenRows, open_lessons, open_rows

NO_LESSONS = RowLessons()


@dataclass(frozen=True)
class Source:
    """A prepared dataset in the workspace."""

    folder: Path
    digest: str
    shape: Shape
    """As in data.columns."""
    labels: tuple[str, ...]
    several: bool = False
    """Whether each of `labels` is a set of names: a row may have several."""
    scale: Scale | None = None
    """Of the numbers of the training rows (regression)."""

    @property
    def head(self) -> Head | None:
        """The last layer that learns these rows; None: a language model's own."""
        if self.shape == "regression":
            return Head(NUMBER, "regression", self.scale)
        if self.shape != "classification":
            return None
        if self.several:
            return Head(all_names(self.labels), "multi_label_classification")
        return Head(self.labels)

    @property
    def members(self) -> Any:
        """(sets, classes): 1 where a set of `labels` holds the class, numpy float32."""
        return membership(self.labels, all_names(self.labels))

    def count(self, split: str) -> int:
        """Rows of a split, from the file's footer; 0 where the file is absent."""
        path = self.folder / f"{split}.parquet"
        return int(pq.read_metadata(path).num_rows) if path.exists() else 0


@dataclass(frozen=True)
class Tokens:
    """The tokenised splits, memory-mapped."""

    train: TokenRows
    validation: TokenRows | None
    train_lessons: RowLessons = NO_LESSONS
    validation_lessons: RowLessons = NO_LESSONS

    @property
    def lengths(self) -> Any:
        """Tokens of each training row, numpy int64."""
        return self.train.lengths


def open_source(workspace: Path, digest: str, task: str) -> Source:
    """The prepared dataset; refuses one that does not fit the task or that is not there."""
    folder, manifest = workspace / layout.dataset(digest), manifest_of(workspace, digest)
    labels, several = tuple(manifest.get("labels") or ()), bool(manifest.get("several"))
    source = Source(folder, digest, manifest["shape"], labels, several, scale_stored(manifest))
    if task_of(source.shape) != task:
        raise Refused(
            "WrongShape",
            f"task is {task} and the prepared rows are of shape {source.shape}",
            next_step="Set task to what the data holds, or data.fields to the columns of the task.",
        )
    return source


def open_tokens(workspace: Path, spec: TrainSpec) -> Tokens:
    """The tokens that the prepare stage made of the dataset; Refused where they are not whole."""
    if spec.tokens_digest is None:
        raise _missing("the data was prepared by a release that did not write tokens", "")
    folder = workspace / layout.tokens(spec.tokens_digest)
    place = str(layout.tokens(spec.tokens_digest) / layout.MANIFEST)
    try:
        manifest = json.loads((folder / layout.MANIFEST).read_bytes())
        missing = _damaged(folder, manifest["files"])
    except (FileNotFoundError, ValueError, KeyError):
        raise _missing(f"the workspace holds no tokens {spec.tokens_digest}", place) from None
    if missing:
        raise _missing(f"{missing} of the tokens is not as long as it was written", place)
    if manifest["dataset"] != spec.dataset_digest:
        raise _missing(f"the tokens are those of dataset {manifest['dataset']}", place)
    validation = open_rows(folder, "validation")
    return Tokens(
        open_rows(folder, "train"),
        validation if len(validation) else None,
        open_lessons(folder, "train"),
        open_lessons(folder, "validation"),
    )


def some_rows(tokens: Tokens) -> list[list[int]]:
    """Tokens of a few rows, held-out ones where there are any, to compare a merged model on."""
    rows = tokens.validation if tokens.validation is not None else tokens.train
    return [list(rows[index]["input_ids"]) for index in range(min(PARITY_ROWS, len(rows)))]


def _damaged(folder: Path, files: dict[str, Any]) -> str:
    """Name of a file that has not the size it was written with; empty: none."""
    sizes = ((name, folder / name, item["size"]) for name, item in files.items())
    wrong = (n for n, path, size in sizes if not path.is_file() or path.stat().st_size != size)
    return next(wrong, "")


def _missing(what: str, evidence: str) -> Refused:
    return Refused(
        "TokensMissing",
        what,
        evidence=evidence,
        next_step="Apply the job under a new name: its prepare stage writes the tokens again.",
    )
