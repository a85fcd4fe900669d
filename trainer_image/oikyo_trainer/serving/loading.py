"""From a version's folder to a model that has computed once. Runs on a thread of its own."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from oikyo.api.stages import ServeSpec

from ..errors import Refused
from ..evaluation.models import load_model, load_tokenizer
from ..evaluation.record import VersionRecord, verify
from .classifier import Classifier
from .cpu import threads
from .generator import Generator
from .metrics import ServerMetrics
from .state import Loaded

log = logging.getLogger("oikyo.serve")


def load(spec: ServeSpec, workspace: Path, metrics: ServerMetrics) -> Loaded:
    """Check the version against its record, read the weights, compute once."""
    started = time.monotonic()
    torch.set_num_threads(threads())
    folder = _folder(spec, workspace)
    record = verify(folder)
    _matches(spec, record)
    engine = _engine(spec, folder, record, metrics)
    engine.warm_up()
    log.info(
        "loaded %s version %d with %d threads in %.1f s",
        spec.model_name,
        spec.version,
        torch.get_num_threads(),
        time.monotonic() - started,
    )
    return Loaded(engine, record.digest, int(datetime.fromisoformat(record.created).timestamp()))


def _folder(spec: ServeSpec, workspace: Path) -> Path:
    root = workspace.resolve()
    folder = (root / spec.path).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise Refused(
            "VersionMissing",
            f"the workspace holds no folder {spec.path}",
            next_step="Mount the workspace of the job that made the version, or serve another one.",
        )
    return folder


def _matches(spec: ServeSpec, record: VersionRecord) -> None:
    """The folder must be the version that was asked for, and one that passed its gates."""
    asked = (spec.model_name, spec.version, spec.task)
    held = (record.model, record.version, record.task)
    if asked != held:
        raise Refused(
            "VersionMismatch",
            f"{spec.path} holds {held[0]} version {held[1]} ({held[2]}), "
            f"not {asked[0]} version {asked[1]} ({asked[2]})",
            next_step="Serve the folder that the ModelVersion names.",
        )
    if record.verdict != "Accepted":
        raise Refused(
            "VersionRejected",
            f"{spec.model_name} version {spec.version} did not pass its gates and is not served",
            next_step="Serve an accepted version.",
        )


def _engine(
    spec: ServeSpec, folder: Path, record: VersionRecord, metrics: ServerMetrics
) -> Classifier | Generator:
    tokenizer = load_tokenizer(folder)
    if spec.task == "TextClassification":
        model = load_model(AutoModelForSequenceClassification, folder)
        return Classifier(model, tokenizer, record.reading, metrics)
    return Generator(load_model(AutoModelForCausalLM, folder), tokenizer, metrics)
