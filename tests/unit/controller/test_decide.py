"""The state machine of a FineTuneJob, as tables of what is seen and what must follow."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus, Progress
from oikyo.api.meta import Condition
from oikyo.api.stages import EvaluateSpec, PrepareSpec, StageProgress
from oikyo.api.tasks import main_metric
from oikyo.controller.conditions import find, timestamp
from oikyo.controller.decide import decide
from oikyo.controller.observed import Claim, Mounts, StageRun
from oikyo.controller.policies import attempts, costs
from scenes import NOW, World, done, failed, job, pending, running, seen, version


def condition(status: FineTuneJobStatus, kind: str) -> Condition:
    found = find(status.conditions, kind)
    assert found is not None
    return found


def test_a_new_job_gets_a_claim_and_the_prepare_stage_and_all_conditions() -> None:
    decision = decide(job(), seen(workspace=None), NOW)
    assert decision.children.claim.name == "tickets-workspace"
    assert [plan.key for plan in decision.children.stages] == [("prepare", 1)]
    assert {c.type for c in decision.status.conditions} >= {
        "Reconciling",
        "Stalled",
        "Suspended",
        "DataReady",
        "Trained",
        "Evaluated",
        "Released",
        "Succeeded",
    }
    assert "Ready" not in {c.type for c in decision.status.conditions}


def test_the_paths_of_the_prepare_stage_are_the_mounts_of_the_claims() -> None:
    plan = decide(job(), seen(), NOW).children.stages[0]
    assert isinstance(plan.spec, PrepareSpec)
    assert plan.spec.model.path == "/mnt/claims/models/minilm"
    assert plan.spec.sources[0].path == "/mnt/claims/datasets/tickets.jsonl"


@pytest.mark.parametrize(
    ("runs", "stage"),
    [
        ((), ("prepare", 1)),
        ((running("prepare"),), ("prepare", 1)),
        ((done("prepare"),), ("train", 1)),
        ((done("prepare"), running("train", 3)), ("train", 3)),
        ((done("prepare"), done("train")), ("evaluate", 1)),
    ],
    ids=["nothing yet", "data is being read", "data is ready", "third attempt runs", "trained"],
)
def test_the_first_stage_without_a_result_must_run(
    runs: tuple[StageRun, ...], stage: tuple[str, int]
) -> None:
    assert [p.key for p in decide(job(), seen(*runs), NOW).children.stages] == [stage]


def test_a_stage_whose_last_words_are_lost_says_them_again_in_the_next_attempt() -> None:
    decision = decide(job(), seen(done("prepare", words=False)), NOW)
    assert [plan.key for plan in decision.children.stages] == [("prepare", 2)]


def test_refused_input_fails_the_job_at_once_with_file_line_and_next_step() -> None:
    decision = decide(job(), seen(failed("prepare", kind="Refused", reason="InvalidData")), NOW)
    assert decision.status.phase == "Failed"
    assert decision.children.stages == ()
    assert condition(decision.status, "Succeeded").reason == "InputRefused"
    assert decision.status.diagnosis.cause == "line 7 of tickets.jsonl is not JSON"
    assert decision.events[-1].message.endswith("Next: mend it")


def test_a_crash_is_tried_again_at_once_then_ever_later_until_the_budget_is_spent() -> None:
    made = job(backoffLimit=2)
    first = decide(made, seen(done("prepare"), failed("train", 1)), NOW)
    assert [p.key for p in first.children.stages] == [("train", 2)]
    two = (done("prepare"), failed("train", 1), failed("train", 2))
    second = decide(made, seen(*two), NOW)
    assert second.children.stages == ()
    assert second.wake_after == timedelta(seconds=5)
    assert [
        p.key for p in decide(made, seen(*two), NOW + timedelta(seconds=5)).children.stages
    ] == [("train", 3)]
    third = decide(made, seen(*two, failed("train", 3)), NOW + timedelta(hours=1))
    assert condition(third.status, "Succeeded").reason == "BackoffLimitExceeded"
    assert third.status.failures == 3


def test_a_lost_node_costs_no_budget() -> None:
    runs = [failed("train", n, reason="NodeLost") for n in range(1, 9)]
    decision = decide(job(backoffLimit=0), seen(done("prepare"), *runs), NOW)
    assert [p.key for p in decision.children.stages] == [("train", 9)]
    assert decision.status.failures == 0


def test_a_refusal_of_any_worker_ends_the_job() -> None:
    refused = failed("train", kind="Refused", message="the data has one class").workers[0]
    run = replace(failed("train"), workers=(failed("train").workers[0], replace(refused, rank=1)))
    decision = decide(job(), seen(done("prepare"), run), NOW)
    assert condition(decision.status, "Succeeded").reason == "InputRefused"
    assert decision.status.diagnosis.cause == "the data has one class"


def test_out_of_memory_is_named_with_what_to_change() -> None:
    runs = [failed("train", n, reason="OOMKilled", code=137) for n in (1, 2)]
    decision = decide(job(backoffLimit=1), seen(done("prepare"), *runs), NOW)
    assert "OOMKilled" in decision.status.diagnosis.cause
    assert "training.resources.memory" in decision.status.diagnosis.next_step


@pytest.mark.parametrize(
    "reason", ["ImagePullBackOff", "Unschedulable", "Undetermined", "CreateContainerConfigError"]
)
def test_a_pod_that_cannot_start_stalls_the_job_and_spends_no_budget(reason: str) -> None:
    decision = decide(job(), seen(pending("prepare", reason, "the platform's words")), NOW)
    assert condition(decision.status, "Stalled").status == "True"
    assert "the platform's words" in decision.status.diagnosis.evidence
    assert decision.status.diagnosis.next_step
    assert [p.key for p in decision.children.stages] == [("prepare", 1)]


def test_suspending_stops_every_stage_and_going_on_takes_a_new_attempt_number() -> None:
    world = World(job())
    world.settle()
    world.replace_active(running("prepare"))
    world.settle()
    world.job = world.job.model_copy(
        update={"spec": world.job.spec.model_copy(update={"suspend": True})}
    )
    told = world.settle().status
    assert told.phase == "Suspended"
    assert [(stage.state, bool(stage.finished)) for stage in told.stages] == [("Stopped", True)]
    assert world.active() is None
    world.job = world.job.model_copy(
        update={"spec": world.job.spec.model_copy(update={"suspend": False})}
    )
    world.settle()
    assert (world.active().stage, world.active().attempt) == ("prepare", 2)


def test_an_accepted_version_is_served_when_a_deployment_is_wanted() -> None:
    made = job(deployment={"replicas": {"min": 1, "max": 3}})
    runs = (done("prepare"), done("train"), done("evaluate"))
    record = decide(made, seen(*runs), NOW).children.version
    assert (record.name, record.spec.verdict) == ("tickets-v1", "Accepted")
    after = decide(made, seen(*runs, version=version()), NOW)
    assert after.children.endpoint.spec.replicas.max == 3


def test_a_rejected_version_gets_no_traffic_and_the_job_says_so() -> None:
    made = job(deployment={})
    runs = (done("prepare"), done("train"), done("evaluate", accepted=False))
    assert decide(made, seen(*runs), NOW).children.version.spec.verdict == "Rejected"
    after = decide(made, seen(*runs, version=version(accepted=False)), NOW)
    assert after.children.endpoint is None
    assert condition(after.status, "Succeeded").status == "False"
    assert condition(after.status, "Succeeded").reason == "GateFailed"
    assert "f1_macro 0.9" in after.status.diagnosis.cause


@pytest.mark.parametrize(
    ("spec", "fields", "words"),
    [
        (
            {"data": {"sources": [{"uri": "file:///data/x.csv"}]}},
            {},
            "works only with `oikyo run`",
        ),
        (
            {"training": {"nodes": 2}, "storage": {"claimName": "disk"}},
            {"workspace": Claim("disk", "Bound", ("ReadWriteOnce",))},
            "more than one node needs ReadWriteMany",
        ),
    ],
    ids=["a file of the laptop on a cluster", "two nodes on a volume of one"],
)
def test_a_spec_that_cannot_work_here_is_refused_before_any_pod(
    spec: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    decision = decide(job(**spec), seen(**fields), NOW)
    assert words in decision.status.diagnosis.cause
    assert decision.children.stages == ()
    assert decision.status.phase == "Failed"


def test_a_file_of_the_laptop_is_read_against_the_folder_of_the_manifest() -> None:
    made = job(data={"sources": [{"uri": "file://x.csv"}]})
    decision = decide(made, seen(mounts=Mounts(files="/home/ann"), desktop=True), NOW)
    told = decision.children.stages[0].spec
    assert isinstance(told, PrepareSpec)
    assert told.sources[0].path == "/home/ann/x.csv"


def test_a_claim_that_does_not_exist_is_waited_for_and_named() -> None:
    decision = decide(job(storage={"claimName": "disk"}), seen(workspace=None), NOW)
    assert "PersistentVolumeClaim disk does not exist" in decision.status.diagnosis.cause
    assert decision.children.stages == ()
    assert condition(decision.status, "Succeeded").status == "Unknown"
    assert decision.wake_after is not None


def test_a_job_past_its_deadline_is_failed_and_its_pods_stopped() -> None:
    made = job(activeDeadlineSeconds=60)
    late = decide(made, seen(running("prepare")), NOW + timedelta(seconds=61))
    assert condition(late.status, "Succeeded").reason == "DeadlineExceeded"
    assert late.children.stages == ()


def suspended(job: FineTuneJob, *, suspend: bool = True) -> FineTuneJob:
    return job.model_copy(update={"spec": job.spec.model_copy(update={"suspend": suspend})})


def test_a_suspended_job_has_no_deadline_and_one_that_is_resumed_all_of_it_again() -> None:
    world = World(job(activeDeadlineSeconds=60))
    world.settle()
    world.replace_active(done("prepare"))
    world.pass_time(50)
    assert world.settle().status.start_time == timestamp(NOW)
    world.job = suspended(world.job)
    world.pass_time(3600)
    resting = world.settle()
    assert (resting.status.phase, resting.status.start_time) == ("Suspended", None)
    assert resting.wake_after is None
    world.job = suspended(world.job, suspend=False)
    world.pass_time(3600)
    resumed = world.settle()
    assert (resumed.status.phase, resumed.status.start_time) == ("Training", timestamp(world.now))
    world.pass_time(59)
    assert world.settle().status.phase == "Training"
    world.pass_time(1)
    assert condition(world.settle().status, "Succeeded").reason == "DeadlineExceeded"


def test_a_job_that_was_created_suspended_starts_when_it_is_resumed() -> None:
    world = World(job(activeDeadlineSeconds=60, suspend=True))
    world.pass_time(3600)
    assert world.settle().status.phase == "Suspended"
    world.job = suspended(world.job, suspend=False)
    assert world.settle().status.start_time == timestamp(world.now)
    assert world.job.status.phase == "Preparing"


def test_a_finished_job_is_deleted_when_its_time_to_live_is_over() -> None:
    world = World(job(ttlSecondsAfterFinished=100))
    world.seen = seen(failed("prepare", kind="Refused"))
    world.settle()
    assert not decide(world.job, world.seen, NOW + timedelta(seconds=99)).delete
    assert decide(world.job, world.seen, NOW + timedelta(seconds=100)).delete


def test_the_same_status_comes_back_after_it_was_wiped() -> None:
    world = World(job(deployment={}))
    world.seen = seen(done("prepare"), done("train"), done("evaluate"))
    world.settle()
    assert world.job.status.phase == "Succeeded"
    again = World(job(deployment={}))
    again.seen = world.seen
    again.settle()
    assert again.job.status == world.job.status


def test_what_a_job_ends_when_one_worker_fails_hides_no_failure() -> None:
    """The others say that they were stopped, which is true, and no excuse."""
    crashed = failed("train", code=137)
    stopped = failed("train", kind="Retry", reason="Stopped", message="stopped at step 9")
    away = replace(stopped.workers[0], reason="Terminated")
    own = replace(crashed.workers[0], rank=1)
    told = replace(stopped, workers=(away, own))
    assert not costs.disrupted(told)
    assert attempts.root_cause(told) == "worker 1 of train ended with exit code 137 (Error)"
    both = replace(stopped, workers=(away, replace(away, rank=1, words=None)))
    assert costs.disrupted(both)
    assert attempts.root_cause(both) == "stopped at step 9"


def test_a_job_is_not_given_up_before_all_workers_have_told_how_they_ended() -> None:
    """The one that writes the checkpoints may stand on a node that nobody hears for a while."""
    first, second = failed("train", checkpoint=40), failed("train", 2, checkpoint=40)
    cut = replace(second.workers[0], rank=1, state="Running", checkpoint_step=None)
    silent = seen(done("prepare"), first, replace(second, workers=(*second.workers, cut)))
    made = job(backoffLimit=0)
    assert isinstance(attempts.next_attempt(made, silent, "train", NOW), attempts.Wait)
    late = attempts.next_attempt(made, silent, "train", NOW + attempts.DRAIN)
    assert isinstance(late, attempts.GiveUp)
    wrote = replace(cut, state="Failed", checkpoint_step=50)
    heard = seen(done("prepare"), first, replace(second, workers=(*second.workers, wrote)))
    assert attempts.next_attempt(made, heard, "train", NOW) == attempts.Start(3)


def test_a_failed_attempt_is_told_with_what_was_lost_and_stays_told() -> None:
    going = job().model_copy(
        update={
            "status": job().status.model_copy(
                update={"progress": Progress(stage="train", step=27, total_steps=90)}
            )
        }
    )
    killed = failed("train", code=137, reason="Error", checkpoint=20)
    status = decide(going, seen(done("prepare"), killed), NOW).status
    told = next(stage.message for stage in status.stages if stage.name == "train")
    assert told == (
        "attempt 1: worker 0 of train ended with exit code 137 (Error); "
        "the checkpoint of step 20 is kept, 7 reported steps are lost"
    )
    later = going.model_copy(
        update={"status": status.model_copy(update={"progress": Progress(stage="train", step=80)})}
    )
    again = decide(later, seen(done("prepare"), killed, running("train", 2)), NOW).status
    assert next(stage.message for stage in again.stages if stage.name == "train") == told


def test_a_worker_that_ends_later_corrects_what_was_told_to_be_lost() -> None:
    """Rank 0 is still writing its last checkpoint when the death of another is told."""
    progress = Progress(stage="train", step=27, total_steps=90)
    killed = failed("train", code=137, checkpoint=20)
    ends = replace(killed.workers[0], rank=1, state="Running", checkpoint_step=None)
    early = seen(done("prepare"), replace(killed, workers=(*killed.workers, ends)))
    status = decide(job(job().status.model_copy(update={"progress": progress})), early, NOW).status
    assert status.stages[-1].message.endswith("step 20 is kept, 7 reported steps are lost")
    wrote = replace(ends, state="Failed", reason="Terminated", checkpoint_step=27)
    late = seen(done("prepare"), replace(killed, workers=(*killed.workers, wrote)))
    told = decide(job(status), late, NOW).status.stages[-1].message
    assert told.endswith("step 27 is kept, 0 reported steps are lost")


def test_a_loss_is_told_in_seconds_too_where_the_pace_is_known() -> None:
    progress = Progress(stage="train", step=27, total_steps=90, estimated_remaining_seconds=126)
    going = job(job().status.model_copy(update={"progress": progress}))
    killed = failed("train", code=137, reason="Error", checkpoint=20)
    status = decide(going, seen(done("prepare"), killed), NOW).status
    told = next(stage.message for stage in status.stages if stage.name == "train")
    assert told.endswith(
        "the checkpoint of step 20 is kept, 7 reported steps, about 14 s of work, are lost"
    )


def test_the_score_of_learned_preferences_is_their_margin() -> None:
    assert main_metric("TextGeneration", "DPO") == "preference_margin"
    assert main_metric("TextGeneration", "Supervised") == "loss"
    assert main_metric("TextClassification", "Supervised") == "f1_macro"


def noticed(reason: str, sentence: str) -> StageRun:
    """A training that is running and says something of itself."""
    told = StageProgress(stage="train", notice_reason=reason, notice=sentence)
    return replace(running("train"), progress=told)


def test_what_a_training_notices_is_in_the_condition_and_told_once() -> None:
    words = "over-fitting since step 40: the validation loss rose from 0.5 to 0.6"
    first = decide(job(), seen(done("prepare"), noticed("OverFitting", words)), NOW)
    trained = condition(first.status, "Trained")
    assert (trained.status, trained.reason, trained.message) == ("Unknown", "OverFitting", words)
    events = [event for event in first.events if event.reason == "OverFitting"]
    assert events[0].type == "Warning"
    assert events[0].message == f"{words}; see kubectl logs job/tickets-train-1"

    known = job(status=first.status)
    worse = decide(known, seen(done("prepare"), noticed("OverFitting", words + " by now")), NOW)
    assert condition(worse.status, "Trained").message.endswith("by now")
    assert not [event for event in worse.events if event.reason == "OverFitting"]
    unknown = decide(known, seen(done("prepare"), running("train")), NOW)
    assert condition(unknown.status, "Trained").message == words


def test_every_rollback_is_an_event() -> None:
    first = decide(job(), seen(done("prepare"), noticed("RolledBack", "1 of at most 3")), NOW)
    again = seen(done("prepare"), noticed("RolledBack", "2 of at most 3"))
    second = decide(job(status=first.status), again, NOW)
    assert [e.message for e in second.events if e.reason == "RolledBack"] == [
        "2 of at most 3; see kubectl logs job/tickets-train-1"
    ]


@pytest.mark.parametrize("words", [True, False], ids=["the second says all", "its words are lost"])
def test_a_number_that_another_job_recorded_meanwhile_is_not_waited_for(words: bool) -> None:
    other = version(1)
    lineage = other.spec.lineage.model_copy(update={"job_uid": "another"})
    other = other.model_copy(update={"spec": other.spec.model_copy(update={"lineage": lineage})})
    runs = [done("prepare"), done("train"), done("evaluate")]
    decision = decide(job(), seen(*runs, versions=(other,)), NOW)
    assert decision.children.version is None
    (plan,) = decision.children.stages
    assert isinstance(plan.spec, EvaluateSpec)
    assert (plan.key, plan.spec.min_version, plan.spec.instead_of) == (("evaluate", 2), 2, 1)
    assert (
        "version 1 of tickets is another job's" in condition(decision.status, "Evaluated").message
    )
    known = job(decision.status)
    again = replace(done("evaluate", 2, words=words), attempt=2)
    if again.words is not None and again.words.result is not None:
        made = again.words.result.model_copy(update={"version": 2, "path": "versions/tickets/2"})
        again = replace(again, words=again.words.model_copy(update={"result": made}))
    after = decide(known, seen(*runs, again, versions=(other,)), NOW)
    if words:
        assert after.children.version is not None
        assert after.children.version.name == "tickets-v2"
    else:
        (third,) = after.children.stages
        assert (third.key, third.spec.input_digest()) == (
            ("evaluate", 3),
            plan.spec.input_digest(),
        )
