"""FineTuneJob: one bounded run from data to a released model. The spec is what a person or Git owns."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .base import (
    API_VERSION,
    ATOMIC,
    DECIMAL_PATTERN,
    NAME_RULES,
    Decimal,
    Digest,
    Fraction,
    HalfFraction,
    Model,
    Name,
    ParentName,
    Quantity,
    Report,
    Rule,
    Sentence,
    Timestamp,
    Word,
    in_words,
    list_map,
)
from .meta import MANAGED_BY, Condition, Diagnosis, Metric, ObjectMeta
from .modelendpoint import Replicas, Resources, Runtime

Task = Literal["TextClassification", "TextGeneration"]
Method = Literal["Full", "LoRA"]
MetricName = Literal["accuracy", "f1_macro", "loss", "perplexity", "bleu", "rouge_l", "exact_match"]
CLASSIFICATION_METRICS: tuple[str, ...] = ("accuracy", "f1_macro", "loss")
GENERATION_METRICS: tuple[str, ...] = ("loss", "perplexity", "bleu", "rouge_l", "exact_match")
LOWER_IS_BETTER = frozenset({"loss", "perplexity"})
PRIMARY_METRIC: dict[str, str] = {"TextClassification": "f1_macro", "TextGeneration": "loss"}

_URI_REST = "[A-Za-z0-9._~/@+-]+"
URI_PATTERN = f"^(pvc|file|hf|configmap|version)://{_URI_REST}$"
_URI_RULES = (
    Rule(
        f"self.matches('^[a-z0-9]*://{_URI_REST}$') || !self.contains('://')",
        "after :// write at least one character, and only letters, digits and . _ ~ / @ + -",
    ),
    Rule(
        "!self.matches('(^|/)[.][.](/|$)')",
        "a path may not contain '..': write the path from the root of the claim or folder",
    ),
    Rule(
        "!self.startsWith('pvc:') || self.matches('^pvc://[a-z0-9][-a-z0-9.]*(/|$)')",
        "pvc:// begins with the name of a claim: write pvc://claim/path",
    ),
)


def _uri(schemes: str, message: str, *more: Rule) -> Any:
    """The field type of a URI of one of `schemes`, written a|b|c."""
    pattern = f"^({schemes})://{_URI_REST}$"
    scheme = Rule(f"self.matches('^({schemes})://')", message)
    extra = in_words(scheme, *_URI_RULES, *more, instead_of=("pattern", "minLength"))
    return Field(min_length=6, max_length=1024, pattern=pattern, json_schema_extra=extra)


BaseUri = Annotated[
    str,
    _uri(
        "hf|pvc|file|version",
        "a base model is hf://org/name@revision, pvc://claim/path, version://model/number or, on the "
        "desktop, file:///path",
        Rule(
            "!self.startsWith('version:') || self.matches('^version://[-a-z0-9]+/[1-9][0-9]{0,8}$')",
            "version:// names a model and the number of a version: write version://support-intents/3",
        ),
    ),
]
DataUri = Annotated[
    str,
    _uri(
        "pvc|file|hf|configmap",
        "data is pvc://claim/path, hf://datasets/org/name@revision/path, configmap://name/key or, on "
        "the desktop, file:///path",
        Rule(
            "!self.startsWith('configmap:') || self.matches('^configmap://[^/]+/[^/]+$')",
            "configmap:// names a ConfigMap and a key: write configmap://name/key",
        ),
    ),
]


class ModelSource(Model):
    """Where training starts and what the result is called."""

    base: Annotated[
        BaseUri,
        Field(
            description="Base model: hf://org/name@revision, pvc://claim/path, file:///path (desktop "
            "only) or version://model/number to continue from an earlier result. Weights must be "
            "safetensors. Example: hf://Qwen/Qwen3-0.6B."
        ),
    ]
    name: Annotated[
        ParentName | None,
        Field(
            description="Name under which versions of the result are kept and served; a DNS label of at "
            "most 52 characters. "
            "Default: metadata.name. Example: support-intents."
        ),
    ] = None
    secret_name: Annotated[
        Name | None,
        Field(
            description="Secret in the same namespace whose key `token` is the hub token for hf:// "
            "sources. Default: none. Example: hf-token."
        ),
    ] = None


class DataSource(Model):
    """One file, or a folder of files of one format."""

    uri: Annotated[
        DataUri,
        Field(
            description="JSON Lines, CSV or Parquet: pvc://claim/path, file:///path (desktop only), "
            "hf://datasets/org/name@revision/path or configmap://name/key for tiny data. "
            "Example: pvc://datasets/tickets.jsonl."
        ),
    ]
    format: Annotated[
        Literal["Auto", "JSONL", "CSV", "Parquet"],
        Field(description="File format; Auto goes by the file's ending. Default: Auto."),
    ] = "Auto"


class Fields(Model):
    """Which columns carry what. Left out, the usual names are tried and the choice is reported."""

    text: Annotated[
        Word | None,
        Field(
            description="Column with the input text (TextClassification). Default: the first of text, "
            "sentence, content, input. Example: question."
        ),
    ] = None
    label: Annotated[
        Word | None,
        Field(
            description="Column with the class (TextClassification). Default: the first of label, "
            "category, intent, class. Example: category."
        ),
    ] = None
    prompt: Annotated[
        Word | None,
        Field(
            description="Column with the prompt (TextGeneration). Default: the first of prompt, "
            "instruction, question. Example: signature."
        ),
    ] = None
    completion: Annotated[
        Word | None,
        Field(
            description="Column with the answer to learn (TextGeneration). Default: the first of "
            "completion, response, output, answer. Example: docstring."
        ),
    ] = None
    messages: Annotated[
        Word | None,
        Field(
            description="Column with a chat: a list of {role, content} (TextGeneration). Default: "
            "messages or conversations when present. Example: messages."
        ),
    ] = None


class Split(Model):
    """How rows are divided. A row's side depends on its content and the seed alone."""

    validation: Annotated[
        HalfFraction,
        Field(description='Share of rows that steers training, 0 to 0.5. Default: "0.1".'),
    ] = "0.1"
    test: Annotated[
        HalfFraction,
        Field(
            description="Share of rows held out for the verdict, 0 to 0.5; ignored when "
            'data.testSources is given. Default: "0.1".'
        ),
    ] = "0.1"
    seed: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="Seed of the split. Default: 42."),
    ] = 42


