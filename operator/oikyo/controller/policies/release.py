"""From a verdict to a ModelVersion and, only if it was accepted, a ModelEndpoint."""

from __future__ import annotations

from datetime import datetime

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpointSpec
from oikyo.api.modelversion import Lineage, ModelVersionSpec, Storage
from oikyo.api.stages import EvaluateResult, PrepareResult

from ..conditions import timestamp
from ..observed import EndpointPlan, Observed, VersionPlan
from ..resolve import claim_name
from .adapters import facts


def version_plan(
    job: FineTuneJob, data: PrepareResult, verdict: EvaluateResult, seen: Observed, judged: datetime
) -> VersionPlan | None:
    """The record that must exist; None when it does: a record is written once."""
    if seen.version is not None:
        return None
    spec = ModelVersionSpec(
        model=job.model_name,
        version=verdict.version,
        task=job.spec.task,
        verdict="Accepted" if verdict.accepted else "Rejected",
        digest=verdict.digest,
        storage=Storage(claim_name="" if seen.desktop else claim_name(job), path=verdict.path),
        adapter=facts(job.spec.training),
        metrics=verdict.metrics,
        baseline=verdict.baseline,
        gates=verdict.gates,
        forgetting=verdict.forgetting[:1024],
        lineage=Lineage(
            job=job.metadata.name,
            job_uid=job.metadata.uid,
            base=job.spec.model.base,
            base_digest=data.model_digest,
            dataset_digest=data.dataset_digest,
            hyperparameters=verdict.hyperparameters,
            libraries=verdict.libraries,
            image=seen.image,
        ),
        created=timestamp(judged),
    )
    return VersionPlan(f"{job.model_name}-v{verdict.version}", spec, owned(job))


def taken(job: FineTuneJob, seen: Observed, number: int) -> bool:
    """Whether another job's record has this number: two in two workspaces were judged at once."""
    return any(
        version.spec.version == number and version.spec.lineage.job_uid != job.metadata.uid
        for version in seen.versions
    )


def endpoint_plan(job: FineTuneJob, seen: Observed) -> EndpointPlan | None:
    """The endpoint that must exist; None when none is wanted or anybody's serves the model already."""
    wanted = job.spec.deployment
    if wanted is None or seen.endpoint is not None:
        return None
    spec = ModelEndpointSpec(
        model=job.model_name,
        replicas=wanted.replicas,
        runtime=wanted.runtime,
        resources=wanted.resources,
        target_cpu_percent=wanted.target_cpu_percent,
    )
    return EndpointPlan(job.model_name, spec, owned(job))


def owned(job: FineTuneJob) -> bool:
    """Whether what the job made goes when the job goes."""
    return job.spec.storage.retention_policy == "Delete"
