"""decide(job, observed, now) -> Decision: the whole state machine of a FineTuneJob. Pure.

Rules are tried in order and the first that answers wins. Each declares what must exist, never a
command: a stage that is not named must not run. The hands (cluster or desktop) make it so.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.meta import Diagnosis
from oikyo.api.stages import RUN_STAGES, EvaluateResult, EvaluateSpec, PrepareResult

from . import reasons, report, story
from .conditions import STAGE_CONDITION, Conditions, find, holds
from .observed import Children, Decision, Observed, StagePlan, StageRun
from .outcomes import conditions_of
from .plans import claim_plan, stage_plan, superseded
from .policies import (
    attempts,
    costs,
    deadline,
    forgetting,
    gang,
    inputs,
    queues,
    release,
)
from .resolve import claim_name

POLL = timedelta(seconds=5)
"""How often the progress of a running stage is looked at."""
PATIENCE = timedelta(seconds=15)
"""How often something that a person must mend is looked at again."""


def decide(job: FineTuneJob, seen: Observed, now: datetime) -> Decision:
    """What must be true next for `job`, given everything that is `seen`."""
    seen = costs.recall(job, seen, now)
    if finished(job.status):
        return _stay(job, seen, now)
    if job.metadata.deletion_timestamp:
        return Decision(Children(keep=_ended(seen)), job.status)
    if seen.version is not None:
        return _release(job, seen, now)
    if (refused := inputs.refusal(job, seen)) is not None:
        return _fail(job, seen, now, reasons.INPUT_REFUSED, refused)
    if (late := _too_late(job, seen, now)) is not None:
        return _fail(job, seen, now, reasons.DEADLINE_EXCEEDED, late)
    if job.spec.suspend:
        return _suspend(job, seen, now)
    if (missing := inputs.waiting(job, seen)) is not None:
        return _wait_for_person(job, seen, now, reasons.REFERENCE_MISSING, missing)
    return _advance(job, seen, now)


def finished(status: FineTuneJobStatus) -> bool:
    """Whether the job has ended; nothing leads out of that but a new job."""
    return any(holds(status.conditions, "Succeeded", state) for state in ("True", "False"))


def _ended(seen: Observed) -> frozenset[tuple[str, int]]:
    return frozenset(
        (run.stage, run.attempt) for run in seen.runs if run.state in ("Succeeded", "Failed")
    )


def _stay(job: FineTuneJob, seen: Observed, now: datetime) -> Decision:
    """A finished job keeps its status; only its time to live runs."""
    status = job.status.model_copy(update={"observed_generation": job.metadata.generation})
    expiry = deadline.expiry(job, status)
    if expiry is None:
        return Decision(Children(keep=_ended(seen)), status)
    return Decision(
        Children(keep=_ended(seen)),
        status,
        wake_after=max(expiry - now, timedelta(0)) or None,
        delete=now >= expiry,
    )


def _too_late(job: FineTuneJob, seen: Observed, now: datetime) -> Diagnosis | None:
    end = deadline.deadline(job, seen, now)
    if end is None or now < end:
        return None
    seconds = int(deadline.limit(job).total_seconds())
    return Diagnosis(
        cause=f"the job did not end within {seconds} seconds",
        evidence="spec.activeDeadlineSeconds",
        tried="its pods were stopped; checkpoints are kept",
        next_step="raise spec.activeDeadlineSeconds in a job with a new name",
    )


def _finish(
    job: FineTuneJob,
    seen: Observed,
    now: datetime,
    conditions: Conditions,
    children: Children,
    diagnosis: Diagnosis | None = None,
    wake_after: timedelta | None = None,
) -> Decision:
    status = report.build(job, seen, conditions, now, diagnosis)
    end = deadline.deadline(job, seen, now)
    if wake_after is None and end is not None and not finished(status):
        wake_after = max(end - now, POLL)
    return Decision(children, status, story.events(job, status), wake_after)


def _fail(
    job: FineTuneJob, seen: Observed, now: datetime, reason: str, diagnosis: Diagnosis
) -> Decision:
    conditions = conditions_of(job, seen, now)
    stage = next((s for s in RUN_STAGES if report.result_of(seen, s) is None), None)
    if stage is not None and costs.of_stage(seen, stage):
        conditions.set(STAGE_CONDITION[stage], "False", reason, diagnosis.cause)
    conditions.set("Stalled", "True", reason, diagnosis.cause)
    conditions.set("Released", "False", reasons.SKIPPED)
    conditions.set("Succeeded", "False", reason, diagnosis.cause)
    return _finish(job, seen, now, conditions, Children(keep=_ended(seen)), diagnosis)


def _suspend(job: FineTuneJob, seen: Observed, now: datetime) -> Decision:
    conditions = conditions_of(job, seen, now)
    conditions.set(
        "Suspended", "True", reasons.SUSPENDED, "spec.suspend is true; checkpoints are kept"
    )
    return _finish(job, seen, now, conditions, _children(job, seen))


def _wait_for_person(
    job: FineTuneJob, seen: Observed, now: datetime, reason: str, diagnosis: Diagnosis
) -> Decision:
    conditions = conditions_of(job, seen, now)
    conditions.set("Stalled", "True", reason, diagnosis.cause)
    return _finish(job, seen, now, conditions, _children(job, seen), diagnosis, PATIENCE)


def _children(job: FineTuneJob, seen: Observed, plan: StagePlan | None = None) -> Children:
    return Children(stages=(plan,) if plan else (), keep=_ended(seen), claim=claim_plan(job, seen))


def _advance(job: FineTuneJob, seen: Observed, now: datetime) -> Decision:
    """Run the first stage that has no result."""
    results = {stage: report.result_of(seen, stage) for stage in RUN_STAGES}
    data, verdict = results["prepare"], results["evaluate"]
    if superseded(job, seen) is not None:
        # The record is written once, and under this number it is another's.
        results["evaluate"] = None
    elif isinstance(data, PrepareResult) and isinstance(verdict, EvaluateResult):
        return _record(job, seen, now, data, verdict)
    stage = next(stage for stage in RUN_STAGES if results[stage] is None)
    step = attempts.next_attempt(job, seen, stage, now)
    if isinstance(step, attempts.GiveUp):
        return _fail(job, seen, now, step.reason, step.diagnosis)
    conditions = conditions_of(job, seen, now)
    if isinstance(step, attempts.Wait):
        conditions.set(STAGE_CONDITION[stage], "Unknown", reasons.RETRYING, step.message)
        wait = max(step.until - now, timedelta(seconds=1))
        return _finish(job, seen, now, conditions, _children(job, seen), wake_after=wait)
    return _run(job, seen, now, conditions, stage, step.attempt)


def _run(
    job: FineTuneJob,
    seen: Observed,
    now: datetime,
    conditions: Conditions,
    stage: str,
    attempt: int,
) -> Decision:
    """The attempt must exist: make it, or tell how it does."""
    run = next((r for r in seen.runs if (r.stage, r.attempt) == (stage, attempt)), None)
    if run is not None and (late := _late(job, seen, now, conditions, run)) is not None:
        return late
    plan = stage_plan(job, seen, stage, attempt, run.nodes if run else job.spec.training.nodes)
    reason, message = _standing(job, seen, now, plan, run)
    conditions.set(STAGE_CONDITION[stage], "Unknown", reason, message)
    children = _children(job, seen, plan)
    if run is None:
        conditions.set("Reconciling", "True", reasons.PROGRESSING, f"starting the {stage} stage")
    if run is None or reason == reasons.QUEUED:
        return _finish(job, seen, now, conditions, children, wake_after=POLL)
    if (stuck := attempts.blocked(job, run)) is not None:
        conditions.set("Stalled", "True", reasons.POD_BLOCKED, stuck[1].cause)
        return _finish(job, seen, now, conditions, children, stuck[1], PATIENCE)
    trouble = run.progress.trouble if run.progress is not None else None
    if trouble is None:
        return _finish(job, seen, now, conditions, children, wake_after=POLL)
    reason = trouble.reason if trouble.reason in reasons.TROUBLES else reason
    conditions.set(STAGE_CONDITION[stage], "Unknown", reason, trouble.message[: attempts.LIMIT])
    claim = "" if seen.desktop else claim_name(job)
    diagnosis = attempts.going_on(run, trouble, claim)
    return _finish(job, seen, now, conditions, children, diagnosis, wake_after=POLL)


def _late(
    job: FineTuneJob, seen: Observed, now: datetime, conditions: Conditions, run: StageRun
) -> Decision | None:
    """What follows where a gang waits in vain for its pods: a smaller one, the end of the job, or nothing."""
    if not gang.late(job, run, now):
        return None
    if (fewer := gang.fewer(job, run)) is not None:
        plan = stage_plan(job, seen, run.stage, run.attempt + 1, fewer)
        message = f"attempt {run.attempt} waits for {gang.told(run)}"
        conditions.set(STAGE_CONDITION[run.stage], "Unknown", reasons.RETRYING, message)
        return _finish(job, seen, now, conditions, _children(job, seen, plan), wake_after=POLL)
    if job.spec.training.start_deadline_seconds is None:
        return None
    missed = gang.given_up(job, run)
    return _fail(job, seen, now, reasons.START_DEADLINE_EXCEEDED, missed)


def _standing(
    job: FineTuneJob, seen: Observed, now: datetime, plan: StagePlan, run: StageRun | None
) -> tuple[str, str]:
    """Where the attempt stands: reason and message of its condition."""
    attempt = plan.spec.attempt
    reason = reasons.RUNNING if attempt == 1 else reasons.RETRYING
    message = "" if attempt == 1 else f"attempt {attempt}"
    if isinstance(plan.spec, EvaluateSpec) and (number := plan.spec.instead_of) is not None:
        message = f"version {number} of {job.model_name} is another job's: {message} takes the next"
    if run is None:
        return reason, message
    if waits := queues.waits(job, run):
        return reasons.QUEUED, waits
    message = gang.silent(run, now) or gang.reduced(job, seen, run) or message
    return _noticed(job, run) or (reason, message)


def _noticed(job: FineTuneJob, run: StageRun) -> tuple[str, str] | None:
    """What the running stage says in words; its last words stand while its progress is not known."""
    if run.state != "Running":
        return None
    if run.progress is not None:
        told = run.progress
        return (told.notice_reason, told.notice) if told.notice_reason in reasons.NOTICES else None
    last = find(job.status.conditions, STAGE_CONDITION[run.stage])
    known = last is not None and last.status == "Unknown" and last.reason in reasons.NOTICES
    return (last.reason, last.message) if last is not None and known else None


def _record(
    job: FineTuneJob, seen: Observed, now: datetime, data: PrepareResult, verdict: EvaluateResult
) -> Decision:
    """The verdict is reached: its record must exist."""
    judged = report.ended_at(seen, "evaluate") or now
    conditions = conditions_of(job, seen, now)
    conditions.set("Released", "Unknown", reasons.PROGRESSING, "writing the ModelVersion")
    children = Children(
        keep=_ended(seen), version=release.version_plan(job, data, verdict, seen, judged)
    )
    return _finish(job, seen, now, conditions, children, wake_after=POLL)


def _release(job: FineTuneJob, seen: Observed, now: datetime) -> Decision:
    """The record exists: serve it if it was accepted and a deployment is wanted, and end."""
    assert seen.version is not None
    conditions = conditions_of(job, seen, now)
    if seen.version.spec.verdict == "Rejected":
        return _reject(job, seen, now, conditions)
    endpoint = release.endpoint_plan(job, seen)
    if endpoint is not None:
        conditions.set("Released", "Unknown", reasons.PROGRESSING, "making the ModelEndpoint")
        children = Children(keep=_ended(seen), endpoint=endpoint)
        return _finish(job, seen, now, conditions, children, wake_after=POLL)
    name = seen.version.metadata.name
    served = "" if job.spec.deployment is None else f", served by ModelEndpoint {job.model_name}"
    conditions.set("Released", "True", reasons.ACCEPTED, f"ModelVersion {name}{served}")
    conditions.set("Succeeded", "True", reasons.ACCEPTED, f"ModelVersion {name} is accepted")
    conditions.set("Reconciling", "False", reasons.FINISHED)
    return _finish(job, seen, now, conditions, Children(keep=_ended(seen)))


def _reject(job: FineTuneJob, seen: Observed, now: datetime, conditions: Conditions) -> Decision:
    verdict = report.verdict_sentence(job, seen, accepted=False)
    step = "look at status.gates, then change data or training in a job with a new name"
    if forgetting.forgot(report.verdict_of(job, seen)[2]):
        step = forgetting.next_step(job.spec.training)
    name = seen.version.metadata.name if seen.version else ""
    diagnosis = Diagnosis(
        cause=verdict,
        evidence=f"ModelVersion {name}",
        tried="the result is kept as a rejected version and serves nothing",
        next_step=step,
    )
    conditions.set("Stalled", "True", reasons.GATE_FAILED, verdict)
    conditions.set("Released", "False", reasons.GATE_FAILED, "a rejected version is never served")
    conditions.set("Succeeded", "False", reasons.GATE_FAILED, verdict)
    return _finish(job, seen, now, conditions, Children(keep=_ended(seen)), diagnosis)