class DataSpec(Model):
    """The data: where it is, which columns count, how it is split."""

    sources: Annotated[
        tuple[DataSource, ...],
        Field(
            min_length=1,
            max_length=64,
            description="Files to learn from, 1 to 64.",
            json_schema_extra={
                **list_map("uri"),
                **in_words(
                    Rule(
                        "size(self) > 0",
                        "name at least one file to learn from, for example "
                        "[{uri: pvc://datasets/train.jsonl}]",
                    ),
                    instead_of=("minItems",),
                ),
            },
        ),
    ]
    test_sources: Annotated[
        tuple[DataSource, ...],
        Field(
            max_length=64,
            description="Files that are the hold-out test set and are never trained on; rows that "
            "also stand in `sources` are removed there. Default: none, a share of the rows is held out.",
            json_schema_extra=list_map("uri"),
        ),
    ] = ()
    fields: Annotated[
        Fields, Field(description="Column names. Default: the usual names are tried.")
    ] = Fields()
    split: Annotated[
        Split, Field(description="Shares and seed of the split. Default: 80/10/10, seed 42.")
    ] = Split()
    max_bad_rows: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Rows that may be unreadable or lack a field before the job is refused; such "
            "rows are dropped and counted. Default: 0, every row must be good.",
        ),
    ] = 0
    min_test_rows: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Fewest rows of the test split on which a verdict may rest. Default: 20.",
        ),
    ] = 20

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.testSources) && size(self.testSources) > 0) || self.split.test.matches('[1-9]')",
            "a verdict needs rows that training never saw: write split.test above 0, or testSources",
            ".split",
        ),
    )


class LoRA(Model):
    """Low-rank adapters (Hu et al. 2021); names as in peft."""

    rank: Annotated[
        int, Field(ge=1, le=1024, description="Rank r of the adapter. Default: 16.")
    ] = 16
    alpha: Annotated[
        int,
        Field(
            ge=1, le=4096, description="Scale alpha; the update is scaled by alpha/r. Default: 32."
        ),
    ] = 32
    dropout: Annotated[
        Fraction, Field(description='Dropout before the adapter. Default: "0.05".')
    ] = "0.05"


class EarlyStopping(Model):
    """Stop when the validation loss no longer falls."""

    patience: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Validations without improvement before training stops. Default: 3.",
        ),
    ] = 3


