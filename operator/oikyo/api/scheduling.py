"""spec.scheduling: which queue admits the pods of a job, who places them, and on which nodes they may stand."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import ATOMIC, Model, Name, Rule

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


class Toleration(Model):
    """A taint that pods may ignore; as in a pod."""

    key: Annotated[
        str,
        Field(max_length=317, description="Key of the taint; empty with Exists: every taint."),
    ] = ""
    operator: Annotated[
        Literal["Exists", "Equal"],
        Field(description="Exists: whatever its value. Equal: that value. Default: Equal."),
    ] = "Equal"
    value: Annotated[str, Field(max_length=63, description="Value of the taint, for Equal.")] = ""
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="Effect of the taint. Default: all effects."),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.operator) && self.operator == 'Exists')"
            " ? (!has(self.value) || self.value == '') : (has(self.key) && self.key != '')",
            "write operator: Exists without a value, or a key with operator: Equal and a value",
        ),
    )


class Scheduling(Model):
    """Queue, scheduler, priority and nodes. What changes here counts from the next attempt on."""

    queue_name: Annotated[
        Name | None,
        Field(
            description="LocalQueue of Kueue that admits every stage: its Job is made suspended, and Kueue "
            "starts it. With schedulerName: volcano, the Queue of Volcano. Default: no queue. "
            "Example: team-a."
        ),
    ] = None
    scheduler_name: Annotated[
        Name | None,
        Field(
            description="Scheduler that places all pods, as in a pod. With volcano every stage gets a "
            "PodGroup of Volcano, whole or not at all. Default: the cluster's. Example: volcano."
        ),
    ] = None
    priority_class_name: Annotated[
        Name | None,
        Field(
            description="PriorityClass of all pods; a queue orders by it too. Default: the cluster's."
        ),
    ] = None
    node_selector: Annotated[
        dict[str, LabelValue],
        Field(
            max_length=16,
            description="Labels that a node must have for train and evaluate; data is prepared anywhere. "
            "Default: any node. Example: {gpu: h100}.",
        ),
    ] = {}
    tolerations: Annotated[
        tuple[Toleration, ...],
        Field(
            max_length=16,
            description="Taints that train and evaluate ignore. Default: none.",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
    topology_key: Annotated[
        LabelKey,
        Field(
            description="Label of the nodes over which the workers of a gang are spread where possible. "
            "Default: kubernetes.io/hostname. Example: topology.kubernetes.io/zone."
        ),
    ] = "kubernetes.io/hostname"
