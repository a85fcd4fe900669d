"""A job that waits in a queue is told of, never pushed, and never blamed for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from oikyo.api.finetunejob import FineTuneJob
from oikyo.controller.conditions import find
from oikyo.controller.decide import decide
from oikyo.controller.features import FRESH_SECONDS, Features
from oikyo.controller.observed import StageRun, Worker
from scenes import NOW, job, seen


def queued() -> FineTuneJob:
    return job(scheduling={"queueName": "team-a"})


def held(attempt: int = 1) -> StageRun:
    return StageRun("prepare", attempt, "Pending", suspended=True)


def test_the_status_says_that_it_waits_in_which_queue_and_an_event_tells_it_once() -> None:
    made = queued()
    decision = decide(made, seen(held()), NOW)
    data = find(decision.status.conditions, "DataReady")
    assert (data.reason, data.message) == (
        "Queued",
        "waits in queue team-a; kubectl describe workloads.kueue.x-k8s.io -n default "
        "job-tickets-prepare-1 says for what",
    )
    assert find(decision.status.conditions, "Stalled").status == "False"
    assert [plan.key for plan in decision.children.stages] == [("prepare", 1)]
    assert [event.reason for event in decision.events] == ["Queued"]
    told = made.model_copy(update={"status": decision.status})
    assert decide(told, seen(held()), NOW + timedelta(hours=9)).events == ()


@pytest.mark.parametrize(
    "begun",
    [
        replace(held(2), workers=(Worker("a", 0, "Failed", reason="Terminated"),)),
        replace(held(2), told_step=31),
    ],
)
def test_what_a_queue_takes_back_is_told_apart_from_what_never_began(begun: StageRun) -> None:
    decision = decide(queued(), seen(begun), NOW)
    data = find(decision.status.conditions, "DataReady")
    assert data.message.startswith(
        "attempt 2 was taken back by queue team-a and waits in it; kubectl"
    )
    assert [plan.key for plan in decision.children.stages] == [("prepare", 2)]


def test_a_warning_about_a_job_that_is_held_back_is_no_trouble() -> None:
    warned = replace(held(), warning="FailedCreate: exceeded quota")
    decision = decide(queued(), seen(warned), NOW)
    assert find(decision.status.conditions, "Stalled").status == "False"


def test_a_queue_without_kueue_is_told_before_a_job_waits_for_ever() -> None:
    decision = decide(queued(), seen(queues=False), NOW)
    assert decision.children.stages == ()
    assert "the cluster has no Kueue" in decision.status.diagnosis.cause
    assert find(decision.status.conditions, "Stalled").status == "True"


def test_a_running_attempt_is_not_stopped_because_kueue_is_gone_for_a_while() -> None:
    run = StageRun("prepare", 1, "Running")
    decision = decide(queued(), seen(run, queues=False), NOW)
    assert [plan.key for plan in decision.children.stages] == [("prepare", 1)]


async def test_discovery_is_asked_once_a_minute_until_the_group_is_there() -> None:
    class Server:
        asked = 0

        async def groups(self) -> frozenset[str]:
            self.asked += 1
            return frozenset({"batch"} if self.asked < 2 else {"batch", "kueue.x-k8s.io"})

    server, now = Server(), [0.0]
    features = Features(server, lambda: now[0])  # type: ignore[arg-type]
    for moment, known, asked in ((0, False, 1), (59, False, 1), (FRESH_SECONDS, True, 2)):
        now[0] = moment
        assert (await features.has("kueue.x-k8s.io"), server.asked) == (known, asked)
