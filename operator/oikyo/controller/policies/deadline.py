"""spec.activeDeadlineSeconds and spec.ttlSecondsAfterFinished: no job runs, and no remains stay, for ever."""

from __future__ import annotations

from datetime import datetime, timedelta

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus

from ..conditions import parse
from ..observed import Observed

DEFAULT = timedelta(days=7)


def started(job: FineTuneJob, seen: Observed) -> datetime | None:
    """When the first stage started, by the children; by the last report when they are gone."""
    starts = [run.started for run in seen.runs if run.started is not None]
    if job.status.start_time:
        starts.append(parse(job.status.start_time))
    return min(starts, default=None)


def limit(job: FineTuneJob) -> timedelta:
    seconds = job.spec.active_deadline_seconds
    return DEFAULT if seconds is None else timedelta(seconds=seconds)


def deadline(job: FineTuneJob, seen: Observed) -> datetime | None:
    """When the job will be failed; a job that never started counts from its creation."""
    start = started(job, seen)
    if start is None and job.metadata.creation_timestamp:
        start = parse(job.metadata.creation_timestamp)
    return None if start is None else start + limit(job)


def expiry(job: FineTuneJob, status: FineTuneJobStatus) -> datetime | None:
    """When the finished job object is to be deleted, or None for never."""
    ttl = job.spec.ttl_seconds_after_finished
    if ttl is None or status.completion_time is None:
        return None
    return parse(status.completion_time) + timedelta(seconds=ttl)
