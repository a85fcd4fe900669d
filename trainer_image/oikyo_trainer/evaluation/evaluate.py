"""The evaluate stage: measure the tuned and the base model alike, judge the gates, write the version.

Reads the test split, the training's result and the base model; writes versions/<model>/<n>/.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path

from oikyo.api import workspace as layout
from oikyo.api.jobstatus import GateResult
from oikyo.api.meta import Metric
from oikyo.api.stages import EvaluateResult, EvaluateSpec, LastWords, TrainResult

from ..attempt import check_attempt
from ..context import Context
from ..errors import Refused
from ..progress import now, text
from .crossvalidation import clear, cross_validate, spread
from .gates import accepted, judge
from .general import Remembered, remembered
from .latency import latency_gates
from .measure import Measured, Models, measure
from .record import FoldRecord, RecordLineage, VersionRecord
from .release import find_version, release
from .rows import open_dataset

log = logging.getLogger("oikyo.evaluate")

LIBRARIES = ("torch", "transformers", "peft", "trl", "tokenizers", "safetensors")
"""The libraries on which a repetition of the result depends most: last words have 4 KiB."""
MEASURED, HALF = 95.0, 50.0
"""Percent of the stage after which all is measured; and the test split, where there are folds too."""
WORD = 96
"""Characters that one of the hyperparameters in the last words may have."""


def evaluate(spec: EvaluateSpec, context: Context) -> EvaluateResult:
    """Run the stage: find an earlier version of the same input, else measure, judge and release."""
    earlier = find_version(context.workspace, spec.model_name, spec.run, spec.input_digest())
    if earlier is not None:
        log.info("version %d of the same run and input is already written", earlier.version)
        clear(spec, context.workspace)
        return _result(earlier)
    training = _training_result(spec, context.workspace)
    models = _models(spec, training, context.workspace)
    dataset = open_dataset(context.workspace, spec.dataset_digest)
    half = HALF if spec.evaluation.cross_validation else MEASURED
    measured = measure(
        spec, models, dataset, lambda share: context.reporter.update(percentage=share * half)
    )
    general = remembered(spec, models, context.workspace)
    folds = cross_validate(
        spec,
        context.workspace,
        dataset,
        lambda share: context.reporter.update(percentage=half + share * (MEASURED - half)),
    )
    fast, latency = latency_gates(spec, models.tuned)
    draft = _draft(spec, training, measured, folds, general, fast, latency)
    check_attempt(spec, context)
    record = release(context.workspace, models.tuned, draft, min_version=spec.min_version)
    clear(spec, context.workspace)
    context.reporter.update(percentage=100)
    log.info("version=%d verdict=%s rows=%d", record.version, record.verdict, record.rows)
    return _result(record)


def _training_result(spec: EvaluateSpec, workspace: Path) -> TrainResult:
    path = workspace / layout.stage(spec.run, "train") / layout.RESULT
    try:
        words = LastWords.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        words = None
    if words is None or not isinstance(words.result, TrainResult):
        raise Refused(
            "TrainingMissing",
            f"run {spec.run} has no finished training to evaluate",
            evidence=path.relative_to(workspace).as_posix(),
            next_step="Apply the job under a new name: the workspace lost the training's result.",
        )
    return words.result


def _models(spec: EvaluateSpec, training: TrainResult, workspace: Path) -> Models:
    named = training.model_path or str(layout.stage(spec.run, "train") / "model")
    models = Models(tuned=workspace / named, base=workspace / layout.model(spec.model_digest))
    for folder, what in ((models.tuned, "tuned"), (models.base, "base")):
        if not (folder / "config.json").is_file():
            raise Refused(
                "ModelMissing",
                f"the {what} model has no config.json",
                evidence=folder.relative_to(workspace).as_posix(),
                next_step="Apply the job under a new name: the workspace lost a model.",
            )
    return models


def _draft(
    spec: EvaluateSpec,
    training: TrainResult,
    measured: Measured,
    folds: tuple[FoldRecord, ...],
    general: Remembered | None,
    fast: Mapping[str, float],
    latency: tuple[GateResult, ...],
) -> VersionRecord:
    metrics, baseline = {**measured.metrics, **spread(folds)}, {**measured.baseline}
    gates = judge(spec.evaluation.gates, metrics, baseline, spec.task, spec.training.objective)
    if general is not None:
        metrics |= general.metrics
        baseline |= general.baseline
        gates += (general.gate(),)
    metrics |= fast
    gates += latency
    return VersionRecord(
        model=spec.model_name,
        task=spec.task,
        verdict="Accepted" if accepted(gates) else "Rejected",
        max_length=spec.training.max_length,
        truncation=spec.training.truncation,
        metrics=_as_metrics(metrics),
        baseline=_as_metrics(baseline),
        baseline_method=measured.baseline_method,
        gates=gates,
        training=training.metrics,
        rows=measured.rows,
        generated_rows=measured.generated_rows,
        slices=measured.slices,
        folds=folds,
        forgetting=general.sentence(training) if general is not None else "",
        lineage=_lineage(spec, training),
        created=now(),
    )


def _lineage(spec: EvaluateSpec, training: TrainResult) -> RecordLineage:
    return RecordLineage(
        job=spec.job,
        job_uid=spec.job_uid,
        run=spec.run,
        attempt=spec.attempt,
        input_digest=spec.input_digest(),
        base=spec.base_uri,
        base_digest=spec.model_digest,
        dataset_digest=spec.dataset_digest,
        hyperparameters=hyperparameters(spec, training),
        seeds={"training": spec.training.seed},
        libraries=_libraries(),
        image=spec.image,
    )


def hyperparameters(spec: EvaluateSpec, training: TrainResult) -> tuple[Metric, ...]:
    """The settings as they ran: what the training resolved stands in for what the spec left open."""
    chosen = {item.name.removeprefix("training."): item.value for item in training.resolved}
    asked = spec.training
    settings = {
        "method": asked.method,
        "learningRate": asked.learning_rate,
        "scheduler": asked.scheduler,
        "warmupRatio": asked.warmup_ratio,
        "weightDecay": asked.weight_decay,
        "maxGradNorm": asked.max_grad_norm,
        "labelSmoothing": asked.label_smoothing,
        "epochs": str(asked.epochs),
        "batchSize": str(asked.batch_size),
        "maxLength": str(asked.max_length),
        "truncation": asked.truncation,
        "precision": asked.precision,
        "strategy": asked.strategy,
        "seed": str(asked.seed),
    }
    if asked.loss_on != "Answers":
        settings["lossOn"] = asked.loss_on
    if asked.method in ("LoRA", "QLoRA"):
        lora = asked.lora
        variant = "" if lora.variant == "Standard" else f"{lora.variant}, "
        settings["lora"] = f"{variant}rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout}"
        if lora.target_modules:
            settings["targetModules"] = ", ".join(lora.target_modules)
    if asked.method == "OFT":
        settings["oft"] = f"blocks of {asked.oft.block_size}"
    if asked.method == "PromptTuning":
        settings["virtualTokens"] = str(asked.prompt_tuning.virtual_tokens)
    if asked.optimizer != "AdamW":
        settings["optimizer"] = asked.optimizer
    if asked.dropout is not None:
        settings["dropout"] = asked.dropout
    if asked.neftune_alpha is not None:
        settings["neftuneAlpha"] = asked.neftune_alpha
    if asked.select_by != "loss":
        settings["selectBy"] = asked.select_by
    if asked.general is not None:
        settings["replay"] = asked.general.replay
    if asked.method == "QLoRA":
        settings["quantization"] = f"{asked.quantization.bits} bits"
    if asked.objective != "Supervised":
        settings |= {"objective": asked.objective, "beta": asked.preference.beta}
    settings = {name: chosen.get(name, value) for name, value in settings.items()}
    settings |= {"steps": str(training.steps), "bestStep": str(training.best_step)}
    return tuple(Metric(name=name, value=value[:WORD]) for name, value in settings.items())


def _libraries() -> tuple[Metric, ...]:
    return tuple(Metric(name=name, value=importlib.metadata.version(name)) for name in LIBRARIES)


def _as_metrics(values: Mapping[str, float]) -> tuple[Metric, ...]:
    return tuple(Metric(name=name, value=text(value)) for name, value in values.items())


def _result(record: VersionRecord) -> EvaluateResult:
    return EvaluateResult(
        accepted=record.verdict == "Accepted",
        metrics=record.metrics,
        baseline=record.baseline,
        gates=record.gates,
        version=record.version,
        path=layout.version(record.model, record.version).as_posix(),
        digest=record.digest,
        hyperparameters=record.lineage.hyperparameters,
        libraries=record.lineage.libraries,
        rows=record.rows,
        forgetting=record.forgetting,
    )
