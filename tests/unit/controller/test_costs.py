"""What attempts cost, also when their pods, and the words that excused them, are gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import Metric
from oikyo.api.stages import StageProgress
from oikyo.controller.decide import decide
from oikyo.controller.manifests.stage import GRACE_SECONDS
from oikyo.controller.observed import Decision, Observed, StageRun, Worker
from oikyo.controller.policies import attempts, costs
from scenes import NOW, done, failed, job, running, seen


def told(attempt: int, step: int) -> StageRun:
    """An attempt that runs and tells of its checkpoint."""
    metrics = (Metric(name="checkpoint_step", value=str(step)),)
    progress = StageProgress(stage="train", attempt=attempt, step=step + 1, metrics=metrics)
    return replace(running("train", attempt), progress=progress)


def wordless(attempt: int) -> StageRun:
    """An attempt that failed, and of which nothing but its Job is left."""
    return replace(failed("train", attempt), workers=(), words=None)


def after(job: FineTuneJob, *runs: StageRun) -> FineTuneJob:
    """The job with the status that a visit writes which sees these attempts of the training."""
    status = decide(job, seen(done("prepare"), *runs), NOW).status
    return job.model_copy(update={"status": status})


def failures(job: FineTuneJob, *runs: StageRun) -> int:
    return costs.tally(job, costs.recall(job, Observed(runs), NOW), "train").failures


def test_attempts_that_got_further_cost_no_budget_and_those_that_did_not_do() -> None:
    steps = (10, 20, 30, 30, None)
    runs = [failed("train", n, checkpoint=step) for n, step in enumerate(steps, 1)]
    assert [failures(job(), *runs[:n]) for n in range(1, 6)] == [0, 0, 0, 1, 2]
    going = decide(job(backoffLimit=0), seen(done("prepare"), *runs[:3]), NOW)
    assert going.children.stages[0].key == ("train", 4)
    ended = decide(job(backoffLimit=0), seen(done("prepare"), *runs[:4]), NOW)
    assert ended.status.phase == "Failed"


def test_a_checkpoint_that_was_told_counts_where_no_last_words_are_left() -> None:
    told_of = after(job(backoffLimit=0), told(1, 20))
    assert told_of.status.stages[-1].checkpoint_step == 20
    decision = decide(told_of, seen(done("prepare"), wordless(1)), NOW)
    assert decision.children.stages[0].key == ("train", 2)
    assert "the checkpoint of step 20 is kept" in decision.status.stages[-1].message
    # The next one tells the same step again: it came no further, and that it failed costs.
    again = after(after(told_of, wordless(1), running("train", 2)), wordless(1), told(2, 20))
    assert again.status.stages[-1].earlier_step == 20
    ended = decide(again, seen(done("prepare"), wordless(1), wordless(2)), NOW)
    assert (ended.status.phase, ended.status.failures) == ("Failed", 1)


def test_what_attempts_cost_stays_as_it_was_judged_when_their_pods_have_gone() -> None:
    """Three nodes were taken away and collected, one attempt failed; then the operator starts anew."""
    taken = [failed("train", n, reason="Evicted") for n in (1, 2, 3)]
    runs = [*taken, failed("train", 4)]
    seen_by_then = after(job(backoffLimit=1), *runs, running("train", 5))
    assert seen_by_then.status.stages[-1].earlier_failures == 1
    left = [wordless(n) for n in (1, 2, 3, 4)]
    assert failures(seen_by_then, *left, running("train", 5)) == 1
    assert failures(job(), *left) == 4, "nothing else could tell"
    evicted = decide(
        seen_by_then, seen(done("prepare"), *left, failed("train", 5, reason="Evicted")), NOW
    )
    assert evicted.children.stages[0].key == ("train", 6)
    ended = decide(seen_by_then, seen(done("prepare"), *left, failed("train", 5)), NOW)
    assert (ended.status.phase, ended.status.failures) == ("Failed", 2)


def test_a_stopped_attempt_whose_job_is_gone_is_still_how_far_the_training_got() -> None:
    stopped = after(job(), told(1, 50))
    assert stopped.status.stages[-1].attempt == 1
    resumed = after(stopped, running("train", 2))
    assert resumed.status.stages[-1].earlier_step == 50
    assert failures(resumed, failed("train", 2, checkpoint=50)) == 1
    assert failures(resumed, failed("train", 2, checkpoint=60)) == 0


def test_a_node_that_is_found_lost_minutes_later_excuses_the_attempt_that_it_ended() -> None:
    crashed = failed("train", 1)
    away = Worker("tickets-train-1-1", 1, "Running")
    silent = replace(crashed, workers=(*crashed.workers, away))
    going = after(job(backoffLimit=1), silent, running("train", 2))
    assert going.status.stages[-1].earlier_failures == 1
    lost = replace(
        crashed, workers=(*crashed.workers, replace(away, state="Failed", reason="NodeLost"))
    )
    excused = after(going, lost, running("train", 2))
    assert excused.status.stages[-1].earlier_failures is None
    assert failures(excused, wordless(1), running("train", 2)) == 0


def test_an_eviction_is_remembered_while_the_last_pods_end() -> None:
    evicted = failed("train", 1, reason="Evicted")
    leaving = replace(
        evicted, workers=(*evicted.workers, Worker("tickets-train-1-1", 1, "Running"))
    )
    told_of = after(job(backoffLimit=0), leaving)
    assert told_of.status.stages[-1].excused
    decision = decide(told_of, seen(done("prepare"), wordless(1)), NOW)
    assert decision.children.stages[0].key == ("train", 2)
    assert decision.status.failures == 0


@pytest.mark.parametrize(
    ("reason", "words", "told"),
    [
        (
            "Preempted",
            "preempting to accommodate a higher priority pod",
            "was preempted on node n2",
        ),
        ("NodeLost", "", "was lost with node n2; stopped"),
    ],
)
def test_the_status_says_who_was_taken_away_and_by_whom(reason: str, words: str, told: str) -> None:
    """The other worker's last words tell only that it had to stop."""
    stopped = failed(
        "train",
        kind="Retry",
        reason="Stopped",
        message="stopped at step 12 of 24, with a checkpoint",
        checkpoint=12,
    )
    away = Worker("tickets-train-1-1", 1, "Failed", reason=reason, message=words, node="n2")
    both = replace(stopped, workers=(*stopped.workers, away))
    message = after(job(backoffLimit=0), both).status.stages[-1].message
    assert told in message
    assert words in message
    assert "; the checkpoint of step 12 is kept" in message


