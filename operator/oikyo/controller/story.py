"""The events of a job: what changed between two reports, told once, a Warning with the next command."""

from __future__ import annotations

from oikyo.api.checks import next_step
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus, StageStatus
from oikyo.api.meta import Condition

from . import reasons
from .conditions import Status, find, holds
from .observed import Event

TOLD = ("DataReady", "Trained", "Evaluated", "Released")


def events(job: FineTuneJob, new: FineTuneJobStatus) -> tuple[Event, ...]:
    """Events for the step from `job.status` to `new`, in the order of the story."""
    return (
        *_findings(job.status, new),
        *_stages(job.status, new),
        *_notices(job, new),
        *_retries(job, new),
        *_resized(job, new),
        *_queued(job.status, new),
        *_stops(job, new),
        *_troubles(job.status, new),
    )


def _findings(old: FineTuneJobStatus, new: FineTuneJobStatus) -> list[Event]:
    """What was found in the data: a summary, and a Warning for each code that refused the job."""
    found = new.dataset.findings if new.dataset else ()
    if not found or (old.dataset is not None and old.dataset.findings == found):
        return []
    told = ", ".join(f"{one.count} {one.code} ({one.severity})" for one in found)
    failed = [one for one in found if one.severity == "Error"]
    return [
        Event("Normal", reasons.DATA_CHECKED, f"rows found: {told}"),
        *(
            Event(
                "Warning",
                reasons.DATA_CHECK_FAILED,
                f"{one.code}: {one.count} rows; {one.example} Next: {next_step(one.code)}",
            )
            for one in failed
        ),
    ]


def _became(kind: str, status: Status, old: FineTuneJobStatus, new: FineTuneJobStatus) -> bool:
    return holds(new.conditions, kind, status) and not holds(old.conditions, kind, status)


def _stages(old: FineTuneJobStatus, new: FineTuneJobStatus) -> list[Event]:
    told = [kind for kind in TOLD if _became(kind, "True", old, new)]
    found = [find(new.conditions, kind) for kind in told]
    return [Event("Normal", c.type, c.message) for c in found if c is not None]


def _notices(job: FineTuneJob, new: FineTuneJobStatus) -> list[Event]:
    """What went wrong in the training: each kind once while it lasts, and every rollback."""
    before, now = find(job.status.conditions, "Trained"), find(new.conditions, "Trained")
    if now is None or now.reason not in reasons.ALARMING:
        return []
    if before is not None and before.reason == now.reason:
        again = now.reason == reasons.ROLLED_BACK and before.message != now.message
        if not again:
            return []
    attempt = next((stage.attempt for stage in new.stages if stage.name == "train"), 1)
    see = f"see kubectl logs job/{job.metadata.name}-train-{attempt}"
    return [Event("Warning", now.reason, f"{now.message}; {see}")]


def _retries(job: FineTuneJob, new: FineTuneJobStatus) -> list[Event]:
    before = {stage.name: stage for stage in job.status.stages}
    return [
        Event(
            "Warning",
            "AttemptFailed",
            f"{stage.name}, {stage.message}; see kubectl logs "
            f"job/{job.metadata.name}-{stage.name}-{stage.attempt}",
        )
        for stage in new.stages
        if stage.state == "Failed" and _differs(before.get(stage.name), stage)
    ]


def _queued(old: FineTuneJobStatus, new: FineTuneJobStatus) -> list[Event]:
    """That a stage waits in a queue, once."""
    known = {c.type: c.reason for c in old.conditions}
    return [
        Event("Normal", reasons.QUEUED, f"{c.type}: {c.message}")
        for c in new.conditions
        if c.reason == reasons.QUEUED and known.get(c.type) != reasons.QUEUED
    ]


def _resized(job: FineTuneJob, new: FineTuneJobStatus) -> list[Event]:
    """That the training has fewer nodes than it asks for, or all of them again."""
    wanted = job.spec.training.nodes
    before, after = (
        next((stage for stage in status.stages if stage.name == "train"), None)
        for status in (job.status, new)
    )
    if after is None or after.nodes is None or (before and before.attempt == after.attempt):
        return []
    if after.nodes < wanted:
        return [Event("Warning", reasons.FEWER_NODES, after.reduced)]
    if before is not None and before.nodes is not None and before.nodes < wanted:
        return [
            Event("Normal", reasons.ALL_NODES, f"attempt {after.attempt} asks for {wanted} nodes")
        ]
    return []


def _differs(old: StageStatus | None, new: StageStatus) -> bool:
    return old is None or (old.attempt, old.state) != (new.attempt, new.state)


def _troubles(old: FineTuneJobStatus, new: FineTuneJobStatus) -> list[Event]:
    """What the running stage lives with, told once for each kind of it and once when it is over."""
    told = []
    for kind in TOLD:
        was, now = (_trouble(status, kind) for status in (old, new))
        if now is not None and (was is None or was.reason != now.reason) and new.diagnosis:
            words = f"{now.message} Next: {new.diagnosis.next_step}"
            told.append(Event("Warning", now.reason, words))
        elif was is not None and _goes_on(new, kind):
            told.append(Event("Normal", "TroubleOver", f"{kind}: {was.reason} is over"))
    return told


def _trouble(status: FineTuneJobStatus, kind: str) -> Condition | None:
    found = find(status.conditions, kind)
    return found if found is not None and found.reason in reasons.TROUBLES else None


def _goes_on(status: FineTuneJobStatus, kind: str) -> bool:
    found = find(status.conditions, kind)
    return found is not None and found.reason in {
        reasons.RUNNING,
        reasons.RETRYING,
        *reasons.NOTICES,
    }


def _stops(job: FineTuneJob, new: FineTuneJobStatus) -> list[Event]:
    told: list[Event] = []
    diagnosis = new.diagnosis
    next_step = f" Next: {diagnosis.next_step}" if diagnosis and diagnosis.next_step else ""
    failed = find(new.conditions, "Succeeded")
    stalled = find(new.conditions, "Stalled")
    if failed is not None and _became("Succeeded", "False", job.status, new):
        told.append(Event("Warning", failed.reason, failed.message + next_step))
    elif stalled is not None and _became("Stalled", "True", job.status, new):
        told.append(Event("Warning", stalled.reason, stalled.message + next_step))
    if _became("Suspended", "True", job.status, new):
        told.append(Event("Normal", "Suspended", "pods are stopped, checkpoints are kept"))
    return told
