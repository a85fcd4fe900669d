"""Memory that ran out turns one knob at a time, is told, and ends when nothing is left to turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.stages import LastWords, MemoryPlan, PrepareResult, TrainSpec
from oikyo.controller.decide import decide
from oikyo.controller.observed import Mounts, StageRun
from oikyo.controller.resolve import prepare_spec
from scenes import DIGEST, NOW, World, done, failed, job, seen


def planned(rows: int = 8, *, again: bool = False) -> StageRun:
    """A prepare stage that chose so many rows."""
    memory = MemoryPlan(micro_batch_size=rows, reason="fits", gradient_checkpointing=again)
    result = PrepareResult(
        dataset_digest=DIGEST, model_digest=DIGEST, train=80, validation=10, test=10, memory=memory
    )
    return replace(done("prepare"), words=LastWords(stage="prepare", result=result))


def killed(attempt: int, **more: Any) -> StageRun:
    return failed("train", attempt, reason="OOMKilled", code=137, **more)


def refused(attempt: int) -> StageRun:
    """An attempt that asked for memory and got none."""
    return failed("train", attempt, kind="Retry", reason="OutOfMemory", message="memory ran out")


def chosen(*runs: StageRun, status: FineTuneJobStatus | None = None) -> MemoryPlan:
    """The plan of the attempt that must exist next."""
    (plan,) = decide(job(status, backoffLimit=0), seen(*runs), NOW).children.stages
    assert isinstance(plan.spec, TrainSpec)
    assert plan.spec.memory is not None
    return plan.spec.memory


@pytest.mark.parametrize("starve", [killed, refused])
def test_each_time_one_knob_is_turned_and_no_budget_is_spent(starve: Any) -> None:
    runs = [planned(4)]
    steps = []
    for attempt in range(1, 5):
        memory = chosen(*runs)
        steps.append((memory.micro_batch_size, memory.gradient_checkpointing))
        runs.append(starve(attempt))
    assert steps == [(4, False), (2, False), (1, False), (1, True)]


def test_when_nothing_is_left_the_job_ends_with_what_would_help() -> None:
    runs = [planned(1, again=True), killed(1, checkpoint=40)]
    training = {"method": "Full", "resources": {"memory": "2Gi"}}
    status = decide(job(training=training), seen(*runs), NOW).status
    assert status.phase == "Failed"
    assert status.diagnosis is not None
    assert (
        status.diagnosis.cause == "memory ran out with 1 row at once, with gradient checkpointing"
    )
    assert "raise training.resources.memory, or write training.method: LoRA" in (
        status.diagnosis.next_step
    )


def test_never_is_respected() -> None:
    training = {"gradientCheckpointing": "Never"}
    decision = decide(job(training=training), seen(planned(1), killed(1)), NOW)
    assert decision.status.diagnosis is not None
    assert "gradientCheckpointing: Auto" in decision.status.diagnosis.next_step


def test_the_event_says_what_changes() -> None:
    decision = decide(job(), seen(planned(8), killed(1, checkpoint=20)), NOW)
    (event,) = [event for event in decision.events if event.reason == "AttemptFailed"]
    assert "OOMKilled" in event.message
    assert (
        "the next attempt takes microBatchSize 4 instead of 8 and accumulates 2 times as often"
        in event.message
    )
    assert "the checkpoint of step 20 is kept" in event.message
    assert decision.status.failures == 0


def test_the_knob_outlives_the_operator_and_the_status() -> None:
    world = World(job(backoffLimit=0))
    world.seen = seen(planned(8), killed(1), killed(2))
    world.settle()
    before = decide(world.job, world.seen, NOW).children.stages
    world.job = world.job.model_copy(update={"status": FineTuneJobStatus()})
    after = decide(world.job, world.seen, NOW).children.stages
    assert before == after
    assert isinstance(after[0].spec, TrainSpec)
    assert after[0].spec.memory is not None
    assert after[0].spec.memory.micro_batch_size == 2


def wordless(run: StageRun) -> StageRun:
    """The same attempt, of which nothing but its Job is left."""
    return replace(run, workers=(), words=None)


@pytest.mark.parametrize("left", [(), (wordless(killed(1)), wordless(killed(2)))])
def test_the_knob_outlives_the_pods_and_the_jobs(left: tuple[StageRun, ...]) -> None:
    world = World(job(backoffLimit=0))
    world.seen = seen(planned(8), killed(1), killed(2))
    before = world.settle().children.stages
    assert world.job.status.stages[-1].starved == (1, 2)
    third = world.active()
    assert third is not None
    world.seen = seen(planned(8), *left, third)
    after = world.settle()
    assert before == after.children.stages
    assert after.status.failures == 0
    world.seen = seen(planned(8), *left, killed(3))
    assert chosen(*world.seen.runs, status=world.job.status).micro_batch_size == 1


def test_a_wordless_attempt_that_was_told_to_have_starved_costs_nothing() -> None:
    world = World(job(backoffLimit=0))
    world.seen = seen(planned(8), killed(1))
    world.job = world.job.model_copy(update={"status": decide(world.job, world.seen, NOW).status})
    world.seen = seen(planned(8), wordless(killed(1)))
    assert chosen(*world.seen.runs, status=world.job.status).micro_batch_size == 4


def test_another_plan_is_the_same_work() -> None:
    first, second = (
        decide(job(), seen(*runs), NOW).children.stages[0].spec
        for runs in ((planned(8),), (planned(8), killed(1)))
    )
    assert first.input_digest() == second.input_digest()
    assert first != second


def test_the_memory_of_the_server_is_checked_where_it_serves_on_a_cpu() -> None:
    def asked(**deployment: Any) -> str:
        return prepare_spec(job(deployment=deployment), seen().mounts, 1).serving_memory

    assert asked(resources={"memory": "2Gi"}) == "2Gi"
    assert asked(resources={"memory": "2Gi", "gpus": 1}) == ""
    assert prepare_spec(job(), seen().mounts, 1).serving_memory == ""


def test_a_latency_is_told_to_the_stages_with_where_the_server_will_run() -> None:
    wanted = job(deployment={"latency": {"answerMilliseconds": 20}, "resources": {"gpus": 1}})
    for mounts, here in ((Mounts(), False), (Mounts(files="/data"), True)):
        told = prepare_spec(wanted, mounts, 1).latency
        assert told is not None
        assert (told.budget.limits, told.gpus, told.here) == ({"answer_milliseconds": 20}, 1, here)
    assert prepare_spec(job(), Mounts(), 1).latency is None
