"""From a manifest to a job that may run here: new, gone on with, tried again, or refused."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

from oikyo import admission
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.meta import MANAGED_BY
from oikyo.controller import reasons
from oikyo.controller.conditions import find, holds, timestamp
from oikyo.controller.observed import Mounts
from oikyo.controller.resolve import in_bucket, run_id
from oikyo.errors import SpecError

from .home import Home
from .launch import signal_group
from .mounts import missing
from .objects import Store, new_meta
from .records import birth_of, load_records


def admit(job: FineTuneJob, home: Home, *, again: bool) -> FineTuneJob:
    """The job of this manifest as it stands here; raises SpecError when its spec may not change."""
    if job.spec.managed_by not in (None, MANAGED_BY):
        raise SpecError(
            f"spec.managedBy is {job.spec.managed_by}, so this job is not oikyo's to run: remove the "
            f"field, or write {MANAGED_BY}"
        )
    old = Store(home).get(FineTuneJob, job.metadata.name)
    if old is not None and (again or never_trained(old)):
        forget(old, home)
        old = None
    if old is None:
        labels = {"labels": job.metadata.labels, "annotations": job.metadata.annotations}
        return job.model_copy(
            update={"metadata": new_meta(job.metadata.name).model_copy(update=labels)}
        )
    refuse_changes(job, old)
    return _retried(_continued(job, old), home)


def refuse_changes(job: FineTuneJob, old: FineTuneJob) -> None:
    """Raise SpecError for a change of what cannot change."""
    if violations := admission.check(job.wire(), old.wire()):
        raise SpecError(
            "\n".join(map(str, violations)) + "\nnext: give the job a new metadata.name, or run it "
            "with --again to forget the earlier job (its versions stay)"
        )


def _continued(job: FineTuneJob, old: FineTuneJob) -> FineTuneJob:
    changed = job.spec != old.spec
    metadata = old.metadata.model_copy(
        update={
            "generation": old.metadata.generation + changed,
            "labels": job.metadata.labels,
            "annotations": job.metadata.annotations,
        }
    )
    return job.model_copy(update={"metadata": metadata, "status": old.status})


def ending(job: FineTuneJob) -> str:
    """Reason with which a job ended: Accepted, GateFailed, InputRefused and so on; empty while it runs."""
    condition = find(job.status.conditions, "Succeeded")
    return condition.reason if condition is not None and condition.status != "Unknown" else ""


def never_trained(job: FineTuneJob) -> bool:
    """Whether a job failed before it trained: nothing is lost by beginning anew, even changed."""
    trained = any(stage.name == "train" for stage in job.status.stages)
    return holds(job.status.conditions, "Succeeded", "False") and not trained


def _retried(job: FineTuneJob, home: Home) -> FineTuneJob:
    """A failed job is tried again, from its last checkpoint; a verdict stays a verdict."""
    if ending(job) in ("", reasons.ACCEPTED, reasons.GATE_FAILED):
        return job
    for record in load_records(home, run_id(job)):
        if record.exit_code != 0:
            record.remove(home)
    # Attempt numbers go on: a lower one than the workspace knows may not write. Deadline and budget begin anew.
    anew = {"earlier_failures": None, "starved": ()}
    status = FineTuneJobStatus(
        stages=tuple(stage.model_copy(update=anew) for stage in job.status.stages),
        dataset=job.status.dataset,
        start_time=timestamp(datetime.now(UTC)),
    )
    return job.model_copy(update={"status": status})


def check_sources(job: FineTuneJob, mounts: Mounts, home: Home) -> None:
    """Raise SpecError when something that the spec names is not here."""
    if absent := missing(job, mounts, home):
        raise SpecError("\n".join(absent))


def save(job: FineTuneJob, home: Home) -> None:
    Store(home).put(job)


def secrets(job: FineTuneJob, home: Home) -> dict[str, str]:
    """Environment that carries the hub token to the stages."""
    name = job.spec.model.secret_name
    if name is None or in_bucket(job.spec.model.base) or not home.token(name).is_file():
        return {}
    return {"HF_TOKEN": home.token(name).read_text(encoding="utf-8").strip()}


def forget(job: FineTuneJob, home: Home) -> None:
    """Remove the job object and what is known of its processes; end those that still run."""
    for record in load_records(home, run_id(job)):
        if record.finished is None and birth_of(record.pid) == record.birth:
            signal_group(record.pid, signal.SIGKILL)
        record.remove(home)
    Store(home).remove(FineTuneJob, job.metadata.name)
