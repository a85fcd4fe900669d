"""ModelEndpoint: serves the versions of one model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import (
    API_VERSION,
    NAME_RULES,
    Model,
    Name,
    Quantity,
    Report,
    Rule,
    Timestamp,
    Word,
    list_map,
)
from .endpointadapters import EndpointAdapter, ServedAdapter
from .meta import Condition, Diagnosis, ObjectMeta

Runtime = Literal["Oikyo", "VLLM"]


class Replicas(Model):
    """Bounds of the autoscaler."""

    min: Annotated[int, Field(ge=1, le=1000, description="Fewest server pods. Default: 1.")] = 1
    max: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Most server pods; equal to min for no autoscaling. Default: 1.",
        ),
    ] = 1

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.min <= self.max", "replicas.min must be at most replicas.max"),
    )


class Resources(Model):
    """What one server pod asks for."""

    cpu: Annotated[
        Quantity, Field(description='CPU request, as a quantity. Default: "250m". Example: 4.')
    ] = "250m"
    memory: Annotated[
        Quantity | None,
        Field(
            description='Memory request and limit, as a quantity. Default: no limit. Example: "8Gi".'
        ),
    ] = None
    gpus: Annotated[
        int, Field(ge=0, le=16, description="GPUs (nvidia.com/gpu) of one server pod. Default: 0.")
    ] = 0


# The same in a ModelEndpoint and in FineTuneJob.spec.deployment, which makes one.
ReplicasField = Annotated[Replicas, Field(description="Bounds of the autoscaler. Default: 1 to 1.")]
RuntimeField = Annotated[
    Runtime, Field(description="Server: Oikyo (CPU and small GPU models) or VLLM. Default: Oikyo.")
]
ResourcesField = Annotated[
    Resources, Field(description="What one server pod asks for. Default: 250m CPU.")
]
TargetCpuField = Annotated[
    int,
    Field(
        ge=10,
        le=100,
        description="Mean CPU use, in percent of the request, that the autoscaler aims at. Default: 70.",
    ),
]


class ModelEndpointSpec(Model):
    """Which model to serve, which of its versions, and how."""

    model: Annotated[
        Name, Field(description="Name of the model, as in FineTuneJob.spec.model.name.")
    ]
    version_policy: Annotated[
        Literal["LatestAccepted", "Pinned"],
        Field(
            description="LatestAccepted rolls out every newer version whose gates passed; Pinned serves "
            "spec.version. Default: LatestAccepted."
        ),
    ] = "LatestAccepted"
    version: Annotated[
        int | None,
        Field(
            ge=1,
            le=2**31 - 1,
            description="Version to serve when versionPolicy is Pinned. Example: 3.",
        ),
    ] = None
    adapters: Annotated[
        tuple[EndpointAdapter, ...],
        Field(
            max_length=64,
            description="More versions to serve from the same pods on one copy of the base's weights, "
            "chosen by the model that a request names. Like the version of spec.model, each was "
            "trained with training.merge: false from the same base. Default: none. "
            "Example: [{name: refunds}, {name: refunds-old, model: refunds, version: 3}].",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    replicas: ReplicasField = Replicas()
    runtime: RuntimeField = "Oikyo"
    resources: ResourcesField = Resources()
    target_cpu_percent: TargetCpuField = 70

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.versionPolicy == 'Pinned') == has(self.version)",
            "version goes with versionPolicy: Pinned, and Pinned needs a version",
            ".version",
        ),
        Rule(
            "!has(self.adapters) || self.adapters.all(adapter, adapter.name != self.model)",
            "an adapter's name says which model a request means, and spec.model has this one already: "
            "write another name, for example refunds",
            ".adapters",
        ),
        Rule(
            "self.model == oldSelf.model",
            "spec.model cannot change: make a new ModelEndpoint",
            ".model",
            "FieldValueForbidden",
        ),
    )


class ModelEndpointStatus(Report):
    """A report, rebuilt from the children at any time."""

    observed_generation: Annotated[
        int,
        Field(
            description="The metadata.generation that this status speaks of; -1 before the first visit."
        ),
    ] = -1
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8, description="Ready and Reconciling.", json_schema_extra=list_map("type")
        ),
    ] = ()
    version: Annotated[int | None, Field(description="Version that is served.")] = None
    adapters: Annotated[
        tuple[ServedAdapter, ...],
        Field(
            max_length=64,
            description="Adapters that are served beside it.",
            json_schema_extra=list_map("name"),
        ),
    ] = ()
    replicas: Annotated[int, Field(description="Server pods that exist.")] = 0
    ready_replicas: Annotated[int, Field(description="Server pods that answer.")] = 0
    selector: Annotated[
        Word, Field(description="Label selector of the server pods, for the autoscaler.")
    ] = ""
    url: Annotated[
        Word | None, Field(description="Address of the endpoint inside the cluster.")
    ] = None
    last_rollout_time: Annotated[
        Timestamp | None, Field(description="When the served version last changed.")
    ] = None
    diagnosis: Annotated[
        Diagnosis | None, Field(description="Why a person must act; absent while nobody must.")
    ] = None


class ModelEndpoint(Model):
    """ModelEndpoint serves the versions of one model behind one address, with autoscaling."""

    api_version: Literal["oikyo.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelEndpoint"] = "ModelEndpoint"
    metadata: ObjectMeta
    spec: ModelEndpointSpec
    status: ModelEndpointStatus = ModelEndpointStatus()

    rules: ClassVar[tuple[Rule, ...]] = NAME_RULES
