"""Whole rounds on tiny models: train, evaluate, load as the server does, continue from the version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.stages import EvaluateResult, EvaluateSpec, LastWords, ServeSpec, Source, TrainSpec
from oikyo_trainer.context import Context
from oikyo_trainer.data.models import find, store
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.progress import Reporter
from oikyo_trainer.serving.loading import load
from oikyo_trainer.serving.metrics import Identity, ModelMetrics, ServerMetrics


def judged(lab: Any, spec: TrainSpec, **evaluation: Any) -> EvaluateResult:
    """Train and evaluate: the validation rows are the test rows, any loss passes."""
    result = lab.train(spec)
    words = LastWords(stage="train", result=result)
    (lab.workspace / layout.stage(spec.run, "train") / layout.RESULT).write_text(words.json_line())
    folder = lab.workspace / layout.dataset(spec.dataset_digest)
    shutil.copy(folder / "validation.parquet", folder / "test.parquet")
    asked = EvaluateSpec(
        run=spec.run,
        task=spec.task,
        job="job",
        job_uid="uid",
        dataset_digest=spec.dataset_digest,
        model_digest=spec.model_digest,
        base_uri="pvc://models/base",
        model_name="tiny",
        training=spec.training,
        evaluation={
            "gates": [{"metric": "loss", "max": "100"}], "max_new_tokens": 4, **evaluation
        },
    )  # fmt: skip
    return evaluate(asked, Context(lab.workspace, Reporter("evaluate", 1, spec.run)))


def served(lab: Any, task: str, version: int) -> Any:
    """The engine that answers for a version of the model."""
    path = layout.version("tiny", version).as_posix()
    spec = ServeSpec(model_name="tiny", version=version, task=task, path=path)
    metrics = ModelMetrics(ServerMetrics(), Identity("tiny", version, task))
    return load(spec, lab.workspace, [metrics]).engines[0].computes


def continued(lab: Any, version: int) -> str:
    """Make the version a base model of the workspace, as prepare does; returns its digest."""
    path = lab.workspace / layout.version("tiny", version)
    uri = f"version://tiny/{version}"
    model = find(Source(uri=uri, path=str(path)), lab.workspace)
    staging = lab.workspace / "models" / ".staging"
    return store(model, lab.workspace, staging, lambda _: None)


def metric(result: Any, name: str) -> float:
    return next(float(m.value) for m in result.metrics if m.name == name)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
