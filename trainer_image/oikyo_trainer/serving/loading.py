"""From the versions' folders to models that have computed once. Runs on a thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from oikyo.api.stages import ServeSpec
from oikyo.api.tasks import Task

from ..errors import Refused
from ..evaluation.models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_model, load_tokenizer
from ..evaluation.record import VersionRecord, verify
from .cpu import threads
from .generator import Generator
from .headed import Classifier, Headed, Regressor
from .metrics import ModelMetrics
from .onebase import load_adapters, own_bytes
from .state import Engine, Loaded
from .turns import Turns

log = logging.getLogger("oikyo.serve")

KINDS: dict[Task, Any] = {
    "TextClassification": AutoModelForSequenceClassification,
    "TextRegression": AutoModelForSequenceClassification,
    "TextGeneration": AutoModelForCausalLM,
}
NOT_THE_TOKENIZER = frozenset(
    {ADAPTER_CONFIG, ADAPTER_WEIGHTS, "config.json", "generation_config.json"}
)
"""Files of an adapter's version that say nothing of how it reads."""


def load(spec: ServeSpec, workspace: Path, metrics: Sequence[ModelMetrics]) -> Loaded:
    """Check the versions against their records, read the weights, compute once with each."""
    started = time.monotonic()
    torch.set_num_threads(threads())
    root = workspace.resolve()
    versions = [(spec.model_name, spec.version, spec.path)]
    versions += [(one.model_name, one.version, one.path) for one in spec.adapters]
    folders = [_folder(path, root) for _, _, path in versions]
    records = [
        _checked(folder, model, version, spec.task)
        for folder, (model, version, _) in zip(folders, versions, strict=True)
    ]
    _share_a_base(folders, records)
    loaded = _loaded(spec.task, folders, records, metrics)
    log.info(
        "loaded %s version %d%s with %d threads in %.1f s",
        spec.model_name,
        spec.version,
        f" and {len(spec.adapters)} adapters beside it" if spec.adapters else "",
        torch.get_num_threads(),
        time.monotonic() - started,
    )
    return loaded


def _folder(path: str, root: Path) -> Path:
    folder = (root / path).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise Refused(
            "VersionMissing",
            f"the workspace holds no folder {path}",
            next_step="Mount the workspace of the job that made the version, or serve another one.",
        )
    return folder


def _checked(folder: Path, model: str, version: int, task: Task) -> VersionRecord:
    """The record; the folder must be the version that was asked for, and one that passed its gates."""
    record = verify(folder)
    held = (record.model, record.version, record.task)
    if held != (model, version, task):
        raise Refused(
            "VersionMismatch",
            f"versions/{folder.parent.name}/{folder.name} holds {held[0]} version {held[1]} "
            f"({held[2]}), not {model} version {version} ({task})",
            next_step="Serve the folder that the ModelVersion names.",
        )
    if record.verdict != "Accepted":
        raise Refused(
            "VersionRejected",
            f"{model} version {version} did not pass its gates and is not served",
            next_step="Serve an accepted version.",
        )
    return record


def _share_a_base(folders: Sequence[Path], records: Sequence[VersionRecord]) -> None:
    """Refuse versions that cannot stand on one copy of a base."""
    if not folders[1:]:
        return
    first = records[0]
    for folder, record in zip(folders, records, strict=True):
        named = f"{record.model} version {record.version}"
        if not (folder / ADAPTER_CONFIG).is_file():
            raise Refused(
                "NotAnAdapter",
                f"{named} is a whole model, and adapters share a base only with adapters",
                next_step="Serve it alone, or train it with training.merge: false.",
            )
        if record.lineage.base_digest != first.lineage.base_digest:
            raise Refused(
                "AdapterDiffers",
                f"{named} was trained from another base ({record.lineage.base}) than {first.model} "
                f"version {first.version} ({first.lineage.base})",
                next_step="Serve it by an endpoint of its own, or train it from the same base.",
            )


def _loaded(
    task: Task,
    folders: Sequence[Path],
    records: Sequence[VersionRecord],
    metrics: Sequence[ModelMetrics],
) -> Loaded:
    models = _models(task, folders)
    tokenizers = _tokenizers(folders, records)
    if task == "TextGeneration":
        turns = Turns()
        generators = [
            Generator(model, tokenizer, own, turns)
            for model, tokenizer, own in zip(models, tokenizers, metrics, strict=True)
        ]
        return Loaded(_engines(generators, folders, records), turns.start, turns.close)
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answer")
    kind = Classifier if task == "TextClassification" else Regressor
    headed = [
        kind(model, tokenizer, record.reading, own, thread)
        for model, tokenizer, record, own in zip(models, tokenizers, records, metrics, strict=True)
    ]

    def start() -> None:
        for one in headed:
            one.start()

    def close() -> None:
        for one in headed:
            one.close()

    return Loaded(_engines(headed, folders, records), start, close)


def _models(task: Task, folders: Sequence[Path]) -> list[PreTrainedModel]:
    """The models, on one copy of the base where there are several."""
    if not folders[1:]:
        return [load_model(KINDS[task], folders[0])]
    models = list(load_adapters(KINDS[task], folders))
    for folder, model in zip(folders, models, strict=True):
        others = [other for other in models if other is not model]
        size = own_bytes(model, others) / 2**20
        log.info("%s/%s: %.2f MiB of its own", folder.parent.name, folder.name, size)
    return models


def _tokenizers(
    folders: Sequence[Path], records: Sequence[VersionRecord]
) -> list[PreTrainedTokenizerBase]:
    """One for each version; versions whose files are the same share one, which may be large."""
    known: dict[frozenset[tuple[str, str]], PreTrainedTokenizerBase] = {}
    found = []
    for folder, record in zip(folders, records, strict=True):
        files = record.files.items()
        key = frozenset((name, sha) for name, sha in files if name not in NOT_THE_TOKENIZER)
        if key not in known:
            known[key] = load_tokenizer(folder)
        found.append(known[key])
    return found


def _engines(
    computing: Sequence[Headed | Generator],
    folders: Sequence[Path],
    records: Sequence[VersionRecord],
) -> tuple[Engine, ...]:
    made = []
    for computes, folder, record in zip(computing, folders, records, strict=True):
        computes.warm_up()
        created = int(datetime.fromisoformat(record.created).timestamp())
        base = record.lineage.base if (folder / ADAPTER_CONFIG).is_file() else ""
        made.append(Engine(computes, record.digest, created, base))
    return tuple(made)
