"""Where things lie in the workspace: paths only, relative to its root, no I/O.

datasets/<digest>/      train, validation, test as Parquet; report.json; manifest.json, written last
tokens/<digest>/        their rows as tokens for one model, mapped by every rank; manifest.json, written last
models/<digest>/        the base model's files, shared by every attempt and server
datasets/<digest>/few-shot/  examples for prompts, chosen from the training split
runs/<run>/<stage>/     result.json, written last; train/checkpoints/checkpoint-<step>/manifest.json
                        train/folds/<n>/ the same for each training of a cross-validation
versions/<model>/<n>/   safetensors, tokenizer, README.md (model card), history.jsonl, record.json
A digest folder is named by the hexadecimal part alone: a colon is not portable in file names.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from .fewshot import FewShot

MANIFEST = "manifest.json"
RESULT = "result.json"
RECORD = "record.json"
HISTORY = "history.jsonl"
"""What a training logged: step, time and values, a line each; in the train stage's folder and in a version."""


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def dataset(digest: str) -> PurePosixPath:
    return PurePosixPath("datasets", _hex(digest))


def tokens(digest: str) -> PurePosixPath:
    return PurePosixPath("tokens", _hex(digest))


def few_shot(dataset_digest: str, asked: FewShot) -> PurePosixPath:
    """The examples for prompts that were chosen from a dataset."""
    how = asked.choose_by.lower()
    if asked.class_by is not None:  # a column may have any name
        how += "-" + hashlib.sha256(asked.class_by.encode()).hexdigest()[:8]
    return dataset(dataset_digest) / "few-shot" / f"{how}-{asked.examples}-{asked.seed}.json"


def model(digest: str) -> PurePosixPath:
    return PurePosixPath("models", _hex(digest))


def run(run: str) -> PurePosixPath:
    return PurePosixPath("runs", run)


def stage(run_id: str, stage: str) -> PurePosixPath:
    return run(run_id) / stage


def checkpoints(run_id: str) -> PurePosixPath:
    return stage(run_id, "train") / "checkpoints"


def version(model_name: str, number: int) -> PurePosixPath:
    return PurePosixPath("versions", model_name, str(number))
