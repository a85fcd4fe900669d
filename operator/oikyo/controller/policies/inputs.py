"""What stops a job at the door: a spec that cannot work here, or an object that it names and that is absent."""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import Diagnosis
from oikyo.errors import SpecError

from ..observed import Observed
from ..resolve import claim_name, prepare_spec
from . import gang, groups, queues

SHARED = frozenset({"ReadWriteMany", "RWX"})


def refusal(job: FineTuneJob, seen: Observed) -> Diagnosis | None:
    """Why this spec can never work here, or None."""
    try:
        prepare_spec(job, seen.mounts, 1)
    except SpecError as error:
        return Diagnosis(cause=str(error), evidence="spec", next_step=_NEW_JOB)
    if (odd := gang.refusal(job)) is not None:
        return odd
    claim = seen.workspace
    if job.spec.training.nodes > 1 and claim is not None and not SHARED & set(claim.access_modes):
        modes = ", ".join(claim.access_modes) or "none"
        return Diagnosis(
            cause=f"spec.training.nodes is {job.spec.training.nodes}, and claim {claim.name} offers "
            f"{modes}; more than one node needs ReadWriteMany",
            evidence=f"PersistentVolumeClaim {claim.name}",
            next_step="name a ReadWriteMany claim in spec.storage.claimName, or train on one node",
        )
    if seen.desktop and seen.missing:
        return _missing(job, seen)
    return None


_NEW_JOB = "correct the spec and apply it as a job with a new name"


def waiting(job: FineTuneJob, seen: Observed) -> Diagnosis | None:
    """What the job waits for a person to create, or None."""
    named = job.spec.storage.claim_name
    if named and seen.workspace is None and not seen.desktop:
        return Diagnosis(
            cause=f"PersistentVolumeClaim {named} does not exist in namespace {job.metadata.namespace}",
            evidence="spec.storage.claimName",
            tried="waiting; the job starts by itself once the claim is there",
            next_step=f"create the claim: kubectl get pvc -n {job.metadata.namespace}",
        )
    if seen.missing:
        return _missing(job, seen)
    if (absent := queues.absent(job, seen) or groups.absent(job, seen)) is not None:
        return absent
    if seen.workspace is not None and seen.workspace.phase == "Lost":
        return Diagnosis(
            cause=f"the volume of claim {claim_name(job)} is lost",
            evidence=seen.workspace.message,
            next_step=f"restore the volume: kubectl describe pvc {claim_name(job)}",
        )
    return None


def _missing(job: FineTuneJob, seen: Observed) -> Diagnosis:
    desktop = "correct the path or name the folder with --claim NAME=DIR"
    cluster = (
        f"create it, or correct the name: kubectl get pvc,configmap -n {job.metadata.namespace}"
    )
    return Diagnosis(
        cause="; ".join(seen.missing)[:2000],
        evidence="spec",
        tried="" if seen.desktop else "waiting; the job starts by itself once it is there",
        next_step=desktop if seen.desktop else cluster,
    )
