"""The operator as a process against a real API server and the real Job, Deployment and GC controllers."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from builders import a_manifest
from control_plane import REPOSITORY, Api, Audit, OperatorProcess, Place, eventually, operator
from kit.cluster import Cluster
from oikyo.api.meta import Metric
from oikyo.api.stages import PORT, StageProgress

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster.up(tmp_path_factory.mktemp("plane"), node_count=0, controllers=True)
    try:
        made.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return Api(cluster)


@pytest.fixture
def place(api: Api) -> Iterator[Place]:
    """A namespace of its own, with the default account that pods need."""
    name = f"wire-{next(_NUMBERS)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    made = Place(api, name)
    eventually(lambda: api.get(made.path("serviceaccounts", "default")), "the default account")
    yield made
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def audit(cluster: Cluster) -> Audit:
    made = Audit(cluster.audit_log)
    made.mark()
    return made


@pytest.fixture
def running(cluster: Cluster, place: Place, tmp_path: Path) -> Iterator[OperatorProcess]:
    with operator(cluster.kubeconfig, tmp_path, "--namespace", place.namespace) as process:
        eventually(lambda: process.leading, "the lease")
        yield process


def train(place: Place, name: str) -> None:
    for stage in ("prepare", "train", "evaluate"):
        place.finish(name, stage)


def test_a_job_goes_from_data_to_a_version_in_at_most_25_writes(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("tickets")
    train(place, "tickets")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")
    status = place.status("tickets")
    assert status["score"] == "0.9"
    assert status["modelVersion"] == "tickets-v1"
    version = place.api.get(place.ours("modelversions", "tickets-v1"))
    assert version is not None
    assert version["spec"]["lineage"]["image"].endswith("cd" * 32)
    writes = audit.writes(place.namespace)
    assert len(writes) <= 25, "\n".join(writes)
    events = place.api.items(place.path("events", group="events.k8s.io/v1"))
    told = [e["reason"] for e in events if e["regarding"]["kind"] == "FineTuneJob"]
    assert {"DataReady", "Trained", "Evaluated", "Released"} <= set(told)
    print(f"{len(writes)} writes:", *writes, sep="\n  ")
    print(f"resident memory {running.resident_megabytes():.0f} MB")


def test_an_unchanged_object_costs_no_write(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("waiting")
    place.await_pods("waiting", "prepare")
    place.apply_job("done")
    train(place, "done")
    eventually(lambda: place.phase("done") == "Succeeded", "the job to succeed")
    time.sleep(2)
    audit.mark()
    time.sleep(8)
    assert audit.writes(place.namespace) == []


def test_a_killed_operator_comes_back_and_changes_nothing(
    cluster: Cluster, place: Place, running: OperatorProcess, audit: Audit, tmp_path: Path
) -> None:
    place.apply_job("tickets")
    place.finish("tickets", "prepare")
    place.await_pods("tickets", "train")
    eventually(lambda: place.phase("tickets") == "Training", "the train stage")
    time.sleep(1)
    before = place.everything()
    running.end(signal.SIGKILL)
    audit.mark()
    with operator(
        cluster.kubeconfig, tmp_path, "--namespace", place.namespace, name="second"
    ) as second:
        eventually(lambda: second.leading, "the lease of the dead", seconds=25)
        time.sleep(3)
        assert audit.writes(place.namespace) == []
        assert place.everything() == before
        for stage in ("train", "evaluate"):
            place.finish("tickets", stage)
        eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_a_wiped_status_comes_back_from_the_children(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    train(place, "tickets")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")
    before = place.status("tickets")
    jobs = place.stage_jobs()
    path = place.ours("finetunejobs", "tickets") + "/status"
    place.api.http.patch(
        path,
        content='[{"op": "remove", "path": "/status"}]',
        headers={"Content-Type": "application/json-patch+json"},
    ).raise_for_status()
    eventually(lambda: place.phase("tickets") == "Succeeded", "the status to come back")
    after = place.status("tickets")
    for told in ("score", "metrics", "gates", "modelVersion", "startTime", "dataset", "stages"):
        assert after[told] == before[told], told
    assert place.stage_jobs() == jobs


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
    place.api.patch(path, {"spec": {"suspend": False}})
    place.await_pods("tickets", "train", 2)
    place.finish("tickets", "train", 2)
    place.finish("tickets", "evaluate")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_a_failed_attempt_is_followed_by_the_next_and_refused_data_ends_the_job(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    place.fail("tickets", "prepare", 1, 137, "")
    place.await_pods("tickets", "prepare", 2)
    assert place.status("tickets")["failures"] == 1
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


def test_the_second_operator_waits_and_takes_over_at_once_when_the_first_ends(
    cluster: Cluster, place: Place, running: OperatorProcess, tmp_path: Path
) -> None:
    with operator(
        cluster.kubeconfig, tmp_path, "--namespace", place.namespace, name="second"
    ) as second:
        time.sleep(3)
        assert (running.leading, second.leading) == (True, False)
        place.apply_job("tickets")
        place.await_pods("tickets", "prepare")
        code, seconds = running.end()
        assert code == 0
        assert seconds < 5, f"the end took {seconds:.1f} s"
        begun = time.monotonic()
        eventually(lambda: second.leading, "the released lease")
        assert time.monotonic() - begun < 5
        train(place, "tickets")
        eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_an_accepted_version_is_served_and_the_endpoint_becomes_ready(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("tickets", deployment={"replicas": {"min": 1, "max": 3}})
    train(place, "tickets")
    labels = "oikyo.dev/endpoint=tickets"
    for pod in eventually(lambda: place.pods(labels), "server pods"):
        place.run_pod(pod)
    endpoint = place.ours("modelendpoints", "tickets")

    def ready() -> bool:
        found = (place.api.get(endpoint) or {}).get("status", {}).get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in found)

    eventually(ready, "the endpoint to be ready")
    writes = audit.writes(place.namespace)
    assert len(writes) <= 36, "\n".join(writes)
    for path in (
        place.path("services", "tickets"),
        place.path("poddisruptionbudgets", "tickets", "policy/v1"),
        place.path("horizontalpodautoscalers", "tickets", "autoscaling/v2"),
    ):
        assert place.api.get(path) is not None, path
    place.api.delete(place.path("services", "tickets"))
    eventually(lambda: place.api.get(place.path("services", "tickets")), "the Service to come back")
    place.api.delete(endpoint)
    eventually(lambda: not place.pods(labels), "the server to go with its endpoint")


def test_an_adapter_joins_a_running_server_and_a_wrong_one_leaves_it_as_it_is(
    place: Place, running: OperatorProcess
) -> None:
    lora = {"method": "LoRA", "rank": 8, "variant": "Standard"}
    for model in ("tickets", "refunds"):
        record = a_manifest("ModelVersion", name=f"{model}-v1", model=model, adapter=lora)
        place.api.create(place.ours("modelversions"), record)
    served = a_manifest("ModelEndpoint", name="tickets", model="tickets")
    place.api.create(place.ours("modelendpoints"), served)
    endpoint, labels = place.ours("modelendpoints", "tickets"), "oikyo.dev/endpoint=tickets"
    (first,) = eventually(lambda: place.pods(labels), "the server pod")
    place.run_pod(first)
    eventually(lambda: _says(place, endpoint, "Ready", "True"), "the endpoint to be ready")

    place.api.patch(endpoint, {"spec": {"adapters": [{"name": "refunds"}]}})
    pods = eventually(lambda: len(got := place.pods(labels)) == 2 and got, "a second pod")
    names = {pod["metadata"]["name"] for pod in pods}
    assert first["metadata"]["name"] in names, "the old server answers until the new one does"
    place.run_pod(next(p for p in pods if p["metadata"]["name"] != first["metadata"]["name"]))
    told = "version 1 of tickets with 1 adapter answers"
    eventually(lambda: _says(place, endpoint, "Ready", "True", told), "the adapter to be served")
    status = place.api.get(endpoint)["status"]
    assert status["adapters"] == [{"name": "refunds", "version": 1}]
    deployments = place.api.items(place.path("deployments", group="apps/v1"))
    assert [one["metadata"]["name"] for one in deployments] == ["tickets"]

    wrong = {"adapters": [{"name": "refunds"}, {"name": "nobody"}]}
    place.api.patch(endpoint, {"spec": wrong})
    eventually(lambda: _says(place, endpoint, "Stalled", "True"), "the endpoint to stall")
    status = place.api.get(endpoint)["status"]
    assert status["diagnosis"]["evidence"] == "spec.adapters[nobody]"
    assert status["adapters"] == [{"name": "refunds", "version": 1}]
    (deployment,) = place.api.items(place.path("deployments", group="apps/v1"))
    assert deployment["metadata"]["generation"] == deployments[0]["metadata"]["generation"]
    nobody = a_manifest("ModelVersion", name="nobody-v1", model="nobody", adapter=lora)
    place.api.create(place.ours("modelversions"), nobody)
    eventually(lambda: _says(place, endpoint, "Stalled", "False"), "the endpoint to go on")


def _says(place: Place, path: str, kind: str, status: str, message: str = "") -> bool:
    """Whether an object's condition has the status, and the message where one is given."""
    found = (place.api.get(path) or {}).get("status", {}).get("conditions", ())
    return any(
        c["type"] == kind and c["status"] == status and message in c.get("message", "")
        for c in found
    )


