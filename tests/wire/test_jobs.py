"""One job on a real API server: its attempts, workers and reports, and what the API server refuses it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread

import pytest

from control_plane import REPOSITORY, Audit, Object, Place, eventually
from kit.cluster import Cluster
from oikyo.api.meta import Metric
from oikyo.api.stages import PORT, StageProgress
from operator_process import OperatorProcess


def test_deleting_a_job_in_mid_run_leaves_only_what_is_retained(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("kept")
    place.apply_job("gone", storage={"retentionPolicy": "Delete"})
    for name in ("kept", "gone"):
        place.finish(name, "prepare")
        place.await_pods(name, "train")
        place.api.delete(place.ours("finetunejobs", name))
    eventually(lambda: not place.stage_jobs() and not place.pods(""), "children to go")
    claims = place.path("persistentvolumeclaims")
    eventually(
        lambda: [c["metadata"]["name"] for c in place.api.items(claims)] == ["kept-workspace"],
        "only the retained claim to stay",
    )
    eventually(
        lambda: (
            running.metric(f'oikyo_job_failures{{job="gone",namespace="{place.namespace}"}}')
            is None
            and running.metric(f'oikyo_job_failures{{namespace="{place.namespace}",job="gone"}}')
            is None
        ),
        "the series to go",
    )


def test_suspend_stops_the_pods_and_resume_starts_the_next_attempt(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    place.finish("tickets", "prepare")
    place.await_pods("tickets", "train")
    path = place.ours("finetunejobs", "tickets")
    place.api.patch(path, {"spec": {"suspend": True}})
    eventually(lambda: place.phase("tickets") == "Suspended", "the job to be suspended")
    eventually(lambda: place.stage_jobs() == ["tickets-prepare-1"], "the train Job to go")
    late = place.api.patch(path, {"spec": {"activeDeadlineSeconds": 1}})["metadata"]["generation"]
    eventually(lambda: place.status("tickets")["observedGeneration"] == late, "another visit")
    assert place.phase("tickets") == "Suspended"
    assert "startTime" not in place.status("tickets")
    place.api.patch(path, {"spec": {"suspend": False, "activeDeadlineSeconds": None}})
    place.await_pods("tickets", "train", 2)
    eventually(lambda: place.status("tickets").get("startTime"), "a start anew")
    resumed = place.condition("tickets", "Suspended")["lastTransitionTime"]
    assert place.status("tickets")["startTime"] == resumed
    place.finish("tickets", "train", 2)
    place.finish("tickets", "evaluate")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_a_failed_attempt_is_followed_by_the_next_and_refused_data_ends_the_job(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    place.fail("tickets", "prepare", 1, 137, "")
    place.await_pods("tickets", "prepare", 2)
    eventually(lambda: place.status("tickets").get("failures") == 1, "the failure to be counted")
    words = (
        '{"stage":"prepare","attempt":2,"failure":{"kind":"Refused","reason":"InvalidData",'
        '"message":"rows.jsonl line 7 is not JSON","nextStep":"mend line 7","findings":'
        '[{"code":"not-json","severity":"Error","count":1,"example":"rows.jsonl:7: not JSON"}]}}'
    )
    place.fail("tickets", "prepare", 2, 64, words)
    eventually(lambda: place.phase("tickets") == "Failed", "the job to fail")
    assert place.status("tickets")["diagnosis"]["cause"] == "rows.jsonl line 7 is not JSON"
    assert place.condition("tickets", "Succeeded")["reason"] == "InputRefused"
    (found,) = place.status("tickets")["dataset"]["findings"]
    assert (found["code"], found["example"]) == ("not-json", "rows.jsonl:7: not JSON")


def test_two_nodes_meet_through_a_headless_service(place: Place, running: OperatorProcess) -> None:
    place.apply_job("gang", training={"nodes": 2}, storage={"accessMode": "ReadWriteMany"})
    place.finish("gang", "prepare")
    eventually(lambda: len(place.await_pods("gang", "train")) == 2, "two workers")
    first = min(place.await_pods("gang", "train"), key=lambda pod: pod["metadata"]["name"])
    assert first["spec"]["hostname"] == "gang-train-1-0"
    assert first["spec"]["subdomain"] == "gang-train-1"
    service = place.api.get(place.path("services", "gang-train-1"))
    assert service is not None
    assert service["spec"]["clusterIP"] == "None"
    place.finish("gang", "train")
    place.finish("gang", "evaluate")
    eventually(lambda: place.phase("gang") == "Succeeded", "the job to succeed")
    eventually(lambda: place.condition("gang", "Released").get("status") == "True", "the release")


def test_a_gang_that_cannot_be_placed_whole_goes_on_with_the_pods_that_can(
    place: Place, running: OperatorProcess
) -> None:
    training = {"nodes": 2, "minNodes": 1, "startDeadlineSeconds": 30}
    place.apply_job("tickets", training=training, storage={"accessMode": "ReadWriteMany"})
    place.finish("tickets", "prepare")
    two = lambda: len(place.await_pods("tickets", "train")) == 2  # noqa: E731
    eventually(two, "two workers")
    first, second = sorted(
        place.await_pods("tickets", "train"), key=lambda pod: str(pod["metadata"]["name"])
    )
    name = first["metadata"]["name"]
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "node-1"}}
    place.api.create(place.path("pods", f"{name}/binding"), binding)
    place.run_pod(first)
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    words = {"conditions": [{**unplaced, "message": "0/1 nodes are available"}]}
    place.api.patch(place.path("pods", second["metadata"]["name"]) + "/status", {"status": words})
    smaller = lambda: place.api.get(place.path("jobs", "tickets-train-2", "batch/v1"))  # noqa: E731
    assert eventually(smaller, "a smaller gang")["spec"]["completions"] == 1
    gone = lambda: place.api.get(place.path("jobs", "tickets-train-1", "batch/v1")) is None  # noqa: E731
    for pod in (first, second):
        path = place.path("pods", pod["metadata"]["name"])
        place.api.http.delete(
            path, params={"gracePeriodSeconds": 0}
        )  # no kubelet is there to end it
    eventually(gone, "the first gang to be gone")

    def second_attempt() -> Object | None:
        stages = place.status("tickets")["stages"]
        return next((s for s in stages if (s["name"], s["attempt"]) == ("train", 2)), None)

    stage = eventually(second_attempt, "the report of the smaller gang")
    assert stage["nodes"] == 1
    assert "trains on 1 of 2 nodes" in stage["reduced"]
    assert "Unschedulable: 0/1 nodes are available" in stage["reduced"]


def test_pods_pass_pod_security_restricted(
    cluster: Cluster, place: Place, running: OperatorProcess
) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    place.api.patch(f"/api/v1/namespaces/{place.namespace}", label)
    place.apply_job("tickets", deployment={})
    place.finish_all("tickets")
    eventually(lambda: place.pods("oikyo.dev/endpoint=tickets"), "a server pod")


def test_a_quota_that_forbids_jobs_is_told_in_the_job_and_mended_without_a_restart(
    place: Place, running: OperatorProcess
) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    place.api.create(place.path("resourcequotas"), quota)
    eventually(
        lambda: (place.api.get(place.path("resourcequotas", "none")) or {}).get("status"),
        "the quota to be counted",
    )
    place.apply_job("tickets")
    eventually(
        lambda: place.condition("tickets", "Stalled").get("status") == "True", "the job to stall"
    )
    assert "exceeded quota" in place.status("tickets")["diagnosis"]["cause"]
    place.api.delete(place.path("resourcequotas", "none"))
    place.await_pods("tickets", "prepare")
    eventually(
        lambda: place.condition("tickets", "Stalled").get("status") == "False", "the job to go on"
    )


def test_progress_of_rank_zero_is_read_and_written_at_most_every_fifteen_seconds(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("tickets")
    place.finish("tickets", "prepare")
    (pod,) = place.await_pods("tickets", "train")
    address = "127.0.0.77"
    with progress_server(address):
        place.run_pod(pod, address)
        eventually(lambda: place.status("tickets").get("loss"), "the loss to be reported")
        series = f'oikyo_job_progress_ratio{{job="tickets",namespace="{place.namespace}"'
        assert series in running.get("/metrics")[1]
        audit.mark()
        begun = time.monotonic()
        time.sleep(18)
        writes = eventually(lambda: audit.writes(place.namespace), "the next report")
        assert len(writes) <= 1 + (time.monotonic() - begun) / 15, writes
    assert set(writes) == {"patch finetunejobs status tickets"}
    progress = place.status("tickets")["progress"]
    assert (progress["stage"], progress["totalSteps"]) == ("train", 100)


@contextmanager
def progress_server(address: str) -> Iterator[None]:
    """A stage that is one step further each time it is asked."""
    steps = count(1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = StageProgress(
                stage="train",
                progress_percentage=(step := next(steps)),
                step=step,
                total_steps=100,
                metrics=(Metric(name="loss", value=f"0.{100 - step}"),),
                updated="2026-11-23T12:00:00Z",
            )
            body = told.json_line().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The test's output is enough."""

    server = ThreadingHTTPServer((address, PORT), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def permissive(cluster: Cluster) -> Iterator[None]:
    """The CRD as an older release may have had it: without today's rules on the spec."""
    loose = '{"type":"object","x-kubernetes-preserve-unknown-fields":true}'
    version = "/spec/versions/0"
    path = f"{version}/schema/openAPIV3Schema/properties/spec"
    selectable = f'{{"op":"remove","path":"{version}/selectableFields"}}'
    patch = f'[{selectable},{{"op":"replace","path":"{path}","value":{loose}}}]'
    cluster.kubectl("patch", "crd", "finetunejobs.oikyo.dev", "--type=json", "-p", patch)
    yield
    cluster.kubectl("replace", "-f", str(REPOSITORY / "crds" / "finetunejobs.yaml"))


def test_a_spec_stored_before_a_rule_was_tightened_stalls_with_the_sentence(
    place: Place, permissive: None, running: OperatorProcess, audit: Audit
) -> None:
    def store() -> bool:
        # The API server takes a moment to serve a changed schema.
        made = place.apply_job("old", training={"epochs": -3, "turbo": True})
        if made["spec"]["training"].get("turbo") is True:
            return True
        place.api.delete(place.ours("finetunejobs", "old"))
        return False

    eventually(store, "the permissive schema")
    eventually(lambda: place.condition("old", "Stalled").get("status") == "True", "it to stall")
    assert place.condition("old", "Stalled")["reason"] == "InvalidSpec"
    assert "training" in place.status("old")["diagnosis"]["cause"]
    audit.mark()
    time.sleep(3)
    assert audit.writes(place.namespace) == []
    place.apply_job("new")
    place.await_pods("new", "prepare")
