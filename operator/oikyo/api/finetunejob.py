"""FineTuneJob: one bounded run from data to a released model. The spec is what a person or Git owns."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import API_VERSION, NAME_RULES, Model, Name, Quantity, Rule, Word
from .data import DataSpec
from .evaluation import EvaluationSpec
from .jobstatus import FineTuneJobStatus
from .latency import LatencyBudget
from .meta import MANAGED_BY, ObjectMeta
from .modelendpoint import (
    Replicas,
    ReplicasField,
    Resources,
    ResourcesField,
    RuntimeField,
    TargetCpuField,
)
from .scheduling import Scheduling
from .sources import ModelSource
from .tasks import Task
from .training import TrainingSpec


class DeploymentSpec(Model):
    """Serve an accepted result: a ModelEndpoint is created if the model has none."""

    replicas: ReplicasField = Replicas()
    runtime: RuntimeField = "Oikyo"
    resources: ResourcesField = Resources()
    target_cpu_percent: TargetCpuField = 70
    latency: Annotated[
        LatencyBudget | None,
        Field(
            description="How fast one request must be answered: predicted before training, measured "
            "after it as gates. Default: no limit. Example: {firstTokenMilliseconds: 500, tokenMilliseconds: 50}."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.latency) || self.runtime == 'Oikyo'",
            "latency is measured with the Oikyo server: leave latency out, or write runtime: Oikyo",
            ".latency",
        ),
        Rule(
            "!has(self.latency) || !has(self.latency.gpuProduct) || self.resources.gpus > 0",
            "gpuProduct names a GPU, and the server has none: write resources: {gpus: 1}, or leave it out",
            ".latency.gpuProduct",
        ),
    )


class StorageSpec(Model):
    """The workspace: an existing claim, or one that oikyo makes."""

    claim_name: Annotated[
        Name | None,
        Field(
            description="Existing PersistentVolumeClaim to use. Default: oikyo makes one. Example: models."
        ),
    ] = None
    size: Annotated[
        Quantity,
        Field(description='Size of the claim that oikyo makes, as a quantity. Default: "20Gi".'),
    ] = "20Gi"
    storage_class_name: Annotated[
        Word | None,
        Field(
            description="Class of the claim that oikyo makes. Default: the cluster's default class."
        ),
    ] = None
    access_mode: Annotated[
        Literal["ReadWriteOnce", "ReadWriteMany"],
        Field(
            description="Access mode of the claim that oikyo makes; more than one node needs "
            "ReadWriteMany. Default: ReadWriteOnce."
        ),
    ] = "ReadWriteOnce"
    retention_policy: Annotated[
        Literal["Retain", "Delete"],
        Field(
            description="Whether the claim, the ModelVersion and the ModelEndpoint that oikyo made stay "
            "when the job is deleted. Default: Retain."
        ),
    ] = "Retain"

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.claimName) && self.retentionPolicy == 'Delete')",
            "retentionPolicy Delete is for a claim that oikyo makes: drop claimName, or write Retain",
            ".retentionPolicy",
        ),
    )


_FROZEN = ("model", "task", "data", "training", "evaluation")


class FineTuneJobSpec(Model):
    """What to train, on what, how, and what the result must reach."""

    model: Annotated[ModelSource, Field(description="Base model and name of the result.")]
    task: Annotated[
        Task,
        Field(
            description="TextClassification: one class for a text, or several. TextRegression: a number for "
            "a text. TextGeneration: supervised fine-tuning of a causal language model."
        ),
    ]
    data: Annotated[
        DataSpec,
        Field(description="Files to learn from, which columns count, and how rows are split."),
    ]
    training: Annotated[
        TrainingSpec, Field(description="How to train. Default: LoRA, 3 epochs, one CPU worker.")
    ] = TrainingSpec()
    evaluation: Annotated[
        EvaluationSpec, Field(description="What the result must reach on the test split.")
    ] = EvaluationSpec()
    deployment: Annotated[
        DeploymentSpec | None,
        Field(description="Serve an accepted result. Default: keep the version, serve nothing."),
    ] = None
    storage: Annotated[
        StorageSpec,
        Field(description="The workspace volume. Default: a claim of 20Gi is made and kept."),
    ] = StorageSpec()
    scheduling: Annotated[
        Scheduling,
        Field(description="Queue, priority and nodes. Default: no queue, any node."),
    ] = Scheduling()
    suspend: Annotated[
        bool,
        Field(
            description="True stops the pods and keeps every checkpoint; false goes on from the newest. Default: false."
        ),
    ] = False
    backoff_limit: Annotated[
        int,
        Field(
            ge=0, le=100, description="Failed attempts of a stage before the job fails. Default: 3."
        ),
    ] = 3
    active_deadline_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=31_536_000,
            description="Seconds that the job may be active until it is failed and its pods end, as in batch/v1: "
            "they stop while it is suspended and start anew when it is resumed. Default: 7 days.",
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            ge=0,
            le=31_536_000,
            description="Seconds after the end at which the job object is deleted. Default: never.",
        ),
    ] = None
    managed_by: Annotated[
        Word | None,
        Field(
            description="Controller that runs this job; any other value than oikyo.dev/controller makes "
            f"oikyo leave it alone. Default: {MANAGED_BY}."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        *(
            Rule(
                f"self.{field} == oldSelf.{field}",
                f"spec.{field} cannot change once the job exists: apply the changed experiment as a "
                "job with a new name",
                f".{field}",
                "FieldValueForbidden",
            )
            for field in _FROZEN
        ),
        Rule(
            "!has(self.evaluation.gates) || self.task != 'TextClassification'"
            " || self.evaluation.gates.all(g, g.metric in ['accuracy', 'f1_macro', 'loss']"
            " || (g.metric == 'f1_micro' && has(self.data.fields)"
            " && has(self.data.fields.labelSeparator)))",
            "a gate of a TextClassification job must name one of accuracy, f1_macro, loss or, with "
            "data.fields.labelSeparator, f1_micro",
            ".evaluation",
        ),
        Rule(
            "!has(self.data.fields) || !has(self.data.fields.labelSeparator)"
            " || self.task == 'TextClassification'",
            "only classes can be several: write task: TextClassification, or drop labelSeparator",
            ".data.fields.labelSeparator",
        ),
        Rule(
            "!has(self.evaluation.gates) || self.task != 'TextRegression'"
            " || self.evaluation.gates.all(g, g.metric in ['r2', 'rmse', 'mae', 'pearson', 'spearman', 'loss'])",
            "a gate of a TextRegression job must name one of r2, rmse, mae, pearson, spearman, loss",
            ".evaluation",
        ),
        Rule(
            "self.task != 'TextRegression' || double(self.training.labelSmoothing) == 0.0",
            "a number has no other classes to share with: leave training.labelSmoothing out, or write "
            "task: TextClassification",
            ".training.labelSmoothing",
        ),
        Rule(
            "self.task != 'TextRegression' || !has(self.data.augment) || !has(self.data.augment.balance)",
            "numbers are no classes to fill up: leave data.augment.balance out and write perRow, or write "
            "task: TextClassification",
            ".data.augment.balance",
        ),
        Rule(
            "!(self.training.selectBy in ['r2', 'rmse', 'mae', 'pearson', 'spearman'])"
            " || self.task == 'TextRegression'",
            "numbers are measured in a TextRegression job: write training.selectBy: loss",
            ".training.selectBy",
        ),
        Rule(
            "!has(self.deployment) || self.deployment.runtime != 'VLLM' || self.task != 'TextRegression'",
            "the VLLM runtime would answer in standard deviations: write deployment.runtime: Oikyo",
            ".deployment.runtime",
        ),
        Rule(
            "!has(self.evaluation.gates) || self.task != 'TextGeneration'"
            " || self.training.objective != 'Supervised'"
            " || self.evaluation.gates.all(g, g.metric in ['loss', 'perplexity', 'bleu', 'rouge_l', 'exact_match'])",
            "a gate of a TextGeneration job must name one of loss, perplexity, bleu, rouge_l, exact_match",
            ".evaluation",
        ),
        Rule(
            "!has(self.evaluation.gates) || self.training.objective == 'Supervised'"
            " || self.evaluation.gates.all(g, g.metric in ['loss', 'perplexity', 'preference_margin']"
            " || (g.metric == 'preference_accuracy' && self.training.objective != 'KTO'))",
            "a gate of a job that learns preferences must name one of loss, perplexity, "
            "preference_margin or, for DPO and ORPO, preference_accuracy",
            ".evaluation",
        ),
        Rule(
            "self.training.nodes == 1 || has(self.storage.claimName)"
            " || self.storage.accessMode == 'ReadWriteMany'",
            "training on more than one node needs a shared volume: write storage.accessMode: ReadWriteMany "
            "or name a ReadWriteMany claim in storage.claimName",
            ".storage",
        ),
        Rule(
            "self.training.objective == 'Supervised' || self.task == 'TextGeneration'",
            "preferences are learned by language models: write task: TextGeneration, or "
            "training.objective: Supervised",
            ".training.objective",
        ),
        Rule(
            "self.training.tensorParallelSize == 1 || self.task == 'TextGeneration'",
            "only language models are computed by tensor groups: write task: TextGeneration, or leave "
            "training.tensorParallelSize out",
            ".training.tensorParallelSize",
        ),
        Rule(
            "!has(self.data.fewShot) || (self.task == 'TextGeneration'"
            " && self.training.objective == 'Supervised')",
            "examples in a prompt are for models that write answers: leave data.fewShot out, or write task: "
            "TextGeneration and training.objective: Supervised",
            ".data.fewShot",
        ),
        Rule(
            "!has(self.training.general) || self.task == 'TextGeneration'",
            "a classifier begins with a head that knows nothing yet, so there is nothing general to keep: "
            "leave training.general out, or write task: TextGeneration",
            ".training.general",
        ),
        Rule(
            "!has(self.training.general) || self.data.split.validation.matches('[1-9]')",
            "general rows are measured beside the validation rows: write data.split.validation above 0, or "
            "leave training.general out",
            ".training.general",
        ),
        Rule(
            "has(self.data.fewShot) || !has(self.evaluation.gates)"
            " || self.evaluation.gates.all(g, !has(g.betterThan) || g.betterThan == 'Base')",
            "a gate with betterThan: FewShot needs examples: write data.fewShot, for example {examples: 4}",
            ".evaluation.gates",
        ),
        Rule(
            "self.training.lossOn == 'Answers' || self.task == 'TextGeneration'",
            "a class or a number has no tokens to learn: leave training.lossOn out, or write task: "
            "TextGeneration",
            ".training.lossOn",
        ),
        Rule(
            "!has(self.deployment) || self.deployment.runtime != 'VLLM' || self.training.merge"
            " || self.training.method == 'Full' || (self.task == 'TextGeneration' && "
            "self.training.method in ['LoRA', 'QLoRA'] && self.training.lora.variant != 'DoRA')",
            "the VLLM runtime takes whole models, and adapters by LoRA for TextGeneration: write "
            "training.merge: true, or deployment.runtime: Oikyo",
            ".training.merge",
        ),
        Rule(
            "!has(self.deployment) || !has(self.deployment.latency)"
            " || (self.task != 'TextGeneration'"
            " ? !has(self.deployment.latency.firstTokenMilliseconds)"
            " && !has(self.deployment.latency.tokenMilliseconds)"
            " : !has(self.deployment.latency.answerMilliseconds))",
            "a text is classified at once, an answer is written token by token: write answerMilliseconds "
            "for TextClassification and TextRegression, firstTokenMilliseconds and tokenMilliseconds for TextGeneration",
            ".deployment.latency",
        ),
        Rule(
            "!has(self.evaluation.crossValidation) || !has(self.data.split.timeBy)",
            "a fold would learn from rows that are newer than those it is measured on: drop "
            "crossValidation, or timeBy",
            ".evaluation.crossValidation",
        ),
        Rule(
            "!self.data.split.stratify || self.task == 'TextClassification'",
            "only classes can be stratified: write task: TextClassification, or drop stratify; a split by "
            "hash gives numbers to each side as they come",
            ".data.split.stratify",
        ),
        Rule(
            "!(self.training.selectBy in ['accuracy', 'f1_macro'])"
            " || self.task == 'TextClassification'",
            "classes are measured in a TextClassification job: write training.selectBy: loss",
            ".training.selectBy",
        ),
        Rule(
            "self.training.selectBy == 'loss' || self.data.split.validation.matches('[1-9]')",
            "selectBy needs a validation split: write data.split.validation above 0, or selectBy: loss",
            ".training.selectBy",
        ),
        Rule(
            "!has(self.training.earlyStopping) || self.data.split.validation.matches('[1-9]')",
            "earlyStopping needs a validation split: write data.split.validation above 0, or drop it",
            ".training.earlyStopping",
        ),
    )


class FineTuneJob(Model):
    """FineTuneJob takes a base model and a data set to a tuned, judged and, if accepted, served model."""

    api_version: Literal["oikyo.dev/v1alpha1"] = API_VERSION
    kind: Literal["FineTuneJob"] = "FineTuneJob"
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: FineTuneJobStatus = FineTuneJobStatus()

    rules: ClassVar[tuple[Rule, ...]] = NAME_RULES

    @property
    def model_name(self) -> str:
        return self.spec.model.name or self.metadata.name
