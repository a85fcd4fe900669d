"""What must exist for a job: its workspace claim, and the attempt of a stage. Pure."""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.stages import EvaluateResult, PrepareResult, RunSpec

from . import report
from .observed import ClaimPlan, Observed, StagePlan
from .policies import groups, release, relief
from .resolve import claim_name, evaluate_spec, prepare_spec, processes_per_node, train_spec


def claim_plan(job: FineTuneJob, seen: Observed) -> ClaimPlan | None:
    """The claim that must exist; None when it does, or is not oikyo's to make."""
    storage = job.spec.storage
    if storage.claim_name or seen.workspace is not None:
        return None
    return ClaimPlan(
        name=claim_name(job),
        size=storage.size,
        access_mode=storage.access_mode,
        storage_class=storage.storage_class_name,
        owned=release.owned(job),
    )


def stage_plan(job: FineTuneJob, seen: Observed, stage: str, attempt: int, nodes: int) -> StagePlan:
    """The attempt with all that its stage is told; what exists keeps its PodGroup."""
    data = report.result_of(seen, "prepare")
    run = next((r for r in seen.runs if (r.stage, r.attempt) == (stage, attempt)), None)
    spec: RunSpec
    if stage == "prepare" or not isinstance(data, PrepareResult):
        spec = prepare_spec(job, seen.mounts, attempt)
    elif stage == "evaluate":
        spec = evaluate_spec(job, data, seen, attempt, superseded(job, seen))
    else:
        spec = train_spec(job, data, attempt, relief.plan_for(job, seen, attempt))
        group = groups.choice(job, seen, run, nodes)
        return StagePlan(spec, nodes, processes_per_node(job.spec), group)
    return StagePlan(spec, group=groups.choice(job, seen, run, 1))


def superseded(job: FineTuneJob, seen: Observed) -> int | None:
    """The number of this job's verdict, if another job's record has it by now."""
    verdict = report.result_of(seen, "evaluate")
    number = verdict.version if isinstance(verdict, EvaluateResult) else None
    return number if number is not None and release.taken(job, seen, number) else None
