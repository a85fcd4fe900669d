"""Which manifest may run under a name that is known here, and from where it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus, StageStatus
from oikyo.api.meta import Condition
from oikyo.api.stages import Stage
from oikyo.controller import reasons
from oikyo.controller.policies import costs
from oikyo.desktop.home import Home
from oikyo.desktop.jobs import admit, save
from oikyo.desktop.objects import Store
from oikyo.errors import OikyoError, SpecError
from scenes import done, failed, job, seen

WHEN = "2026-11-23T12:00:00Z"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def ended(reason: str, *stages: Stage, **spec: Any) -> FineTuneJob:
    """A job that ended for this reason after these stages had begun."""
    status = "True" if reason == reasons.ACCEPTED else "False"
    condition = Condition(type="Succeeded", status=status, reason=reason, last_transition_time=WHEN)
    begun = tuple(StageStatus(name=name, attempt=2, state="Failed") for name in stages)
    return job(FineTuneJobStatus(conditions=(condition,), stages=begun, start_time=WHEN), **spec)


def test_a_new_job_gets_an_identity_of_its_own(home: Home) -> None:
    first, second = admit(job(), home, again=False), admit(job(), home, again=False)
    assert first.metadata.uid != second.metadata.uid
    assert first.metadata.creation_timestamp


def test_the_same_manifest_goes_on_with_the_job_that_is_there(home: Home) -> None:
    begun = admit(job(), home, again=False)
    save(begun, home)
    assert admit(job(), home, again=False) == begun


@pytest.mark.parametrize("reason", [reasons.ACCEPTED, reasons.GATE_FAILED])
def test_a_verdict_stays_a_verdict(home: Home, reason: str) -> None:
    old = ended(reason, "prepare", "train", "evaluate")
    save(old, home)
    assert admit(job(), home, again=False).status == old.status


def test_a_changed_experiment_under_the_same_name_is_refused(home: Home) -> None:
    save(ended(reasons.ACCEPTED, "prepare", "train"), home)
    with pytest.raises(SpecError, match=r"training.* cannot change once the job exists") as told:
        admit(job(training={"epochs": 9}), home, again=False)
    assert "--again" in str(told.value)


def test_a_change_of_what_may_change_raises_the_generation(home: Home) -> None:
    save(admit(job(), home, again=False), home)
    changed = admit(job(backoffLimit=9), home, again=False)
    assert (changed.metadata.generation, changed.spec.backoff_limit) == (2, 9)


def test_a_failed_training_is_tried_again_with_higher_attempt_numbers(home: Home) -> None:
    old = ended(reasons.BACKOFF_LIMIT_EXCEEDED, "prepare", "train")
    save(old, home)
    retried = admit(job(), home, again=False)
    assert retried.metadata.uid == old.metadata.uid
    assert retried.status.conditions == ()
    assert [stage.attempt for stage in retried.status.stages] == [2, 2]
    assert (retried.status.start_time or "") > WHEN, (
        "as after a suspension: its deadline begins anew"
    )


def test_a_training_that_is_tried_again_has_its_whole_budget_and_micro_batch_again(
    home: Home,
) -> None:
    old = ended(reasons.BACKOFF_LIMIT_EXCEEDED, "prepare", "train")
    train = old.status.stages[-1].model_copy(
        update={"attempt": 5, "checkpoint_step": 30, "earlier_failures": 3, "starved": (2,)}
    )
    status = old.status.model_copy(update={"stages": (*old.status.stages[:-1], train)})
    save(old.model_copy(update={"status": status}), home)
    (_, again) = admit(job(), home, again=False).status.stages
    assert (again.attempt, again.checkpoint_step) == (5, 30)
    assert (again.earlier_failures, again.starved) == (None, ())
    crashed = failed("train", 6)
    retried = admit(job(), home, again=False)
    assert costs.tally(retried, seen(done("prepare"), crashed), "train").failures == 1


def test_a_job_that_never_trained_may_change_and_begins_anew(home: Home) -> None:
    old = ended(reasons.INPUT_REFUSED, "prepare")
    save(old, home)
    anew = admit(job(data={"sources": [{"uri": "pvc://other/rows.csv"}]}), home, again=False)
    assert anew.metadata.uid != old.metadata.uid
    assert Store(home).get(FineTuneJob, "tickets") is None


def test_again_forgets_a_verdict(home: Home) -> None:
    old = ended(reasons.ACCEPTED, "prepare", "train")
    save(old, home)
    assert admit(job(), home, again=True).metadata.uid != old.metadata.uid


def test_another_controllers_job_is_left_alone(home: Home) -> None:
    with pytest.raises(SpecError, match=r"spec\.managedBy is kueue"):
        admit(job(managedBy="kueue"), home, again=False)


def test_two_loops_cannot_hold_one_job(home: Home) -> None:
    with (
        home.lock("tickets"),
        pytest.raises(OikyoError, match="already running"),
        home.lock("tickets"),
    ):
        pass
    with home.lock("tickets"):
        pass


def test_an_object_that_cannot_be_read_is_named(home: Home) -> None:
    path = home.objects("finetunejobs") / "tickets.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(OikyoError, match=r"tickets\.json cannot be read as a FineTuneJob"):
        Store(home).get(FineTuneJob, "tickets")
