"""spec.backoffLimit: which attempt of a stage must exist next, or why none may.

A stage attempt is one Job whose workers start and end together. What a person must change is never
retried; a disruption (eviction, a lost node, a stop) costs no budget; all else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import Diagnosis
from oikyo.api.stages import Failure

from .. import reasons
from ..observed import Observed, StageRun, Worker
from . import relief
from .costs import DISRUPTIONS, TAKEN, by_itself, kept, of_stage, said, tally

BLOCKING = {
    "ImagePullBackOff": "check the image name and the pull secret: kubectl describe pod {pod}",
    "ErrImagePull": "check the image name and the pull secret: kubectl describe pod {pod}",
    "InvalidImageName": "correct the image name in the chart's values: helm get values oikyo",
    "CreateContainerConfigError": "create the Secret or ConfigMap that the message names: "
    "kubectl describe pod {pod}",
    "FailedMount": "create the volume, Secret or ConfigMap that the message names: "
    "kubectl describe pod {pod}",
    "Unschedulable": "free or add the resources that the message names: kubectl describe pod {pod}",
    "Undetermined": "see what Volcano's queue still has, and the resources that the message names: "
    "kubectl describe queues.scheduling.volcano.sh",
    "FailedCreate": "lift the quota or policy that the message names: kubectl describe job {job}",
}
"""Platform reason -> what a person should do while a pod cannot start."""
LIMIT = 2048
"""Characters of a sentence in a status; the schema refuses more."""
FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=5)
DRAIN = timedelta(seconds=75)
"""Longest wait for the pods of an ended attempt to be gone: the time that they have to end in, and some to
tell of it. The attempt's number fences them then."""


@dataclass(frozen=True)
class Start:
    """This attempt must exist."""

    attempt: int


@dataclass(frozen=True)
class Wait:
    """Nothing may start before `until`."""

    attempt: int
    until: datetime
    message: str


@dataclass(frozen=True)
class GiveUp:
    """No further attempt: the job fails."""

    reason: str
    diagnosis: Diagnosis


def next_attempt(
    job: FineTuneJob, seen: Observed, stage: str, now: datetime
) -> Start | Wait | GiveUp:
    """What must happen for a stage that has no result yet."""
    runs = of_stage(seen, stage)
    highest = max([run.attempt for run in runs] + [_reported(job, stage)], default=0)
    if not runs:
        return Start(highest + 1)
    last = runs[-1]
    if last.state in ("Pending", "Running"):
        return Start(last.attempt)
    if last.state == "Succeeded":
        # It ended well, but its last words are gone with its pod: the next attempt finds the
        # finished result in the workspace and says them again.
        return Start(highest + 1)
    return _after_failure(job, seen, runs, highest, now)


def _reported(job: FineTuneJob, stage: str) -> int:
    """A stopped attempt leaves no Job behind; its number must not come again."""
    last = kept(job, stage)
    return last.attempt if last is not None else 0


def _after_failure(
    job: FineTuneJob, seen: Observed, runs: tuple[StageRun, ...], highest: int, now: datetime
) -> Start | Wait | GiveUp:
    last = runs[-1]
    failure = said(last)
    if failure is not None and failure.kind == "Refused":
        return GiveUp(
            reasons.INPUT_REFUSED,
            Diagnosis(
                cause=failure.message[:LIMIT],
                evidence=failure.evidence[:LIMIT],
                next_step=failure.next_step[:LIMIT],
            ),
        )
    if last.stage == "train" and relief.exhausted(job, seen, last.attempt + 1):
        plan = relief.plan_for(job, seen, last.attempt)
        assert plan is not None
        starved = relief.starved(job, seen)
        return GiveUp(reasons.MEMORY_EXHAUSTED, relief.advice(job, plan, len(starved)))
    failed = tally(job, seen, last.stage).failures
    if failed > job.spec.backoff_limit:
        if (drained := _drained(last)) is not None and drained > now:
            # A worker that is still to end may know of a checkpoint, or of who took it away.
            return Wait(highest + 1, drained, f"{root_cause(last)}; its other workers are ending")
        return GiveUp(reasons.BACKOFF_LIMIT_EXCEEDED, _give_up(job, last, failed))
    until = _restart_time(last, failed)
    if until is not None and until > now:
        return Wait(highest + 1, until, f"{root_cause(last)}; attempt {highest + 1} starts soon")
    return Start(highest + 1)


def _restart_time(last: StageRun, failed: int) -> datetime | None:
    """When the next attempt may start: at once after a first failure, once the old pods are gone."""
    drained = _drained(last)
    if drained is None or last.finished is None or failed <= 1:
        return drained
    return max(
        drained, last.finished + min(FIRST_DELAY * (1 << min(failed - 2, 10)), LONGEST_DELAY)
    )


def _drained(last: StageRun) -> datetime | None:
    """When the workers of an ended attempt are gone, or are waited for no longer."""
    if last.finished is None:
        return None
    leaving = any(worker.state in ("Pending", "Running") for worker in last.workers)
    return last.finished + (DRAIN if leaving else timedelta(0))


