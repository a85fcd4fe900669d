"""Claims, ModelVersions and ModelEndpoints: written once, never changed by the controller."""

from __future__ import annotations

from oikyo.api.base import API_VERSION
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import LABEL_JOB, LABEL_MODEL

from ..observed import ClaimPlan, EndpointPlan, VersionPlan
from .naming import Manifest, Owner, labels, metadata, sealed


def _metadata(job: FineTuneJob, name: str, component: str, owned: bool) -> Manifest:
    own = {LABEL_JOB: job.metadata.name, LABEL_MODEL: job.model_name}
    return metadata(
        name,
        job.metadata.namespace,
        {**labels(component, job.metadata.name), **own},
        Owner("FineTuneJob", job.metadata) if owned else None,
    )


def claim(job: FineTuneJob, plan: ClaimPlan) -> Manifest:
    """The workspace volume. Without an owner it outlives the job, as storage.retentionPolicy says."""
    spec: Manifest = {
        "accessModes": [plan.access_mode],
        "resources": {"requests": {"storage": plan.size}},
    }
    if plan.storage_class is not None:
        spec["storageClassName"] = plan.storage_class
    meta = _metadata(job, plan.name, "workspace", plan.owned)
    return sealed(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
    )


def version(job: FineTuneJob, plan: VersionPlan) -> Manifest:
    meta = _metadata(job, plan.name, "version", plan.owned)
    return sealed(
        {
            "apiVersion": API_VERSION,
            "kind": "ModelVersion",
            "metadata": meta,
            "spec": plan.spec.wire(),
        }
    )


def endpoint(job: FineTuneJob, plan: EndpointPlan) -> Manifest:
    meta = _metadata(job, plan.name, "endpoint", plan.owned)
    return sealed(
        {
            "apiVersion": API_VERSION,
            "kind": "ModelEndpoint",
            "metadata": meta,
            "spec": plan.spec.wire(),
        }
    )
