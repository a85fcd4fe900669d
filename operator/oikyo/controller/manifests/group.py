"""The PodGroup of one attempt, by which its pods are placed whole or not at all: Kubernetes' or Volcano's."""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob

from ..kinds import POD_GROUPS, VOLCANO_GROUPS
from ..observed import StagePlan
from ..policies.groups import least
from .naming import Manifest, sealed

ANNOTATION = "scheduling.k8s.io/group-name"
"""By which a pod names its PodGroup of Volcano."""


def group(job: FineTuneJob, plan: StagePlan, metadata: Manifest) -> Manifest:
    """Of the stage's name; it belongs to the FineTuneJob, because it must be there before the Job."""
    spec = _volcano(job, plan) if plan.group == "Volcano" else _kubernetes(job, plan)
    priority = job.spec.scheduling.priority_class_name
    if priority is not None:
        # A group whose priority is not its pods' is never placed.
        spec["priorityClassName"] = priority
    kind = VOLCANO_GROUPS if plan.group == "Volcano" else POD_GROUPS
    return sealed(
        {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
    )


def _kubernetes(job: FineTuneJob, plan: StagePlan) -> Manifest:
    return {
        "schedulingPolicy": {"gang": {"minCount": least(job, plan.nodes)}},
        # Who loses one worker has lost the attempt: preempt all of it, or nobody.
        "disruptionMode": {"all": {}},
    }


def _volcano(job: FineTuneJob, plan: StagePlan) -> Manifest:
    queue = job.spec.scheduling.queue_name
    spec: Manifest = {"minMember": least(job, plan.nodes)}
    return spec if queue is None else {**spec, "queue": queue}


def pod_fields(plan: StagePlan, name: str) -> Manifest:
    """What the pod's spec says of its group."""
    return {"schedulingGroup": {"podGroupName": name}} if plan.group == "Kubernetes" else {}


def pod_annotations(plan: StagePlan, name: str) -> dict[str, str]:
    """What the pod's annotations say of its group."""
    return {ANNOTATION: name} if plan.group == "Volcano" else {}
