"""What a running stage lives with is told to a person, and fails nothing."""

from __future__ import annotations

from dataclasses import replace

from oikyo.api.stages import Failure, StageProgress
from oikyo.controller.conditions import find
from oikyo.controller.decide import decide
from oikyo.controller.observed import StageRun
from oikyo.controller.resolve import claim_name
from scenes import NOW, done, failed, job, running, seen

FULL = Failure(
    kind="Retry",
    reason="WorkspaceFull",
    message="the workspace is full: checkpoint-30 needs 420 MiB and 12 MiB are free",
    evidence="/workspace/runs/x/train/checkpoints",
    next_step="Free at least 408 MiB in the workspace",
)


def training(trouble: Failure | None) -> StageRun:
    progress = StageProgress(stage="train", step=31, total_steps=90, trouble=trouble)
    return replace(running("train"), progress=progress)


def test_a_full_volume_is_explained_while_the_training_goes_on() -> None:
    decision = decide(job(), seen(done("prepare"), training(FULL)), NOW)
    status = decision.status
    assert [plan.key for plan in decision.children.stages] == [("train", 1)]
    assert status.phase == "Training"
    trained, stalled = (find(status.conditions, kind) for kind in ("Trained", "Stalled"))
    assert trained is not None
    assert (trained.status, trained.reason) == ("Unknown", "WorkspaceFull")
    assert stalled is not None
    assert stalled.status == "False"
    assert status.diagnosis is not None
    assert status.diagnosis.cause == FULL.message
    assert status.diagnosis.evidence == (
        f"claim {claim_name(job())}, pod pod-0: /workspace/runs/x/train/checkpoints"
    )
    assert status.diagnosis.next_step == FULL.next_step


def test_it_is_told_once_and_once_more_when_it_is_over() -> None:
    first = decide(job(), seen(done("prepare"), training(FULL)), NOW)
    told = [event for event in first.events if event.reason == "WorkspaceFull"]
    assert [(event.type, event.message.partition(" Next: ")[2]) for event in told] == [
        ("Warning", "Free at least 408 MiB in the workspace")
    ]
    again = decide(job(first.status), seen(done("prepare"), training(FULL)), NOW)
    assert not again.events
    over = decide(job(again.status), seen(done("prepare"), training(None)), NOW)
    assert [(event.type, event.reason) for event in over.events] == [("Normal", "TroubleOver")]
    assert over.status.diagnosis is None


def test_it_is_over_also_where_the_training_has_something_else_to_say() -> None:
    first = decide(job(), seen(done("prepare"), training(FULL)), NOW)
    flat = training(None)
    assert flat.progress is not None
    said = flat.progress.model_copy(update={"notice_reason": "Plateau", "notice": "no gain"})
    over = decide(job(first.status), seen(done("prepare"), replace(flat, progress=said)), NOW)
    assert "TroubleOver" in [event.reason for event in over.events]


def test_a_training_that_ends_meanwhile_is_no_trouble_that_is_over() -> None:
    first = decide(job(), seen(done("prepare"), training(FULL)), NOW)
    ended = decide(job(first.status), seen(done("prepare"), done("train")), NOW)
    assert "TroubleOver" not in [event.reason for event in ended.events]


def test_an_unknown_reason_of_a_pod_is_no_reason_of_a_condition() -> None:
    odd = FULL.model_copy(update={"reason": "not a reason"})
    decision = decide(job(), seen(done("prepare"), training(odd)), NOW)
    trained = find(decision.status.conditions, "Trained")
    assert trained is not None
    assert trained.reason == "Running"


def test_a_job_that_failed_for_want_of_room_says_what_to_do_about_it() -> None:
    words = {"kind": "Retry", "reason": "WorkspaceFull", "message": "the workspace is full"}
    decision = decide(job(backoffLimit=0), seen(failed("prepare", **words)), NOW)  # type: ignore[arg-type]
    assert decision.status.diagnosis is not None
    assert decision.status.diagnosis.next_step == "mend it"