def test_replicas_stay_when_an_autoscaler_takes_them_over(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets", deployment={"replicas": {"min": 3, "max": 3}})
    train(place, "tickets")
    endpoint = place.ours("modelendpoints", "tickets")
    deployment = place.path("deployments", "tickets", "apps/v1")
    eventually(lambda: place.api.get(deployment), "the Deployment")
    seen: list[int] = []
    place.api.patch(endpoint, {"spec": {"replicas": {"min": 1, "max": 5}}})

    def autoscaled() -> bool:
        seen.append(place.api.get(deployment)["spec"]["replicas"])
        return place.api.get(place.path("horizontalpodautoscalers", "tickets", "autoscaling/v2"))

    eventually(autoscaled, "the autoscaler")
    time.sleep(1)
    seen.append(place.api.get(deployment)["spec"]["replicas"])
    assert set(seen) == {3}


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


def test_a_job_of_another_controller_is_left_alone(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("theirs", managedBy="example.com/other")
    place.apply_job("ours")
    place.await_pods("ours", "prepare")
    assert not any("theirs" in write for write in audit.writes(place.namespace))


def test_pods_pass_pod_security_restricted(
    cluster: Cluster, place: Place, running: OperatorProcess
) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    place.api.patch(f"/api/v1/namespaces/{place.namespace}", label)
    place.apply_job("tickets", deployment={})
    train(place, "tickets")
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


def test_an_outage_of_the_api_server_is_ridden_through(
    cluster: Cluster, place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    place.await_pods("tickets", "prepare")
    cluster.kill("kube-apiserver")
    time.sleep(14)
    assert running.get("/healthz")[0] == 200, "an outage is no reason to restart the operator"
    assert not running.leading, "whoever cannot renew the lease must not write"
    cluster.restart("kube-apiserver")
    eventually(
        lambda: cluster.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "it"
    )
    train(place, "tickets")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed", seconds=60)


def test_a_hundred_jobs_start_within_seconds(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    for number in range(100):
        place.apply_job(f"many-{number}")
    begun = time.monotonic()
    eventually(lambda: len(place.stage_jobs()) == 100, "a hundred prepare Jobs", seconds=90)
    print(f"{time.monotonic() - begun:.1f} s after the last of 100 was applied")
    eventually(
        lambda: all(place.phase(f"many-{n}") == "Preparing" for n in (0, 50, 99)), "their reports"
    )
    print(f"resident memory {running.resident_megabytes():.0f} MB")


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
        time.sleep(18)
    writes = audit.writes(place.namespace)
    assert 1 <= len(writes) <= 2, writes
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


KUEUE = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "workloads.kueue.x-k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
    },
    "spec": {
        "group": "kueue.x-k8s.io",
        "names": {"kind": "Workload", "plural": "workloads"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
}


@contextmanager
def served(api: Api, definition: dict[str, Any]) -> Iterator[None]:
    """The API of another project is there, by its CustomResourceDefinition alone."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    group, version = definition["spec"]["group"], definition["spec"]["versions"][0]["name"]
    api.create(path, definition)
    shown = lambda: api.get(f"/apis/{group}/{version}") is not None  # noqa: E731
    eventually(shown, "discovery to show the group")
    try:
        yield
    finally:
        api.delete(f"{path}/{definition['metadata']['name']}")


@pytest.fixture
def kueue(api: Api) -> Iterator[None]:
    """Kueue's group is served; what its controller does, the test does."""
    with served(api, KUEUE):
        yield


def test_a_queue_starts_a_job_and_nobody_else_does(
    place: Place, kueue: None, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("tickets", scheduling={"queueName": "team-a"})
    path = place.path("jobs", "tickets-prepare-1", "batch/v1")
    made = eventually(lambda: place.api.get(path), "the Job of prepare")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    waits = lambda: place.condition("tickets", "DataReady").get("reason") == "Queued"  # noqa: E731
    eventually(waits, "the status to say that it waits")
    assert "waits in queue team-a" in place.condition("tickets", "DataReady")["message"]
    audit.mark()
    time.sleep(6)  # longer than a running stage is left alone
    assert audit.writes(place.namespace) == []
    assert (place.api.get(path) or {})["spec"]["suspend"] is True
    assert place.pods("oikyo.dev/job=tickets") == []
    place.api.patch(path, {"spec": {"suspend": False}})  # Kueue admits it
    place.finish("tickets", "prepare")
    train_job = place.path("jobs", "tickets-train-1", "batch/v1")
    held = eventually(lambda: place.api.get(train_job), "the Job of train")
    assert held["spec"]["suspend"] is True


def test_a_queue_without_kueue_is_told_and_no_job_waits_for_ever(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets", scheduling={"queueName": "team-a"})
    told = lambda: (place.status("tickets").get("diagnosis") or {}).get("cause", "")  # noqa: E731
    assert "the cluster has no Kueue" in eventually(told, "the diagnosis")
    assert place.stage_jobs() == []


VOLCANO = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podgroups.scheduling.volcano.sh"},
    "spec": {
        "group": "scheduling.volcano.sh",
        "names": {"kind": "PodGroup", "plural": "podgroups"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "minMember": {"type": "integer", "format": "int32"},
                                    "queue": {"type": "string"},
                                    "priorityClassName": {"type": "string"},
                                },
                            },
                            "status": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            },
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def volcano(api: Api) -> Iterator[None]:
    """A PodGroup of Volcano's shape is served; what its scheduler does, the test does."""
    with served(api, VOLCANO):
        yield


def test_volcano_gets_a_group_for_every_stage_and_its_words_are_told(
    place: Place, volcano: None, running: OperatorProcess
) -> None:
    place.apply_job(
        "tickets",
        training={"nodes": 2, "startDeadlineSeconds": 10},
        storage={"accessMode": "ReadWriteMany"},
        scheduling={"schedulerName": "volcano", "queueName": "team-a"},
    )
    group = lambda name: place.path("podgroups", name, "scheduling.volcano.sh/v1beta1")  # noqa: E731
    (pod,) = place.await_pods("tickets", "prepare")
    assert pod["spec"]["schedulerName"] == "volcano"
    assert pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == "tickets-prepare-1"
    made = place.api.get(group("tickets-prepare-1")) or {}
    assert made["spec"] == {"minMember": 1, "queue": "team-a"}
    place.finish("tickets", "prepare")
    place.await_pods("tickets", "train")
    made = place.api.get(group("tickets-train-1")) or {}
    assert made["spec"] == {"minMember": 2, "queue": "team-a"}
    job = place.stage_job("tickets-train-1") or {}
    assert job["spec"]["suspend"] is False  # the queue is Volcano's, and Kueue is not asked
    refused = {
        "type": "Unschedulable",
        "status": "True",
        "reason": "NotEnoughResources",
        "message": "2/2 tasks in gang unschedulable",
    }
    status = {"phase": "Pending", "conditions": [refused]}
    place.api.patch(group("tickets-train-1") + "/status", {"status": status})
    eventually(lambda: place.phase("tickets") == "Failed", "the deadline of the start")
    cause = place.status("tickets")["diagnosis"]["cause"]
    assert "2 of 2 workers of train did not start within 10 seconds: tickets-train-1-" in cause
    assert "their PodGroup: NotEnoughResources: 2/2 tasks in gang unschedulable" in cause
    gone = lambda: place.api.get(group("tickets-train-1")) is None  # noqa: E731
    eventually(gone, "the group to go with its Job")
    assert place.api.get(group("tickets-prepare-1")) is not None  # as long as the Job that ended


def test_a_gang_that_cannot_be_placed_whole_goes_on_with_the_pods_that_can(
    place: Place, running: OperatorProcess
) -> None:
    training = {"nodes": 2, "minNodes": 1, "startDeadlineSeconds": 10}
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
    stage = next(s for s in place.status("tickets")["stages"] if s["name"] == "train")
    assert (stage["attempt"], stage["nodes"]) == (2, 1)
    assert "trains on 1 of 2 nodes" in stage["reduced"]
    assert "Unschedulable: 0/1 nodes are available" in stage["reduced"]
