"""spec.activeDeadlineSeconds and spec.ttlSecondsAfterFinished: no job runs, and no remains stay, for ever.

The deadline is batch/v1's: it counts the time that a job is active without a break. A suspended job has
none, and one that is resumed has all of it again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus

from ..conditions import holds, parse
from ..observed import Observed

DEFAULT = timedelta(days=7)


def started(job: FineTuneJob, seen: Observed, now: datetime) -> datetime | None:
    """Since when the job is active: its first stage started then, or it was resumed."""
    if job.spec.suspend:
        return None
    if holds(job.status.conditions, "Suspended"):
        return now
    if job.status.start_time:  # children that are gone, or older than the suspension, tell less
        return parse(job.status.start_time)
    return min((run.started for run in seen.runs if run.started is not None), default=None)


def limit(job: FineTuneJob) -> timedelta:
    seconds = job.spec.active_deadline_seconds
    return DEFAULT if seconds is None else timedelta(seconds=seconds)


def deadline(job: FineTuneJob, seen: Observed, now: datetime) -> datetime | None:
    """When the job will be failed; one that never started counts from its creation, a suspended one not."""
    start = started(job, seen, now)
    if start is None and not job.spec.suspend and job.metadata.creation_timestamp:
        start = parse(job.metadata.creation_timestamp)
    return None if start is None else start + limit(job)


def expiry(job: FineTuneJob, status: FineTuneJobStatus) -> datetime | None:
    """When the finished job object is to be deleted, or None for never."""
    ttl = job.spec.ttl_seconds_after_finished
    if ttl is None or status.completion_time is None:
        return None
    return parse(status.completion_time) + timedelta(seconds=ttl)
