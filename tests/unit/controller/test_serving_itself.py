"""What the controller tells of itself, and what it is told: metrics, probes, flags, troubles."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from pydantic import ValidationError

import scenes
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus, Progress
from oikyo.api.meta import Condition, Metric
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointStatus
from oikyo.controller import reasons, trouble
from oikyo.controller.cache import Key
from oikyo.controller.cluster import RefusedError
from oikyo.controller.config import parse
from oikyo.controller.handlers import Backoffs
from oikyo.controller.kinds import FINE_TUNE_JOBS, MODEL_ENDPOINTS
from oikyo.controller.metrics import Metrics
from oikyo.controller.probes import LAG_SECONDS, Probes, Watchdog

KEY = Key("FineTuneJob", "default", "tickets")


def condition(kind: str, status: str) -> Condition:
    return Condition(
        type=kind,
        status=status,
        reason="Because",
        last_transition_time="2026-11-23T12:00:00Z",
    )


def test_a_job_has_series_that_go_when_it_goes() -> None:
    metrics = Metrics()
    status = FineTuneJobStatus(
        phase="Training",
        conditions=(condition("DataReady", "True"),),
        progress=Progress(stage="train", progress_percentage=40, estimated_remaining_seconds=90),
        metrics=(Metric(name="f1_macro", value="0.9"),),
        failures=2,
    )
    metrics.jobs[KEY] = scenes.job(status)
    text = metrics.exposition().decode()
    at = 'namespace="default"'
    for line in (
        f'oikyo_job_phase{{job="tickets",{at},phase="Training"}} 1.0',
        f'oikyo_job_condition{{job="tickets",{at},status="True",type="DataReady"}} 1.0',
        f'oikyo_job_progress_ratio{{job="tickets",{at},stage="train"}} 0.4',
        f'oikyo_job_remaining_seconds{{job="tickets",{at}}} 90.0',
        f'oikyo_job_failures{{job="tickets",{at}}} 2.0',
        f'oikyo_job_score{{job="tickets",{at}}} 0.9',
    ):
        assert _sorted(line) in [_sorted(row) for row in text.splitlines()], line
    metrics.forget(KEY)
    assert 'job="tickets"' not in metrics.exposition().decode()


def _sorted(line: str) -> str:
    name, _, rest = line.partition("{")
    labels, _, value = rest.partition("}")
    return f"{name}{sorted(labels.split(','))}{value}"


def test_an_endpoint_has_its_version_and_whether_it_answers() -> None:
    metrics = Metrics()
    ready = ModelEndpointStatus(
        version=3, ready_replicas=2, conditions=(condition("Ready", "True"),)
    )
    endpoint = scenes.endpoint().model_copy(update={"status": ready})
    metrics.endpoints[Key("ModelEndpoint", "default", "tickets")] = endpoint
    text = metrics.exposition().decode()
    assert 'oikyo_endpoint_version{endpoint="tickets",namespace="default"} 3.0' in text
    assert 'oikyo_endpoint_ready{endpoint="tickets",namespace="default"} 1.0' in text
    assert 'oikyo_endpoint_replicas{endpoint="tickets",namespace="default"} 2.0' in text


async def test_probes_answer_why_they_say_no() -> None:
    now = [0.0]
    watchdog = Watchdog(lambda: now[0])
    probes = Probes(Metrics(), watchdog)
    port = await probes.start(0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as ask:
            starting = await ask.get("/readyz")
            assert (starting.status_code, starting.text) == (503, "starting")
            probes.unready = ""
            assert (await ask.get("/readyz")).status_code == 200
            assert (await ask.get("/healthz")).status_code == 200
            assert "oikyo_operator_build_info" in (await ask.get("/metrics")).text
            now[0] = LAG_SECONDS + 2
            sick = await ask.get("/healthz")
            assert sick.status_code == 503
            assert "event loop" in sick.text
            now[0] = 0.0
            watchdog.checks.append(lambda: "only 3 of 11 watches are alive")
            assert (await ask.get("/healthz")).text == "only 3 of 11 watches are alive"
    finally:
        await probes.stop()


def test_watches_are_tried_again_for_ever_and_never_later_than_after_40_seconds() -> None:
    backoffs = Backoffs()
    delays = [delay for delay, _ in zip(backoffs, range(200), strict=False)]
    assert len(delays) == 200
    assert delays[0] < 2
    assert max(delays) <= 40
    assert next(iter(backoffs)) < 2, "each failure starts anew"


@pytest.mark.parametrize("flags", [[], ["--namespace", "a", "--cluster-wide"]])
def test_the_scope_must_be_given_once(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(flags, {})
    assert "either --namespace NAME (repeatable) or --cluster-wide" in capsys.readouterr().err


def test_flags_win_over_the_environment() -> None:
    env = {"OIKYO_TRAINER_IMAGE": "from-env", "POD_NAME": "oikyo-0", "POD_NAMESPACE": "oikyo"}
    config = parse(["--namespace", "a", "--namespace", "b"], env)
    assert (config.trainer_image, config.identity, config.lease_namespace) == (
        "from-env",
        "oikyo-0",
        "oikyo",
    )
    assert config.scopes == ("a", "b")
    assert parse(["--cluster-wide", "--trainer-image", "flag"], env).trainer_image == "flag"
    assert parse(["--cluster-wide"], env).scopes == (None,)


def test_an_invalid_stored_spec_is_told_with_field_and_value() -> None:
    item = scenes.job().wire()
    item["spec"]["training"]["epochs"] = -3
    with pytest.raises(ValidationError) as caught:
        FineTuneJob.model_validate(item)
    status = trouble.invalid(FINE_TUNE_JOBS, item, caught.value, scenes.NOW)
    assert "training.epochs (it is -3)" in status["diagnosis"]["cause"]
    again = trouble.invalid(
        FINE_TUNE_JOBS, {**item, "status": status}, caught.value, scenes.NOW + timedelta(hours=1)
    )
    assert again == status, "an unchanged trouble must not be written again"


def test_an_endpoint_with_an_invalid_stored_spec_is_told_without_a_phase() -> None:
    item = {
        "metadata": {"name": "tickets", "namespace": "ns", "generation": 2},
        "spec": {"model": "tickets", "replicas": {"min": -1}},
    }
    with pytest.raises(ValidationError) as caught:
        ModelEndpoint.model_validate(item)
    status = trouble.invalid(MODEL_ENDPOINTS, item, caught.value, scenes.NOW)
    assert "replicas.min (it is -1)" in status["diagnosis"]["cause"]
    assert "kubectl edit modelendpoints tickets" in status["diagnosis"]["nextStep"]
    assert "phase" not in status


def test_a_refused_request_stalls_the_job_once() -> None:
    job = scenes.job()
    error = RefusedError("jobs.batch is forbidden: exceeded quota: none")
    status = trouble.refused(job, job.status, error, scenes.NOW)
    (stalled,) = [c for c in status.conditions if c.type == "Stalled"]
    assert (stalled.status, stalled.reason) == ("True", reasons.REQUEST_REFUSED)
    again = job.model_copy(update={"status": status})
    later = scenes.NOW + timedelta(hours=1)
    assert trouble.refused(again, job.status, error, later) == status
