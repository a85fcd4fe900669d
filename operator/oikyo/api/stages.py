"""The stage contract: what a stage is told (spec.json), what it says while it runs, and its last words.

A stage is one command, the same everywhere:
    python -m oikyo_trainer STAGE --spec spec.json --workspace DIR
The controller resolves a job into these models; `oikyo_trainer` reads and answers them. Both images
import this file and nothing else of each other.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .augment import Augment
from .base import Digest, Model, Report
from .checks import DataCheck
from .clean import Clean, CleanedStep
from .data import Fields
from .duplicates import Duplicates
from .evaluation import EvaluationSpec
from .fewshot import FewShot
from .jobstatus import DataFinding, GateResult, Resolved
from .latency import LatencyBudget
from .leakage import Leakage
from .meta import Metric
from .preferences import Objective
from .sources import GivenFormat
from .split import Split
from .tasks import Task
from .training import TrainingSpec

Stage = Literal["prepare", "train", "evaluate", "serve"]
RUN_STAGES: tuple[Stage, ...] = ("prepare", "train", "evaluate")

EXIT_DONE = 0
EXIT_REFUSED = 64
"""The user must change something; never retried (EX_USAGE)."""
EXIT_RETRY = 75
"""Try again (EX_TEMPFAIL)."""

PORT = 9400
"""Where a running stage serves /progress (JSON) and /metrics (Prometheus)."""
SERVE_PORT = 8000
"""Where the model server answers."""
ADDRESS_VARIABLE = "OIKYO_ADDRESS"
"""Environment variable: the address to listen on; unset or empty means all, IPv6 and IPv4."""
RENDEZVOUS_PORT = 29500
TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""Bytes of last words that Kubernetes keeps."""

OUT_OF_MEMORY = "OutOfMemory"
"""Reason of a stage's failure: it, or its GPU, got no more memory."""
WORKSPACE_FULL = "WorkspaceFull"
"""Reason of a failure, or of a trouble that a training goes on with: no room on the volume."""
SLOW_WORKER = "SlowWorker"
"""Reason of a trouble: one worker of a gang computes longer than the others, who wait for it."""


class Source(Model):
    """A source that the controller resolved: where it stands for the stage, and what the user wrote."""

    uri: str
    """As the user wrote it; kept for messages and lineage."""
    path: str = ""
    """Local path of a file or folder; empty for what the prepare stage downloads: hf:// and buckets."""
    format: GivenFormat = "Auto"
    weight: str = "1"
    """How often an epoch shows each training row of it."""
    secret: str | None = None
    """Folder with a file for each key of the Secret that opens the bucket; None: no Secret."""


class BenchmarkSource(Source):
    """A benchmark that training must not contain, as data.contamination names it."""

    name: str
    columns: tuple[str, ...] = ()
    """Columns with the texts of an item; empty: every text."""
    action: Literal["Warn", "Remove"] = "Warn"


class GeneralRows(Report):
    """The general rows of training.general, prepared: a version of their own, and its tokens."""

    dataset_digest: Digest
    tokens_digest: Digest


class MemoryPlan(Report):
    """How one process of a training keeps within its memory; chosen before it begins."""

    micro_batch_size: int
    """Rows of one forward pass; the rest of the batch is accumulated."""
    reason: str
    """Why so many."""
    gradient_checkpointing: bool = False
    checkpointing_reason: str = ""
    longest: int = 0
    """Tokens of the longest row after the cut; 0: not known."""
    relieved: int = 0
    """Knobs that were turned since, each after memory had run out."""


class RunSpec(Model):
    """What every stage of a run is told."""

    stage: Stage
    run: str
    """Identity of the run: `<job name>-<first 8 of its uid>`; names its folder in the workspace."""
    attempt: int = 1
    """Number of this attempt of this stage, from 1; a lower one must not write."""
    task: Task

    shapeless: ClassVar[dict[str, int | None]] = {"attempt": 0}
    """Fields that two attempts at the same result may differ in, each with the value it counts as."""

    def input_digest(self) -> str:
        """SHA-256 over all that shapes the result: equal inputs find each other's results."""
        body = self.model_copy(update=self.shapeless).json_line()
        return "sha256:" + hashlib.sha256(body.encode()).hexdigest()


class ServingLatency(Model):
    """A latency budget, and what is known of the machine that will serve."""

    budget: LatencyBudget
    gpus: int = 0
    here: bool = False
    """Whether the server will run on this very machine."""