class Checkpoints(Model):
    """When state is saved, and how much of it is kept."""

    every_steps: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Optimizer steps between checkpoints. Default: a tenth of the run, at most 500.",
        ),
    ] = None
    keep: Annotated[
        int,
        Field(ge=2, le=100, description="Newest checkpoints kept beside the best one. Default: 2."),
    ] = 2


class WorkerResources(Model):
    """What one worker pod asks for."""

    cpu: Annotated[
        Quantity | None,
        Field(description='CPU request, as a quantity. Default: "1". Example: 8 or "500m".'),
    ] = None
    memory: Annotated[
        Quantity | None,
        Field(
            description='Memory request and limit, as a quantity. Default: no limit. Example: "32Gi".'
        ),
    ] = None
    gpus: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="GPUs (nvidia.com/gpu) of one worker pod; one process runs for each. Default: 0.",
        ),
    ] = 0


_LEARNING_RATE = f"^Auto$|{DECIMAL_PATTERN}"


class TrainingSpec(Model):
    """How to train. Every `Auto` is resolved, and the value and its reason stand in status.resolved."""

    method: Annotated[
        Method,
        Field(
            description="Full trains every weight, LoRA trains low-rank adapters. Default: LoRA."
        ),
    ] = "LoRA"
    lora: Annotated[
        LoRA, Field(description="Adapter settings, used when method is LoRA. Default: rank 16.")
    ] = LoRA()
    epochs: Annotated[
        int, Field(ge=1, le=1000, description="Passes over the training split. Default: 3.")
    ] = 3
    max_steps: Annotated[
        int | None,
        Field(
            ge=1,
            le=100_000_000,
            description="Optimizer steps after which training ends, whatever epochs says. Default: none.",
        ),
    ] = None
    learning_rate: Annotated[
        str,
        Field(
            max_length=24,
            pattern=_LEARNING_RATE,
            description="Peak learning rate as text, above 0 and at most 1, or Auto (by method and "
            'task). Default: Auto. Example: "2e-4".',
            json_schema_extra=in_words(
                Rule(
                    f"self == 'Auto' || (self.matches('{DECIMAL_PATTERN}') "
                    "&& double(self) > 0.0 && double(self) <= 1.0)",
                    'write Auto, or a number above 0 and at most 1 as text, for example "2e-4"',
                ),
                instead_of=("pattern",),
            ),
        ),
    ] = "Auto"
    scheduler: Annotated[
        Literal["Linear", "Cosine", "Constant"],
        Field(description="Learning rate after warm-up. Default: Linear."),
    ] = "Linear"
    warmup_ratio: Annotated[
        Fraction, Field(description='Share of the steps spent warming up. Default: "0.06".')
    ] = "0.06"
    weight_decay: Annotated[Decimal, Field(description='AdamW weight decay. Default: "0.01".')] = (
        "0.01"
    )
    batch_size: Annotated[
        int,
        Field(
            ge=1,
            le=65536,
            description="Rows of one optimizer step over all processes (the effective batch). Default: 32.",
        ),
    ] = 32
    micro_batch_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=4096,
            description="Rows of one forward pass of one process; the rest of the batch is accumulated. "
            "Default: the share of one process, at most 32.",
        ),
    ] = None
    max_length: Annotated[
        int,
        Field(ge=8, le=1_048_576, description="Tokens after which a row is cut. Default: 512."),
    ] = 512
    precision: Annotated[
        Literal["Auto", "Float32", "BFloat16"],
        Field(description="Arithmetic; Auto takes what the processor is fast at. Default: Auto."),
    ] = "Auto"
    seed: Annotated[
        int, Field(ge=0, le=2**31 - 1, description="Seed of everything random. Default: 42.")
    ] = 42
    early_stopping: Annotated[
        EarlyStopping | None,
        Field(
            description="Stop early by validation loss. Default: never, but the best weights are kept."
        ),
    ] = None
    checkpoints: Annotated[Checkpoints, Field(description="When to save and how much to keep.")] = (
        Checkpoints()
    )
    nodes: Annotated[
        int,
        Field(
            ge=1,
            le=512,
            description="Worker pods, at most one on a node where possible. Default: 1.",
        ),
    ] = 1
    processes_per_node: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Processes of one worker pod. Default: its GPUs, or 1.",
        ),
    ] = None
    strategy: Annotated[
        Literal["DDP", "ZeRO1", "ZeRO2", "ZeRO3"],
        Field(
            description="How processes share the work: PyTorch DDP, or DeepSpeed ZeRO stage 1 to 3. "
            "Default: DDP."
        ),
    ] = "DDP"
    resources: Annotated[
        WorkerResources, Field(description="What one worker pod asks for. Default: 1 CPU, no GPU.")
    ] = WorkerResources()

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.microBatchSize) || self.microBatchSize <= self.batchSize",
            "microBatchSize must be at most batchSize, which is the effective batch over all processes",
            ".microBatchSize",
        ),
    )


