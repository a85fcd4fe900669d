"""Elastic gangs and the deadline of a start: tables, and what must hold on any road."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.stages import StageProgress
from oikyo.controller.conditions import find
from oikyo.controller.decide import decide
from oikyo.controller.observed import StageRun, Worker
from oikyo.controller.policies import gang
from scenes import NOW, World, done, failed, job, seen

TENSOR = {"method": "Full", "strategy": "FSDP", "processesPerNode": 2, "tensorParallelSize": 2}
LATER = NOW + timedelta(seconds=121)
NODES = "0/3 nodes are available: 3 Insufficient cpu."


def elastic(nodes: int = 4, least: int | None = 1, **training: Any) -> FineTuneJob:
    shared = {"accessMode": "ReadWriteMany", "size": "1Gi"}
    told = {} if least is None else {"minNodes": least}
    return job(training={"nodes": nodes, **told, **training}, storage=shared)


def partly(placed: int, nodes: int, attempt: int = 1, **fields: Any) -> StageRun:
    """A gang of which so many pods run and wait for the others, which no node takes."""
    name = f"tickets-train-{attempt}"
    there = [Worker(f"{name}-{n}", n, "Running", node=f"node-{n}") for n in range(placed)]
    absent = [
        Worker(f"{name}-{n}", n, "Pending", reason="Unschedulable", message=NODES)
        for n in range(placed, nodes)
    ]
    state: Literal["Running", "Pending"] = "Running" if placed else "Pending"
    return StageRun("train", attempt, state, (*there, *absent), started=NOW, nodes=nodes, **fields)


@pytest.mark.parametrize(
    ("training", "placed", "expected"),
    [
        ({}, 3, 2),  # 32 rows are no multiple of 3
        ({}, 2, 2),
        ({"batchSize": 6, **TENSOR}, 3, 3),  # a node is one group
        ({}, 1, 1),
        ({}, 0, None),
        ({"least": 2}, 1, None),
        ({"least": None}, 3, None),
        ({"batchSize": 24}, 3, 3),
        ({"microBatchSize": 8}, 3, 2),
        ({"batchSize": 12, "microBatchSize": 3, "nodes": 4}, 3, 2),
        ({"processesPerNode": 2}, 3, 2),
    ],
)
def test_the_next_attempt_has_as_many_pods_as_can_run_and_share_the_batch(
    training: dict[str, Any], placed: int, expected: int | None
) -> None:
    made = elastic(**training)
    run = partly(placed, made.spec.training.nodes)
    assert gang.fewer(made, run) == expected
    decision = decide(made, seen(done("prepare"), run), LATER)
    (plan,) = decision.children.stages
    wanted = ("train", 1) if expected is None else ("train", 2)
    assert (plan.key, plan.nodes) == (wanted, expected or made.spec.training.nodes)


def test_nobody_is_given_up_before_the_deadline() -> None:
    early = decide(elastic(), seen(done("prepare"), partly(2, 4)), LATER - timedelta(seconds=2))
    assert [plan.key for plan in early.children.stages] == [("train", 1)]


def test_a_pod_that_pulls_its_image_has_a_place_and_one_that_cannot_has_none() -> None:
    made, run = elastic(2), partly(1, 2)
    pulling = replace(run.workers[1], reason="", node="node-1")
    assert gang.fewer(made, replace(run, workers=(run.workers[0], pulling))) == 1
    broken = tuple(replace(w, reason="ImagePullBackOff", node="node") for w in run.workers)
    assert gang.fewer(made, replace(run, workers=broken)) is None


def test_fewer_nodes_are_told_with_since_when_and_why_and_by_one_event() -> None:
    made, old = elastic(2), partly(1, 2)
    new = StageRun("train", 2, "Running", (Worker("a", 0, "Running"),), started=LATER, nodes=1)
    first = decide(made, seen(done("prepare"), old, new), LATER)
    words = find(first.status.conditions, "Trained").message
    assert words == (
        "attempt 2 trains on 1 of 2 nodes since 2026-11-23T12:02:01Z: "
        f"tickets-train-1-1 (Unschedulable: {NODES})"
    )
    assert ("FewerNodes", words) in {(e.reason, e.message) for e in first.events}
    told = made.model_copy(update={"status": first.status})
    emptied = decide(told, seen(done("prepare"), replace(old, workers=()), new), LATER)
    assert find(emptied.status.conditions, "Trained").message == words  # its pods went first
    again = decide(told, seen(done("prepare"), new), LATER + timedelta(hours=1))
    assert find(again.status.conditions, "Trained").message == words
    assert "FewerNodes" not in {event.reason for event in again.events}
    assert next(s for s in again.status.stages if s.name == "train").nodes == 1


def test_the_attempt_after_a_small_one_is_tried_with_all_nodes_again() -> None:
    lost = replace(failed("train", 2, reason="NodeLost"), nodes=1)
    (plan,) = decide(elastic(), seen(done("prepare"), lost), LATER).children.stages
    assert (plan.key, plan.nodes) == (("train", 3), 4)


def test_a_deadline_fails_the_job_and_names_who_is_missing_and_why() -> None:
    made = elastic(3, least=None, startDeadlineSeconds=60)
    run = partly(1, 3)
    quota = replace(run, workers=run.workers[:2], warning="FailedCreate: exceeded quota: pods=2")
    decision = decide(made, seen(done("prepare"), quota), NOW + timedelta(seconds=61))
    assert decision.children.stages == ()
    assert find(decision.status.conditions, "Succeeded").reason == "StartDeadlineExceeded"
    cause = decision.status.diagnosis.cause
    assert cause == (
        "2 of 3 workers of train did not start within 60 seconds: tickets-train-1-1 (Unschedulable: "
        f"{NODES}); worker 2 has no pod (FailedCreate: exceeded quota: pods=2)"
    )
    assert "kubectl describe pod tickets-train-1-1" in decision.status.diagnosis.next_step


def test_while_it_waits_the_diagnosis_names_every_pod_that_cannot_start() -> None:
    run = partly(1, 3)
    decision = decide(elastic(3, least=None), seen(done("prepare"), run), NOW)
    told = decision.status.diagnosis
    assert told.cause == "workers 1, 2 of train cannot start: Unschedulable"
    assert told.evidence == f"pod tickets-train-1-1: {NODES}; pod tickets-train-1-2: {NODES}"


def test_a_whole_gang_that_says_nothing_is_told_of_with_the_ports() -> None:
    made, run = elastic(2, least=None), partly(2, 2)
    workers = tuple(replace(w, started=NOW, log=f"kubectl logs {w.name}") for w in run.workers)
    whole = replace(run, workers=workers)
    late = NOW + gang.MEETING
    decision = decide(made, seen(done("prepare"), whole), late)
    words = find(decision.status.conditions, "Trained").message
    assert "all 2 workers run, and none has told progress since 2026-11-23T12:00:00Z" in words
    assert "29500" in words
    assert "9400" in words
    assert find(decision.status.conditions, "Stalled").status == "False"
    for other, moment in (
        (whole, late - timedelta(seconds=1)),
        (replace(whole, progress=StageProgress(stage="train")), late),
        (replace(whole, workers=(workers[0], replace(workers[1], started=None))), late),
    ):
        assert gang.silent(other, moment) == ""


def test_a_gang_that_was_whole_once_is_never_late() -> None:
    """A pod that is deleted and forgotten while its Job has no verdict yet is no pod that did not start."""
    made = elastic(2, least=None, startDeadlineSeconds=60)
    one = StageRun(
        "train", 1, "Running", (Worker("tickets-train-1-0", 0, "Running"),), nodes=2, started=NOW
    )
    hour = NOW + timedelta(hours=1)
    assert gang.late(made, one, hour)
    assert not gang.late(made, replace(one, progress=StageProgress(stage="train")), hour)
    assert not gang.late(made, replace(one, told_step=10), hour)


def test_time_in_a_queue_does_not_count() -> None:
    made = elastic(2, startDeadlineSeconds=60)
    held = partly(0, 2, suspended=True)
    assert not gang.late(made, held, NOW + timedelta(days=1))


def test_a_batch_that_the_fewest_nodes_cannot_share_is_refused_with_numbers() -> None:
    decision = decide(elastic(4, 3), seen(workspace=None), NOW)
    assert decision.status.diagnosis.cause == (
        "training.minNodes is 3, and 3 processes do not divide batchSize 32"
    )
    assert "training.minNodes: 1 or 2" in decision.status.diagnosis.next_step


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from((12, 24, 32, 60)),
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=6),
)
def test_no_gang_is_smaller_than_minnodes_or_changes_the_batch(
    nodes: int, least: int, batch: int, road: list[tuple[int, bool]]
) -> None:
    made = elastic(nodes, min(least, nodes), batchSize=batch)
    if gang.refusal(made) is not None or not gang.divides(made, nodes):
        return
    world = World(made)
    world.seen = seen(done("prepare"))
    for placed, loses in road:
        world.settle()
        run = world.active()
        size = run.nodes
        assert least <= size or size == nodes
        assert gang.divides(made, size)
        there = partly(min(placed, size), size, run.attempt)
        world.replace_active(replace(there, started=world.now))
        world.pass_time(130)
        after = world.settle().children.stages[0]
        assert after.nodes <= size
        assert after.spec.attempt == run.attempt + (after.nodes < size)
        if loses and (run := world.active()):
            lost = failed("train", run.attempt, reason="NodeLost", finished=world.now)
            world.replace_active(replace(lost, nodes=run.nodes))
            assert world.settle().children.stages[0].nodes == nodes