class PrepareSpec(RunSpec):
    """Read, check, clean, split; fetch and check the base model. CPU only."""

    stage: Literal["prepare"] = "prepare"
    model: Source
    sources: tuple[Source, ...]
    test_sources: tuple[Source, ...] = ()
    fields: Fields = Fields()
    split: Split = Split()
    max_bad_rows: int = 0
    min_test_rows: int = 20
    checks: tuple[DataCheck, ...] = ()
    clean: Clean = Clean()
    slice_by: tuple[str, ...] = ()
    duplicates: Duplicates = Duplicates()
    leakage: Leakage = Leakage()
    contamination: tuple[BenchmarkSource, ...] = ()
    augment: Augment | None = None
    augment_secret: str | None = None
    """Folder of the Secret of augment.endpoint; None: no Secret."""
    folds: int = 0
    """Folds of the cross-validation; 0: none."""
    objective: Objective = "Supervised"
    """Whether rows are answers to learn, or preferences between answers."""
    max_length: int = 512
    """training.maxLength: tokens after which a row is cut."""
    few_shot: FewShot | None = None
    """Examples to choose for prompts; None: none."""
    training: TrainingSpec | None = None
    """What will be trained, so that its memory is planned; None: it is not."""
    general: tuple[Source, ...] = ()
    """The files of training.general; empty: no general rows."""
    serving_memory: str = ""
    """Memory limit of the pod that will serve the result on a CPU, as a quantity; empty: none."""
    latency: ServingLatency | None = None
    """How fast the result must be served; None: no limit."""


class TrainSpec(RunSpec):
    """Train on the prepared rows."""

    stage: Literal["train"] = "train"
    dataset_digest: Digest
    model_digest: Digest
    tokens_digest: Digest | None = None
    """Names the rows as tokens; None: prepared by a release that left that to the training."""
    training: TrainingSpec
    general: GeneralRows | None = None
    """What the base knew; None: nothing is asked."""
    folds: int = 0
    """Trainings of a cross-validation, before the one that is released."""
    memory: MemoryPlan | None = None

    # Rows meet in other micro-batches; what is learned in a step stays the same.
    shapeless: ClassVar[dict[str, int | None]] = {"attempt": 0, "memory": None}


class EvaluateSpec(RunSpec):
    """Measure the tuned and the base model on the test split, judge the gates, write the version."""

    stage: Literal["evaluate"] = "evaluate"
    job: str
    job_uid: str
    dataset_digest: Digest
    model_digest: Digest
    base_uri: str
    model_name: str
    min_version: int = 1
    """Least number the version may get: one above what the cluster knows."""
    instead_of: int | None = None
    """Number that an earlier attempt gave the version, and another job's record has; None: none."""
    training: TrainingSpec
    evaluation: EvaluationSpec
    few_shot: FewShot | None = None
    """Examples with which both models are measured a second time."""
    general: GeneralRows | None = None
    """What the base knew; None: nothing is asked."""
    latency: ServingLatency | None = None
    image: str = ""

    shapeless: ClassVar[dict[str, int | None]] = {"attempt": 0, "min_version": 1}


class AdapterSpec(Model):
    """One adapter that is served beside the version."""

    name: str
    """What requests write as their model."""
    model_name: str
    version: int
    path: str
    """Folder of the version, relative to the workspace."""


class ServeSpec(Model):
    """Serve one version, and adapters of the same base beside it."""

    stage: Literal["serve"] = "serve"
    model_name: str
    version: int
    task: Task
    path: str
    """Folder of the version, relative to the workspace."""
    adapters: tuple[AdapterSpec, ...] = ()
    """Where there are any, the version itself is an adapter too."""
    base: str | None = None
    """Folder of the base, relative to the workspace, of a version that is an adapter."""
    lora_rank: int | None = None
    """Largest rank of the version and the adapters, where they are of LoRA."""
    port: int = SERVE_PORT
    max_concurrency: int = 8
    """Requests computed or queued at once; above it the answer is 429."""
    max_body_bytes: int = 1_048_576
    max_new_tokens: int = 1024
    drain_seconds: int = 45


AnyStageSpec = Annotated[
    PrepareSpec | TrainSpec | EvaluateSpec | ServeSpec, Field(discriminator="stage")
]