def _give_up(job: FineTuneJob, last: StageRun, failed: int) -> Diagnosis:
    worker = culprit(last)
    return Diagnosis(
        cause=f"the {last.stage} stage failed {failed} times: {root_cause(last)}"[:LIMIT],
        evidence=evidence(last),
        tried=f"{failed} attempts, spec.backoffLimit is {job.spec.backoff_limit}",
        next_step=_advice(job, last, worker)[:LIMIT],
    )


def going_on(run: StageRun, trouble: Failure, claim: str = "") -> Diagnosis:
    """A trouble that a running stage lives with, for the person who can mend it; `claim` is its volume."""
    first = next((worker for worker in run.workers if worker.rank == 0), None)
    volume = f"claim {claim}, " if claim and trouble.reason == reasons.WORKSPACE_FULL else ""
    where = f"{volume}pod {first.name}: " if first else ""
    return Diagnosis(
        cause=trouble.message[:LIMIT],
        evidence=f"{where}{trouble.evidence}"[:LIMIT],
        tried=f"attempt {run.attempt} of {run.stage} goes on",
        next_step=trouble.next_step[:LIMIT],
    )


def _advice(job: FineTuneJob, last: StageRun, worker: Worker | None) -> str:
    failure = said(last)
    if failure is not None and failure.next_step and failure.kind == "Retry":
        return failure.next_step
    if worker is None:
        return f"read the log: kubectl logs job/{job.metadata.name}"
    if worker.reason == "OOMKilled":
        return "raise training.resources.memory or lower training.microBatchSize in a job with a new name"
    return f"read the log: {worker.log}"


def culprit(run: StageRun) -> Worker | None:
    """The worker whose failure explains the others': one that says why, else the lowest rank."""
    failed = [worker for worker in run.workers if worker.state == "Failed"]
    ranked = sorted(
        failed, key=lambda w: (w.reason != "OOMKilled", not by_itself(w), w.words is None, w.rank)
    )
    return ranked[0] if ranked else None


def root_cause(run: StageRun) -> str:
    """One sentence on why this attempt failed: who was taken away explains what the others say."""
    failure = said(run)
    if (away := next((w for w in run.workers if w.reason in TAKEN), None)) is not None:
        stopped = failure is not None and failure.reason in DISRUPTIONS
        return f"{_away(run, away)}; {failure.message}" if failure and stopped else _away(run, away)
    if failure is not None:
        return failure.message
    worker = culprit(run)
    if worker is None:
        return run.warning or f"attempt {run.attempt} of {run.stage} ended without a result"
    code = "" if worker.exit_code is None else f" with exit code {worker.exit_code}"
    reason = f" ({worker.reason})" if worker.reason else ""
    return f"worker {worker.rank} of {run.stage} ended{code}{reason}"


def _away(run: StageRun, worker: Worker) -> str:
    where = f"node {worker.node}" if worker.node else "its node"
    why = f" ({worker.message[:400]})" if worker.message else ""
    return f"worker {worker.rank} of {run.stage} {TAKEN[worker.reason]} {where}{why}"


def evidence(run: StageRun) -> str:
    worker = culprit(run)
    failure = said(run)
    where = (
        f"pod {worker.name}" + (f" on node {worker.node}" if worker.node else "") if worker else ""
    )
    detail = (
        (failure.evidence if failure else "") or (worker.message if worker else "") or run.warning
    )
    return ": ".join(part for part in (where, detail) if part)[-2000:]


def _stuck(job: FineTuneJob, run: StageRun, stuck: list[Worker]) -> Diagnosis:
    """Every pod that cannot start, with the platform's words, and what mends the first."""
    ranks = ", ".join(str(worker.rank) for worker in stuck)
    why = ", ".join(dict.fromkeys(worker.reason for worker in stuck))
    words = "; ".join(f"pod {worker.name}: {worker.message[:400]}" for worker in stuck)
    first = stuck[0]
    return Diagnosis(
        cause=f"worker{'s' if len(stuck) > 1 else ''} {ranks} of {run.stage} cannot start: {why}"[
            :LIMIT
        ],
        evidence=words[:2000],
        tried="waiting; the job goes on by itself once this is mended",
        next_step=BLOCKING[first.reason].format(pod=first.name, job=job.metadata.name),
    )


def blocked(job: FineTuneJob, run: StageRun) -> tuple[str, Diagnosis] | None:
    """Why a pod of a waiting attempt cannot start, if only a person can mend it."""
    if run.state != "Pending" and not any(w.reason in BLOCKING for w in run.workers):
        return None
    stuck = [w for w in run.workers if w.state == "Pending" and w.reason in BLOCKING]
    if stuck:
        return stuck[0].reason, _stuck(job, run, stuck)
    if not run.workers and run.warning:
        return "FailedCreate", Diagnosis(
            cause=f"the pods of {run.stage} cannot be created",
            evidence=run.warning[:2000],
            tried="waiting; the job goes on by itself once this is mended",
            next_step=BLOCKING["FailedCreate"].format(
                job=f"{job.metadata.name}-{run.stage}-{run.attempt}"
            ),
        )
    return None