class Gate(Model):
    """One condition on a hold-out metric. All gates must pass before anything is served."""

    metric: Annotated[
        MetricName,
        Field(
            description="Metric on the test split. TextClassification: accuracy, f1_macro, loss. "
            "TextGeneration: loss, perplexity, bleu, rouge_l, exact_match. Example: f1_macro."
        ),
    ]
    min: Annotated[
        Decimal | None, Field(description='Least value that passes. Example: "0.80".')
    ] = None
    max: Annotated[
        Decimal | None, Field(description='Greatest value that passes. Example: "1.5".')
    ] = None
    better_than: Annotated[
        Literal["Base"] | None,
        Field(
            description="The result must beat the base model, measured the same way, on this metric."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.min) ? 1 : 0) + (has(self.max) ? 1 : 0) + (has(self.betterThan) ? 1 : 0) == 1",
            "a gate needs exactly one of min, max or betterThan: write a gate for each condition",
        ),
    )


class EvaluationSpec(Model):
    """What the result must reach on the test split."""

    gates: Annotated[
        tuple[Gate, ...],
        Field(
            max_length=16,
            description="Conditions of release, at most 16. Default: the task's main metric must be "
            "better than the base model's (f1_macro for TextClassification, loss for TextGeneration).",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
    max_rows: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000_000,
            description="Test rows to score at most, chosen by content. Default: all.",
        ),
    ] = None
    max_new_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=32768,
            description="Tokens generated for one test row (TextGeneration: bleu, rouge_l, exact_match). Default: 64.",
        ),
    ] = 64


class DeploymentSpec(Model):
    """Serve an accepted result: a ModelEndpoint is created if the model has none."""

    replicas: Annotated[
        Replicas, Field(description="Bounds of the autoscaler. Default: 1 to 1.")
    ] = Replicas()
    runtime: Annotated[
        Runtime,
        Field(description="Server: Oikyo (CPU and small GPU models) or VLLM. Default: Oikyo."),
    ] = "Oikyo"
    resources: Annotated[
        Resources, Field(description="What one server pod asks for. Default: 250m CPU.")
    ] = Resources()
    target_cpu_percent: Annotated[
        int,
        Field(
            ge=10,
            le=100,
            description="Mean CPU use, in percent of the request, that the autoscaler aims at. Default: 70.",
        ),
    ] = 70


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
            description="TextClassification: one class for a text. TextGeneration: supervised "
            "fine-tuning of a causal language model."
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
            description="Seconds from the first start until the job is failed and its pods end. Default: 7 days.",
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
            " || self.evaluation.gates.all(g, g.metric in ['accuracy', 'f1_macro', 'loss'])",
            "a gate of a TextClassification job must name one of accuracy, f1_macro, loss",
            ".evaluation",
        ),
        Rule(
            "!has(self.evaluation.gates) || self.task != 'TextGeneration'"
            " || self.evaluation.gates.all(g, g.metric in ['loss', 'perplexity', 'bleu', 'rouge_l', 'exact_match'])",
            "a gate of a TextGeneration job must name one of loss, perplexity, bleu, rouge_l, exact_match",
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
            "!has(self.training.earlyStopping) || self.data.split.validation.matches('[1-9]')",
            "earlyStopping needs a validation split: write data.split.validation above 0, or drop it",
            ".training.earlyStopping",
        ),
    )


Phase = Literal[
    "Pending",
    "Preparing",
    "Training",
    "Evaluating",
    "Releasing",
    "Suspended",
    "Succeeded",
    "Failed",
]


