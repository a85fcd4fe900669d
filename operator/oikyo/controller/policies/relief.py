"""What is changed after memory ran out: one knob for each time, so that the next attempt needs less.

First fewer rows of a forward pass (the rest of the batch is accumulated: the same step is learned), then
activations that are computed again. Derived from the attempts that exist and from those that the status
names, so it outlives the operator and the pods.
"""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import STARVED
from oikyo.api.meta import Diagnosis
from oikyo.api.stages import OUT_OF_MEMORY, MemoryPlan, PrepareResult
from oikyo.api.training import TrainingSpec

from ..observed import Observed, StageRun

KILLED = "OOMKilled"


def starved(job: FineTuneJob, seen: Observed) -> tuple[int, ...]:
    """Attempts of the training in which memory ran out, by their pods or by the status."""
    told = (stage.starved for stage in job.status.stages if stage.name == "train")
    found = (
        r.attempt for r in seen.runs if r.stage == "train" and r.state == "Failed" and _ran_out(r)
    )
    return tuple(sorted({*next(told, ()), *found}))[-STARVED:]


def _ran_out(run: StageRun) -> bool:
    """Whether a worker says so, or its platform: of the host's memory, or a GPU's."""
    words = [run.words, *(worker.words for worker in run.workers)]
    said = any(w is not None and w.failure and w.failure.reason == OUT_OF_MEMORY for w in words)
    return said or any(worker.reason == KILLED for worker in run.workers)


def first_plan(seen: Observed) -> MemoryPlan | None:
    """What was planned with the data; None where it is not known."""
    for run in reversed(seen.runs):
        result = run.words.result if run.words is not None else None
        if run.stage == "prepare" and isinstance(result, PrepareResult):
            return result.memory
    return None


def plan_for(job: FineTuneJob, seen: Observed, attempt: int) -> MemoryPlan | None:
    """The plan of this attempt of the training: a knob turned for each earlier one that starved."""
    plan = first_plan(seen)
    for _ in range(_times(job, seen, attempt)):
        turned = plan and turn(plan, job.spec.training)
        plan = turned or plan
    return plan


def exhausted(job: FineTuneJob, seen: Observed, attempt: int) -> bool:
    """Whether no knob is left for this attempt, though one would have to be turned."""
    plan = plan_for(job, seen, attempt)
    return plan is not None and plan.relieved < _times(job, seen, attempt)


def _times(job: FineTuneJob, seen: Observed, attempt: int) -> int:
    return sum(number < attempt for number in starved(job, seen))


def turn(plan: MemoryPlan, training: TrainingSpec) -> MemoryPlan | None:
    """The plan with one knob turned; None when all are."""
    rows, relieved = plan.micro_batch_size, plan.relieved + 1
    if rows > 1:
        fewer = next(size for size in range(rows // 2, 0, -1) if rows % size == 0)
        why = f"memory ran out with {rows}"
        return plan.model_copy(
            update={"micro_batch_size": fewer, "reason": why, "relieved": relieved}
        )
    if plan.gradient_checkpointing or training.gradient_checkpointing == "Never":
        return None
    update = {
        "gradient_checkpointing": True,
        "checkpointing_reason": "memory ran out with 1 row and without",
        "relieved": relieved,
    }
    return plan.model_copy(update=update)


def told(job: FineTuneJob, seen: Observed, run: StageRun) -> str:
    """What the attempt after `run` changes, in words; empty when memory was not the reason."""
    if run.stage != "train" or run.attempt not in starved(job, seen):
        return ""
    old, new = (plan_for(job, seen, number) for number in (run.attempt, run.attempt + 1))
    if old is None or new is None or old.relieved == new.relieved:
        return ""
    if new.micro_batch_size != old.micro_batch_size:
        times = old.micro_batch_size // new.micro_batch_size
        return (
            f"the next attempt takes microBatchSize {new.micro_batch_size} instead of "
            f"{old.micro_batch_size} and accumulates {times} times as often"
        )
    return "the next attempt computes activations again instead of keeping them"


def advice(job: FineTuneJob, plan: MemoryPlan, attempts: int) -> Diagnosis:
    """Why nothing is left to turn, and what a person can change."""
    training = job.spec.training
    again = "with" if plan.gradient_checkpointing else "without"
    where = (
        "use a GPU with more memory"
        if training.resources.gpus
        else ("raise training.resources.memory")
    )
    steps = [where]
    if training.gradient_checkpointing == "Never":
        steps.append("write training.gradientCheckpointing: Auto")
    if training.method == "Full":
        steps.append("write training.method: LoRA")
    steps.append(f"lower training.maxLength (now {training.max_length})")
    return Diagnosis(
        cause=f"memory ran out with {plan.micro_batch_size} row at once, {again} gradient "
        f"checkpointing",
        evidence=f"{attempts} attempts of train ran out of memory",
        tried=f"{plan.relieved} changes, one after each attempt that ran out of memory",
        next_step=f"{', or '.join(steps)}, in a job with a new name",
    )
