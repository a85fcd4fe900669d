"""ModelVersion: the immutable record of one result. Written only by the controller."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .adapters import LoRAVariant, Method
from .base import API_VERSION, Digest, Model, Name, Rule, Timestamp, Word, list_map
from .jobstatus import GateResults
from .meta import BaseMetrics, Metric, ObjectMeta, TunedMetrics
from .tasks import Task


class Lineage(Model):
    """From what, with what and by what the result was made."""

    job: Annotated[Name, Field(description="FineTuneJob that made it.")]
    job_uid: Annotated[Word, Field(description="Its metadata.uid.")]
    base: Annotated[str, Field(max_length=1024, description="URI of the base model.")]
    base_digest: Annotated[Digest, Field(description="SHA-256 over the base model's files.")]
    dataset_digest: Annotated[Digest, Field(description="SHA-256 over the prepared rows.")]
    hyperparameters: Annotated[
        tuple[Metric, ...],
        Field(
            max_length=64,
            description="Resolved settings of the training.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    libraries: Annotated[
        tuple[Metric, ...],
        Field(
            max_length=64,
            description="Versions of the libraries that ran.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    image: Annotated[
        Word, Field(description="Trainer image, by digest where the runtime tells it.")
    ] = ""


class Storage(Model):
    """Where the files are."""

    claim_name: Annotated[
        Word, Field(description="PersistentVolumeClaim that holds them; empty on the desktop.")
    ] = ""
    path: Annotated[Word, Field(description="Folder on the claim.")]


class AdapterFacts(Model):
    """What kind of adapter a version is that was left beside its base (training.merge: false)."""

    method: Annotated[Method, Field(description="Method that trained it.")]
    rank: Annotated[int | None, Field(description="Rank of the matrices (LoRA, QLoRA).")] = None
    variant: Annotated[LoRAVariant | None, Field(description="Variant of LoRA (LoRA, QLoRA).")] = (
        None
    )


class ModelVersionSpec(Model):
    """The record. It never changes."""

    model: Annotated[Name, Field(description="Name of the model.")]
    version: Annotated[int, Field(ge=1, le=2**31 - 1, description="Number of the version, from 1.")]
    task: Annotated[Task, Field(description="What the model does.")]
    verdict: Annotated[
        Literal["Accepted", "Rejected"],
        Field(description="Whether every gate passed; only then it may be served."),
    ]
    digest: Annotated[Digest, Field(description="SHA-256 over the model's files.")]
    storage: Annotated[Storage, Field(description="Where the files are.")]
    adapter: Annotated[
        AdapterFacts | None,
        Field(
            description="Of a version that is an adapter beside its base; absent for a whole model."
        ),
    ] = None
    metrics: TunedMetrics = ()
    baseline: BaseMetrics = ()
    gates: GateResults = ()
    forgetting: Annotated[
        str,
        Field(
            max_length=1024,
            description="What became of what the base knew, and what was done against forgetting; empty "
            "without training.general.",
        ),
    ] = ""
    lineage: Annotated[Lineage, Field(description="From what, with what and by what it was made.")]
    created: Annotated[Timestamp, Field(description="When the verdict was reached.")]

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            "a ModelVersion never changes: train a new version",
            reason="FieldValueForbidden",
        ),
    )


class ModelVersion(Model):
    """ModelVersion is the immutable record of one result: lineage, metrics, verdict and files."""

    api_version: Literal["oikyo.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelVersion"] = "ModelVersion"
    metadata: ObjectMeta
    spec: ModelVersionSpec