def test_a_node_that_never_comes_back_does_not_hold_the_training() -> None:
    """Its pod is deleted after five minutes, and nobody is there to end it: its Job waits for ever."""
    going = told(1, 20)
    (worker,) = going.workers

    def after_seconds(seconds: int, reason: str = "", message: str = "") -> Decision:
        told_of = replace(worker, reason=reason, message=message)
        left = replace(told_of, node="n2", leaves=NOW - timedelta(seconds=seconds))
        silent = replace(going, workers=(left,), progress=None)
        return decide(after(job(backoffLimit=0), going), seen(done("prepare"), silent), NOW)

    assert after_seconds(20).children.stages[0].key == ("train", 1)
    decision = after_seconds(31)
    assert decision.children.stages[0].key == ("train", 2)
    message = decision.status.stages[-1].message
    assert "worker 0 of train was lost with node n2 (its kubelet did not end" in message
    assert "the checkpoint of step 20 is kept" in message
    assert (decision.status.phase, decision.status.failures) == ("Training", 0)
    evicted = after_seconds(31, reason="Evicted", message="Eviction API: evicting")
    assert "was evicted from node n2 (Eviction API: evicting)" in evicted.status.stages[-1].message


def test_a_worker_that_was_stopped_excuses_nobody_who_is_found_to_have_crashed() -> None:
    """Of two pods the one that the Job stopped may be heard of first."""
    stopped = failed("train", 1, reason="Terminated")
    early = after(job(backoffLimit=0), stopped)
    assert early.status.stages[-1].excused is None
    crashed = replace(failed("train", 1).workers[0], rank=1)
    both = replace(stopped, workers=(*stopped.workers, crashed))
    assert failures(early, both) == 1


@pytest.mark.parametrize("text", ["nan", "inf", "-3", "many", "9" * 200, "1e3", ""])
def test_a_step_that_a_pod_makes_up_is_none(text: str) -> None:
    run = told(1, 5)
    assert run.progress is not None
    metrics = (Metric(name="checkpoint_step", value=text),)
    odd = replace(run, progress=run.progress.model_copy(update={"metrics": metrics}))
    assert costs.checkpoint(odd) == 0


def test_the_pods_of_an_attempt_are_waited_for_longer_than_they_may_take() -> None:
    assert timedelta(seconds=GRACE_SECONDS) < attempts.DRAIN
