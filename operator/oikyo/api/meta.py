"""Object metadata and conditions, as far as the contract needs them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Report, Sentence, Timestamp, Word, list_map

MANAGED_BY = "oikyo.dev/controller"
LABEL_JOB = "oikyo.dev/job"
LABEL_STAGE = "oikyo.dev/stage"
LABEL_ATTEMPT = "oikyo.dev/attempt"
LABEL_MODEL = "oikyo.dev/model"
LABEL_ENDPOINT = "oikyo.dev/endpoint"
ANNOTATION_SPEC = "oikyo.dev/spec"
"""On a stage pod: its spec.json, which the downward API mounts as a file."""
ANNOTATION_HASH = "oikyo.dev/hash"
"""On every child: digest of what oikyo applied, so that an unchanged child costs no request."""


class OwnerReference(Report):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Report):
    """The part of metav1.ObjectMeta that decisions read."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(Report):
    """metav1.Condition: the contract with every tool that waits."""

    type: Annotated[
        str, Field(max_length=64, description="Name of the condition, for example Succeeded.")
    ]
    status: Annotated[
        Literal["True", "False", "Unknown"],
        Field(description="True, False, or Unknown while it is not decided."),
    ]
    reason: Annotated[
        str,
        Field(max_length=64, description="CamelCase word for programs, for example GateFailed."),
    ]
    message: Annotated[Sentence, Field(description="One sentence for a person.")] = ""
    last_transition_time: Annotated[
        Timestamp, Field(description="When `status` last changed, RFC 3339.")
    ]
    observed_generation: Annotated[
        int, Field(description="The metadata.generation that this condition speaks of.")
    ] = 0


class Metric(Report):
    """A measured value; text, because the API conventions forbid floats."""

    name: Annotated[Word, Field(description="Name of the metric, for example f1_macro.")]
    value: Annotated[Word, Field(description='Its value as decimal text, for example "0.913".')]


TunedMetrics = Annotated[
    tuple[Metric, ...],
    Field(
        max_length=32,
        description="The tuned model on the test split.",
        json_schema_extra=list_map("name"),
    ),
]
BaseMetrics = Annotated[
    tuple[Metric, ...],
    Field(
        max_length=32,
        description="The base model on the test split.",
        json_schema_extra=list_map("name"),
    ),
]


class Diagnosis(Report):
    """Why a person must act, with the evidence and the next step."""

    cause: Annotated[Sentence, Field(description="What went wrong, in one sentence.")]
    evidence: Annotated[
        Sentence, Field(description="The pod, event, log line or file and line that shows it.")
    ] = ""
    tried: Annotated[Sentence, Field(description="What oikyo already did about it.")] = ""
    next_step: Annotated[Sentence, Field(description="What a person should do or run next.")] = ""
