"""The next status of a job, built from what is seen: a report, rebuilt from the children at any time."""

from __future__ import annotations

from datetime import datetime

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import (
    FINDINGS,
    DatasetStatus,
    FineTuneJobStatus,
    GateResult,
    Progress,
    Resolved,
    StageStatus,
)
from oikyo.api.meta import Diagnosis, Metric
from oikyo.api.stages import RUN_STAGES, EvaluateResult, PrepareResult, TrainResult
from oikyo.api.tasks import LOWER_IS_BETTER, main_metric

from .conditions import Conditions, phase_of, timestamp
from .observed import Observed, StageRun
from .policies import attempts, costs, gang, relief
from .policies.deadline import started

Result = PrepareResult | TrainResult | EvaluateResult


def result_of(seen: Observed, stage: str) -> Result | None:
    """What the newest attempt that ended well said."""
    for run in reversed(costs.of_stage(seen, stage)):
        if run.state == "Succeeded" and run.words is not None and run.words.result is not None:
            return run.words.result
    return None


def ended_at(seen: Observed, stage: str) -> datetime | None:
    ended = [r.finished for r in costs.of_stage(seen, stage) if r.state == "Succeeded"]
    return max((moment for moment in ended if moment is not None), default=None)


def build(
    job: FineTuneJob,
    seen: Observed,
    conditions: Conditions,
    now: datetime,
    diagnosis: Diagnosis | None = None,
) -> FineTuneJobStatus:
    """The whole status for these conditions."""
    chosen = conditions.tuple()
    phase = phase_of(chosen)
    over = phase in ("Succeeded", "Failed")
    begun = started(job, seen, now)
    metrics, baseline, gates = verdict_of(job, seen)
    last = job.status
    return FineTuneJobStatus(
        observed_generation=job.metadata.generation,
        phase=phase,
        conditions=chosen,
        progress=_progress(seen, over) or last.progress,
        loss=_loss(seen) or last.loss,
        score=_score(job, metrics),
        stages=_stages(job, seen, now),
        dataset=_dataset(seen) or last.dataset,
        resolved=_resolved(seen) or last.resolved,
        metrics=metrics,
        baseline=baseline,
        gates=gates,
        model_version=seen.version.metadata.name if seen.version else None,
        endpoint=seen.endpoint.metadata.name if job.spec.deployment and seen.endpoint else None,
        failures=sum(costs.tally(job, seen, stage).failures for stage in RUN_STAGES),
        diagnosis=diagnosis,
        start_time=timestamp(begun) if begun else None,
        completion_time=(last.completion_time or timestamp(now)) if over else None,
    )


def _newest(seen: Observed) -> StageRun | None:
    running = [run for run in seen.runs if run.state == "Running"]
    return running[-1] if running else None


def _progress(seen: Observed, over: bool) -> Progress | None:
    run = _newest(seen)
    if over:
        return Progress(stage="", progress_percentage=100) if seen.version else None
    if run is None or run.progress is None:
        return Progress(stage=run.stage) if run else None
    told = run.progress
    return Progress(
        stage=run.stage,
        progress_percentage=told.progress_percentage,
        estimated_remaining_seconds=told.estimated_remaining_seconds,
        step=told.step,
        total_steps=told.total_steps,
        metrics=told.metrics[:32],
        last_updated_time=told.updated or None,
    )


def _loss(seen: Observed) -> str | None:
    trained = result_of(seen, "train")
    if isinstance(trained, TrainResult):
        return _find(trained.metrics, "train_loss") or _find(trained.metrics, "loss")
    run = _newest(seen)
    return _find(run.progress.metrics, "loss") if run and run.progress else None


def _find(metrics: tuple[Metric, ...], name: str) -> str | None:
    return next((metric.value for metric in metrics if metric.name == name), None)


def _score(job: FineTuneJob, metrics: tuple[Metric, ...]) -> str | None:
    return _find(metrics, main_metric(job.spec.task, job.spec.training.objective))


def _failure(
    job: FineTuneJob, seen: Observed, runs: tuple[StageRun, ...], told: StageStatus | None
) -> str:
    """Why the newest failed attempt failed and what was lost: told while its progress is known."""
    run = next((run for run in reversed(runs) if run.state == "Failed"), None)
    before = told.message if told else ""
    if run is None:
        return before
    corrects = told is not None and run is runs[-1] and _knows_more(run, told)
    if before.startswith(f"attempt {run.attempt}:") and not corrects:
        return before
    step = costs.checkpoint(run)
    words = f"attempt {run.attempt}: {attempts.root_cause(run)}"
    if changed := relief.told(job, seen, run):
        words = f"{words[:1500]}; {changed}"
    if not step:
        return words[:2048]
    return (
        f"{words[:1800]}; the checkpoint of step {step} is kept, {_lost(job, run, step)} are lost"
    )


def _knows_more(run: StageRun, told: StageStatus) -> bool:
    """Workers end one after another: a later one has kept more, or says who took it away."""
    further = costs.checkpoint(run) > (told.checkpoint_step or 0)
    excuses = costs.taken(run) and not told.excused
    return told.attempt == run.attempt and (further or excuses)


