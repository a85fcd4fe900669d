"""The kinds that the controller reads or writes, and how each is watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oikyo.api.base import GROUP, VERSION

Object = dict[str, Any]
"""A Kubernetes object as it came over the wire."""

OURS = "app.kubernetes.io/managed-by=oikyo"


@dataclass(frozen=True)
class Kind:
    """One resource of the API."""

    kind: str
    group: str
    version: str
    plural: str
    labels: str = ""
    """Selector of the watch; empty: all."""
    fields: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "") -> str:
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"
        middle = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{middle}/{self.plural}" + (f"/{name}" if name else "")


FINE_TUNE_JOBS = Kind("FineTuneJob", GROUP, VERSION, "finetunejobs")
MODEL_VERSIONS = Kind("ModelVersion", GROUP, VERSION, "modelversions")
MODEL_ENDPOINTS = Kind("ModelEndpoint", GROUP, VERSION, "modelendpoints")
JOBS = Kind("Job", "batch", "v1", "jobs", labels=OURS)
PODS = Kind("Pod", "", "v1", "pods", labels=OURS)
SERVICES = Kind("Service", "", "v1", "services", labels=OURS)
# Not by label: a job may name claims that people made.
CLAIMS = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
DEPLOYMENTS = Kind("Deployment", "apps", "v1", "deployments", labels=OURS)
AUTOSCALERS = Kind(
    "HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", labels=OURS
)
BUDGETS = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", labels=OURS)
WARNINGS = Kind("Event", "", "v1", "events", fields="type=Warning")
EVENTS = Kind("Event", "events.k8s.io", "v1", "events")
POD_GROUPS = Kind("PodGroup", "scheduling.k8s.io", "v1beta1", "podgroups")
VOLCANO_GROUPS = Kind("PodGroup", "scheduling.volcano.sh", "v1beta1", "podgroups")
LEASES = Kind("Lease", "coordination.k8s.io", "v1", "leases")

WATCHED = (
    FINE_TUNE_JOBS,
    MODEL_VERSIONS,
    MODEL_ENDPOINTS,
    JOBS,
    PODS,
    SERVICES,
    CLAIMS,
    DEPLOYMENTS,
    AUTOSCALERS,
    BUDGETS,
    WARNINGS,
)
GROUPS = (POD_GROUPS, VOLCANO_GROUPS)
"""Not watched: few clusters serve them, and a watch on what is not served never begins."""
BY_NAME = {(kind.api_version, kind.kind): kind for kind in (*WATCHED, *GROUPS, EVENTS, LEASES)}


def kind_of(api_version: str, kind: str) -> Kind:
    return BY_NAME[(api_version, kind)]
