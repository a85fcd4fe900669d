"""What must hold for the decisions on any road: random worlds, walked step by step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.stages import Stage
from oikyo.controller.decide import decide, finished
from scenes import World, done, failed, job, pending, running

HAPPENINGS = (
    "runs",
    "succeeds",
    "is rejected",
    "loses its words",
    "is refused",
    "crashes",
    "loses its node",
    "runs out of memory",
    "is blocked",
    "vanishes",
    "suspend",
    "resume",
    "wait a minute",
    "wipe status",
)
TERMINAL = {"Succeeded", "Failed"}


def happen(world: World, what: str) -> None:
    """Let the outside world do one thing."""
    run = world.active()
    if what in ("suspend", "resume"):
        spec = world.job.spec.model_copy(update={"suspend": what == "suspend"})
        world.job = world.job.model_copy(update={"spec": spec})
    elif what == "wait a minute":
        world.pass_time(60)
    elif what == "wipe status":
        world.job = world.job.model_copy(update={"status": FineTuneJobStatus()})
    elif run is not None:
        stage, attempt = cast("Stage", run.stage), run.attempt
        outcome = {
            "runs": lambda: running(stage, attempt),
            "succeeds": lambda: done(stage, attempt),
            "is rejected": lambda: done(stage, attempt, accepted=False),
            "loses its words": lambda: done(stage, attempt, words=False),
            "is refused": lambda: failed(stage, attempt, kind="Refused", finished=world.now),
            "crashes": lambda: failed(stage, attempt, finished=world.now),
            "loses its node": lambda: failed(stage, attempt, reason="NodeLost", finished=world.now),
            "runs out of memory": lambda: failed(
                stage, attempt, reason="OOMKilled", code=137, finished=world.now
            ),
            "is blocked": lambda: pending(stage, "Unschedulable"),
        }
        if what == "vanishes":
            others = tuple(r for r in world.seen.runs if r is not run)
            world.seen = replace(world.seen, runs=others)
        elif what != "is blocked" or attempt == 1:
            world.replace_active(outcome[what]())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(HAPPENINGS), max_size=25))
def test_every_road_keeps_the_promises(road: list[str]) -> None:
    world = World(job(deployment={}, backoffLimit=2))
    highest: dict[str, int] = {}
    for what in road:
        before = world.job.status
        wiped = what == "wipe status"
        happen(world, what)
        decision = world.settle()
        if before.phase in TERMINAL and not wiped:
            assert decision.status.phase == before.phase
        for plan in decision.children.stages:
            stage, attempt = plan.key
            if not wiped and "wipe status" not in road:
                assert attempt >= highest.get(stage, 0)
            highest[stage] = max(attempt, highest.get(stage, 0))
        assert decide(world.job, world.seen, world.now) == decide(world.job, world.seen, world.now)
        assert len(decision.children.stages) <= 1
        if not finished(decision.status) and not world.job.spec.suspend:
            assert decision.wake_after is not None, "a wait without a deadline"
        if decision.status.diagnosis is None:
            assert decision.status.phase != "Failed"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(HAPPENINGS), max_size=12))
def test_no_job_that_is_active_outlives_its_deadline(road: list[str]) -> None:
    world = World(job(deployment={}, backoffLimit=2))
    for what in road:
        happen(world, what)
        world.settle()
    happen(world, "resume")
    world.settle()
    world.pass_time(timedelta(days=7).total_seconds())
    world.settle()
    assert world.job.status.phase in TERMINAL
    assert world.active() is None


def test_the_straight_road_tells_its_story_in_few_writes() -> None:
    world = World(job(deployment={}))
    while world.settle().status.phase not in TERMINAL:
        run = world.active()
        assert run is not None
        stage = cast("Stage", run.stage)
        world.replace_active(running(stage, run.attempt))
        world.settle()
        world.replace_active(done(stage, run.attempt))
    assert world.phases == [
        "Preparing",
        "Training",
        "Evaluating",
        "Releasing",
        "Succeeded",
    ]
    assert world.events == ["DataReady", "Trained", "Evaluated", "Released"]
    assert world.writes <= 12
