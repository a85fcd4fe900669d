"""FineTuneJob.status: a report, rebuilt from the children at any time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ATOMIC, Digest, Report, Sentence, Timestamp, Word, list_map
from .checks import Severity
from .clean import CleanedStep
from .meta import BaseMetrics, Condition, Diagnosis, Metric, TunedMetrics

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


GateResults = Annotated[
    tuple[GateResult, ...],
    Field(max_length=20, description="The verdict, gate by gate.", json_schema_extra=ATOMIC),
]


class DataFinding(Report):
    """What was found in the data under one code."""

    code: Annotated[
        Word,
        Field(
            description="What was found: a data check, or why a row is bad, for example label-typo."
        ),
    ]
    severity: Annotated[
        Severity,
        Field(description="Error refused the job, Warning is over its max, Info is within it."),
    ]
    count: Annotated[int, Field(description="Rows that were found.")]
    example: Annotated[
        Sentence, Field(description="The first of them: file and line, and what is wrong with it.")
    ] = ""


FINDINGS = 8
"""Codes that a status tells, the worst first; the report has all."""


class DatasetStatus(Report):
    """The data, as it was prepared or refused."""

    digest: Annotated[
        Digest | None,
        Field(description="SHA-256 over the prepared rows; absent when the data was refused."),
    ] = None
    train: Annotated[int, Field(description="Rows of the training split.")] = 0
    synthetic: Annotated[
        int, Field(description="Rows of the training split that data.augment made.")
    ] = 0
    validation: Annotated[int, Field(description="Rows of the validation split.")] = 0
    test: Annotated[int, Field(description="Rows of the test split.")] = 0
    dropped: Annotated[
        int, Field(description="Rows dropped: by cleaning, as duplicates, and bad rows.")
    ] = 0
    cleaned: Annotated[
        tuple[CleanedStep, ...],
        Field(
            max_length=16,
            description="What each step of the cleaning changed and left out, in their order; cleaned.jsonl has "
            "every row.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    findings: Annotated[
        tuple[DataFinding, ...],
        Field(
            max_length=FINDINGS,
            description="What was found in the data, the worst first; report.json and findings.jsonl "
            "have all of it.",
            json_schema_extra=list_map("code"),
        ),
    ] = ()


STARVED = 64
"""Attempts that ran out of memory that a status tells, the newest; a training has fewer knobs to turn."""


class StageStatus(Report):
    """One stage of the job."""

    name: Annotated[Word, Field(description="Stage: prepare, train or evaluate.")]
    attempt: Annotated[int, Field(description="Number of the newest attempt, from 1.")]
    state: Annotated[
        Word, Field(description="State of it: Pending, Running, Succeeded, Failed or Stopped.")
    ]
    started: Annotated[Timestamp | None, Field(description="When the newest attempt started.")] = (
        None
    )
    finished: Annotated[Timestamp | None, Field(description="When it ended.")] = None
    message: Annotated[
        Sentence,
        Field(
            description="Why the newest failed attempt failed, what was lost and which checkpoint is kept."
        ),
    ] = ""
    nodes: Annotated[
        int | None,
        Field(description="Worker pods of the newest attempt, fewer than training.nodes at times."),
    ] = None
    reduced: Annotated[
        Sentence,
        Field(
            description="Since when and why the newest attempt has fewer pods than training.nodes."
        ),
    ] = ""
    checkpoint_step: Annotated[
        int | None,
        Field(description="Step of the newest checkpoint that the newest attempt has told of."),
    ] = None
    excused: Annotated[
        bool | None,
        Field(description="Whether the machine, not the work, ended the newest attempt."),
    ] = None
    earlier_step: Annotated[
        int | None,
        Field(
            description="The same of all attempts before it: one that gets further costs nothing."
        ),
    ] = None
    earlier_failures: Annotated[
        int | None,
        Field(description="Attempts before the newest that count against spec.backoffLimit."),
    ] = None
    starved: Annotated[
        tuple[int, ...],
        Field(
            max_length=STARVED,
            description="Attempts that ran out of memory: each time the next one changes a setting to need less.",
            json_schema_extra=ATOMIC,
        ),
    ] = ()


class FineTuneJobStatus(Report):
    """A report, rebuilt from the children; of those that are gone it keeps what they cost, how far they got
    and which ran out of memory."""

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
    metrics: TunedMetrics = ()
    baseline: BaseMetrics = ()
    gates: GateResults = ()
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
        Timestamp | None,
        Field(
            description="When the first stage was started or the job was last resumed; absent while it is suspended."
        ),
    ] = None
    completion_time: Annotated[Timestamp | None, Field(description="When the job ended.")] = None