def _lost(job: FineTuneJob, run: StageRun, kept: int) -> str:
    """Steps after the checkpoint that were reported, and about how long they take again."""
    told = job.status.progress
    if told is None or told.stage != run.stage or told.step is None or told.step <= kept:
        return "0 reported steps"
    lost, left = told.step - kept, (told.total_steps or 0) - told.step
    if told.estimated_remaining_seconds is None or left <= 0:
        return f"{lost} reported steps"
    seconds = lost * told.estimated_remaining_seconds / left
    return f"{lost} reported steps, about {seconds:.0f} s of work,"


def _stages(job: FineTuneJob, seen: Observed, now: datetime) -> tuple[StageStatus, ...]:
    there = {(run.stage, run.attempt) for run in seen.runs}
    known = {one.name: _as_left(one, there, now) for one in job.status.stages}
    for name in RUN_STAGES:
        runs = costs.of_stage(seen, name)
        if runs and runs[-1].attempt >= (known[name].attempt if name in known else 0):
            run = runs[-1]
            earlier = costs.tally(job, seen, name, before=run.attempt)
            known[name] = StageStatus(
                name=name,
                attempt=run.attempt,
                state=run.state,
                started=timestamp(run.started) if run.started else None,
                finished=timestamp(run.finished) if run.finished else None,
                message=_failure(job, seen, runs, known.get(name)),
                nodes=run.nodes,
                reduced=gang.reduced(job, seen, run)[:2048],
                checkpoint_step=costs.checkpoint(run) or None,
                excused=(run.state == "Failed" and costs.taken(run)) or None,
                earlier_step=earlier.step or None,
                earlier_failures=earlier.failures or None,
                starved=relief.starved(job, seen) if name == "train" else (),
            )
    return tuple(known[name] for name in RUN_STAGES if name in known)


def _as_left(told: StageStatus, there: set[tuple[str, int]], now: datetime) -> StageStatus:
    """An attempt that was to go on and is gone was stopped: by a suspension, the deadline or a person."""
    if told.state not in ("Pending", "Running") or (told.name, told.attempt) in there:
        return told
    return told.model_copy(update={"state": "Stopped", "finished": timestamp(now)})


def _dataset(seen: Observed) -> DatasetStatus | None:
    data = result_of(seen, "prepare")
    if not isinstance(data, PrepareResult):
        return _refused_data(seen)
    return DatasetStatus(
        digest=data.dataset_digest,
        train=data.train,
        synthetic=data.synthetic,
        validation=data.validation,
        test=data.test,
        dropped=data.bad_rows + sum(step.dropped for step in data.cleaned),
        cleaned=data.cleaned,
        findings=data.findings[:FINDINGS],
    )


def _refused_data(seen: Observed) -> DatasetStatus | None:
    """What was found in rows that were refused."""
    runs = costs.of_stage(seen, "prepare")
    failure = costs.said(runs[-1]) if runs else None
    if failure is None or not failure.findings:
        return None
    return DatasetStatus(findings=failure.findings[:FINDINGS])


def _resolved(seen: Observed) -> tuple[Resolved, ...]:
    told = [result_of(seen, "prepare"), result_of(seen, "train")]
    chosen: dict[str, Resolved] = {}
    for result in told:
        if isinstance(result, PrepareResult | TrainResult):
            chosen.update({setting.name: setting for setting in result.resolved})
    return tuple(chosen.values())[:64]


Verdict = tuple[tuple[Metric, ...], tuple[Metric, ...], tuple[GateResult, ...]]


def verdict_of(job: FineTuneJob, seen: Observed) -> Verdict:
    judged = result_of(seen, "evaluate")
    if isinstance(judged, EvaluateResult):
        return judged.metrics, judged.baseline, judged.gates
    if seen.version is not None:
        record = seen.version.spec
        gates = tuple(GateResult(**gate.model_dump()) for gate in record.gates)
        return record.metrics, record.baseline, gates
    return job.status.metrics, job.status.baseline, job.status.gates


def forgetting_of(seen: Observed) -> str:
    """What became of what the base knew, and the levers that were pulled; empty without general rows."""
    judged = result_of(seen, "evaluate")
    if isinstance(judged, EvaluateResult):
        return judged.forgetting
    return seen.version.spec.forgetting if seen.version is not None else ""


def verdict_sentence(job: FineTuneJob, seen: Observed, accepted: bool) -> str:
    """The verdict in words, with value, threshold and baseline of what decided it."""
    told = (_decided(job, verdict_of(job, seen), accepted), forgetting_of(seen))
    return "; ".join(filter(None, told))


def _decided(job: FineTuneJob, status: Verdict, accepted: bool) -> str:
    metrics, baseline, gates = status
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        told = "; ".join(
            f"{g.metric} {g.value}, needed {g.rule} ({g.threshold}), base {g.baseline or 'n/a'}"
            for g in failed
        )
        return f"{len(failed)} of {len(gates)} gates failed: {told}"
    name = main_metric(job.spec.task, job.spec.training.objective)
    value, base = _find(metrics, name) or "n/a", _find(baseline, name) or "n/a"
    better = "lower is better" if name in LOWER_IS_BETTER else "higher is better"
    word = "accepted" if accepted else "rejected"
    return f"{word}: {name} {value}, base {base} ({better}); all {len(gates)} gates passed"