class Progress(Report):
    """How far the running stage is; field names of Kubeflow KEP-2779."""

    stage: Annotated[Word, Field(description="Stage that runs: prepare, train or evaluate.")] = ""
    progress_percentage: Annotated[
        int, Field(ge=0, le=100, description="Percent of the running stage that is done.")
    ] = 0
    estimated_remaining_seconds: Annotated[
        int | None,
        Field(description="Seconds that the running stage still needs, as measured so far."),
    ] = None
    step: Annotated[int | None, Field(description="Optimizer steps done.")] = None
    total_steps: Annotated[int | None, Field(description="Optimizer steps planned.")] = None
    metrics: Annotated[
        tuple[Metric, ...],
        Field(
            max_length=32,
            description="What the stage measures now.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    last_updated_time: Annotated[
        Timestamp | None, Field(description="When the stage last reported, RFC 3339.")
    ] = None


class Resolved(Report):
    """A setting that oikyo chose, and why."""

    name: Annotated[
        Word, Field(description="Path of the setting, for example training.learningRate.")
    ]
    value: Annotated[Word, Field(description="What was chosen.")]
    reason: Annotated[Sentence, Field(description="Why.")] = ""


class GateResult(Report):
    """One gate, as it was judged."""

    metric: Annotated[Word, Field(description="Metric that was judged.")]
    rule: Annotated[Word, Field(description="The gate in words, for example min 0.80.")]
    value: Annotated[Word, Field(description="What the tuned model reached.")]
    threshold: Annotated[Word, Field(description="What it had to reach.")]
    baseline: Annotated[Word, Field(description="What the base model reached.")] = ""
    passed: Annotated[bool, Field(description="Whether the gate passed.")]


class DatasetStatus(Report):
    """The prepared data."""

    digest: Annotated[Digest, Field(description="SHA-256 over the prepared rows.")]
    train: Annotated[int, Field(description="Rows of the training split.")]
    validation: Annotated[int, Field(description="Rows of the validation split.")]
    test: Annotated[int, Field(description="Rows of the test split.")]
    dropped: Annotated[int, Field(description="Rows dropped: duplicates and bad rows.")] = 0


class StageStatus(Report):
    """One stage of the job."""

    name: Annotated[Word, Field(description="Stage: prepare, train or evaluate.")]
    attempt: Annotated[int, Field(description="Number of the newest attempt, from 1.")]
    state: Annotated[Word, Field(description="State of it: Pending, Running, Succeeded or Failed.")]
    started: Annotated[Timestamp | None, Field(description="When the newest attempt started.")] = (
        None
    )
    finished: Annotated[Timestamp | None, Field(description="When it ended.")] = None


class FineTuneJobStatus(Report):
    """A report, rebuilt from the children at any time; never a store."""

    observed_generation: Annotated[
        int,
        Field(
            description="The metadata.generation that this status speaks of; -1 before the first visit."
        ),
    ] = -1
    phase: Annotated[
        Phase | None, Field(description="One word for people, derived from the conditions.")
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            description="Reconciling, Stalled, Suspended, DataReady, Trained, Evaluated, Released and "
            "Succeeded, which is the one to wait for.",
            json_schema_extra=list_map("type"),
        ),
    ] = ()
    progress: Annotated[Progress | None, Field(description="How far the running stage is.")] = None
    loss: Annotated[Word | None, Field(description="Newest training loss.")] = None
    score: Annotated[
        Word | None,
        Field(description="The task's main metric of the tuned model on the test split."),
    ] = None
    stages: Annotated[
        tuple[StageStatus, ...],
        Field(
            max_length=8,
            description="The stages that have begun.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    dataset: Annotated[DatasetStatus | None, Field(description="The prepared data.")] = None
    resolved: Annotated[
        tuple[Resolved, ...],
        Field(
            max_length=64,
            description="Settings that oikyo chose, with reasons.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    metrics: Annotated[
        tuple[Metric, ...],
        Field(
            max_length=32,
            description="The tuned model on the test split.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    baseline: Annotated[
        tuple[Metric, ...],
        Field(
            max_length=32,
            description="The base model on the test split.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    gates: Annotated[
        tuple[GateResult, ...],
        Field(max_length=16, description="The verdict, gate by gate.", json_schema_extra=ATOMIC),
    ] = ()
    model_version: Annotated[
        Word | None, Field(description="ModelVersion that holds the result.")
    ] = None
    endpoint: Annotated[Word | None, Field(description="ModelEndpoint that serves the model.")] = (
        None
    )
    failures: Annotated[
        int, Field(description="Attempts that failed so far, counted against backoffLimit.")
    ] = 0
    diagnosis: Annotated[
        Diagnosis | None, Field(description="Why a person must act; absent while nobody must.")
    ] = None
    start_time: Annotated[
        Timestamp | None, Field(description="When the first stage was started.")
    ] = None
    completion_time: Annotated[Timestamp | None, Field(description="When the job ended.")] = None


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