class PrepareResult(Report):
    stage: Literal["prepare"] = "prepare"
    dataset_digest: Digest
    model_digest: Digest
    tokens_digest: Digest | None = None
    """Of the rows as tokens; None where nothing is to be trained."""
    unchanged: bool = False
    """Whether an earlier job left the same version, so that none was written."""
    general: GeneralRows | None = None
    """Of training.general; None without."""
    train: int
    validation: int
    test: int
    duplicates: int = 0
    bad_rows: int = 0
    leaked: int = 0
    """Rows removed from the sources because they also stand in the test sources."""
    synthetic: int = 0
    """Rows of `train` that data.augment made."""
    num_labels: int = 0
    """Classes (TextClassification), else 0."""
    cleaned: tuple[CleanedStep, ...] = ()
    """What each step of the cleaning did; duplicates and leaks are steps too."""
    findings: tuple[DataFinding, ...] = ()
    """What was found in the rows, by code, the worst first."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which column carries what, for example {"text": "question"}."""
    memory: MemoryPlan | None = None
    resolved: tuple[Resolved, ...] = ()


class TrainResult(Report):
    stage: Literal["train"] = "train"
    steps: int
    total_steps: int
    best_step: int = 0
    metrics: tuple[Metric, ...] = ()
    """train_loss, eval_loss, tokens_per_second, peak_memory_bytes, resumed_from_step…"""
    resolved: tuple[Resolved, ...] = ()
    model_path: str = ""
    """Folder with the final weights (full model or adapter), relative to the workspace."""
    curve: str = ""
    """What the losses show, in one sentence: over-fitting, convergence, a plateau; empty: too few points."""
    levers: tuple[str, ...] = ()
    """What was done against forgetting, with numbers; empty without training.general."""
    notes: tuple[str, ...] = ()
    """What a person should know: checkpoints skipped and why, early stop, and so on."""


class EvaluateResult(Report):
    stage: Literal["evaluate"] = "evaluate"
    accepted: bool
    metrics: tuple[Metric, ...]
    baseline: tuple[Metric, ...]
    gates: tuple[GateResult, ...]
    version: int
    path: str
    """Folder of the version, relative to the workspace."""
    digest: Digest
    hyperparameters: tuple[Metric, ...] = ()
    libraries: tuple[Metric, ...] = ()
    rows: int = 0
    forgetting: str = ""
    """What became of what the base knew, and the levers that were pulled; empty without training.general."""


class Failure(Report):
    """Why a stage could not do it."""

    kind: Literal["Refused", "Retry", "Crashed"]
    """Refused: a person must change something (exit 64). Retry: exit 75. Crashed: our bug or the machine's."""
    reason: str
    """CamelCase word, for example InvalidData."""
    message: str
    """One sentence: what, where, what was expected."""
    evidence: str = ""
    """File and line, log line or traceback tail."""
    next_step: str = ""
    findings: tuple[DataFinding, ...] = ()
    """Of the prepare stage: what was found in the rows, by code, the worst first."""


class LastWords(Report):
    """The last thing a stage says, at most TERMINATION_LIMIT bytes of JSON: a result or a failure.

    A training writes words with neither at each checkpoint: they are what stays when it is killed.
    """

    stage: Stage
    attempt: int = 1
    input_digest: str = ""
    result: PrepareResult | TrainResult | EvaluateResult | None = Field(
        default=None, discriminator="stage"
    )
    failure: Failure | None = None
    checkpoint_step: int | None = None
    """Step of the newest committed checkpoint."""

    @property
    def spoken(self) -> bool:
        """Whether the stage said how it ended."""
        return self.result is not None or self.failure is not None


class StageProgress(Report):
    """What /progress answers while a stage runs."""

    stage: Stage
    attempt: int = 1
    progress_percentage: int = 0
    estimated_remaining_seconds: int | None = None
    step: int | None = None
    total_steps: int | None = None
    metrics: tuple[Metric, ...] = ()
    """Newest first in meaning: loss, eval_loss, learning_rate, grad_norm, tokens_per_second, checkpoint_step."""
    notice_reason: str = ""
    """CamelCase word for `notice`: RolledBack, OverFitting, Plateau, Diverging, Converged, StillImproving."""
    notice: str = ""
    """One sentence: what was done, or what the curves show."""
    trouble: Failure | None = None
    """What a person should know or mend while the stage goes on; None while all is well."""
    updated: str = ""
    """RFC 3339, UTC."""
