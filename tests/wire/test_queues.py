"""Kueue and Volcano: their APIs are served by a real API server, and the test does what their controllers do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from control_plane import Api, Audit, Object, Place, eventually
from operator_process import OperatorProcess


def definition(group: str, kind: str, **version: Any) -> dict[str, Any]:
    """A namespaced kind of another project, v1beta1; `version` is what its version has beside the least."""
    plural = f"{kind.lower()}s"
    served = {"name": "v1beta1", "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # Asked for of groups that end in k8s.io, and of no others.
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [{**served, "schema": {"openAPIV3Schema": {"type": "object"}}, **version}],
        },
    }


KUEUE = definition("kueue.x-k8s.io", "Workload")
POD_GROUP = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "minMember": {"type": "integer", "format": "int32"},
                "queue": {"type": "string", "default": "default"},
                "priorityClassName": {"type": "string"},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
VOLCANO = definition("scheduling.volcano.sh", "PodGroup", schema={"openAPIV3Schema": POD_GROUP})
"""As of volcano.sh/apis v1.13.0: the status is no subresource, the scheduler writes the whole object."""


@contextmanager
def served(api: Api, foreign: dict[str, Any]) -> Iterator[None]:
    """The API of another project is there, by its CustomResourceDefinition alone."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    group, version = foreign["spec"]["group"], foreign["spec"]["versions"][0]["name"]
    api.create(path, foreign)
    shown = lambda: api.get(f"/apis/{group}/{version}") is not None  # noqa: E731
    eventually(shown, "discovery to show the group")
    try:
        yield
    finally:
        api.delete(f"{path}/{foreign['metadata']['name']}")
        gone = lambda: api.get(f"{path}/{foreign['metadata']['name']}") is None  # noqa: E731
        eventually(gone, "the next test to find it gone")


@pytest.fixture
def kueue(api: Api) -> Iterator[None]:
    """Kueue's group is served; what its controller does, the test does."""
    with served(api, KUEUE):
        yield


@pytest.fixture
def volcano(api: Api) -> Iterator[None]:
    """A PodGroup of Volcano's shape is served; what its scheduler does, the test does."""
    with served(api, VOLCANO):
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
    told = place.condition("tickets", "DataReady")["message"]
    assert told.startswith("waits in queue team-a; kubectl describe workloads.kueue.x-k8s.io -n ")
    audit.mark()
    time.sleep(6)  # longer than a running stage is left alone
    assert audit.writes(place.namespace) == []
    assert (place.api.get(path) or {})["spec"]["suspend"] is True
    assert place.pods("oikyo.dev/job=tickets") == []
    admit(place, "tickets-prepare-1")
    place.finish("tickets", "prepare")
    train_job = place.path("jobs", "tickets-train-1", "batch/v1")
    held = eventually(lambda: place.api.get(train_job), "the Job of train")
    assert held["spec"]["suspend"] is True


def test_a_gang_that_kueue_preempts_goes_on_when_it_is_admitted_again(
    place: Place, kueue: None, running: OperatorProcess
) -> None:
    """Kueue suspends its Job, which stops the pods and counts none of them as failed."""
    place.apply_job(
        "tickets",
        training={"nodes": 2},
        storage={"accessMode": "ReadWriteMany"},
        scheduling={"queueName": "team-a"},
        backoffLimit=0,
    )
    admit(place, "tickets-prepare-1")
    place.finish("tickets", "prepare")
    admit(place, "tickets-train-1")
    train = place.path("jobs", "tickets-train-1", "batch/v1")
    trained = lambda: place.condition("tickets", "Trained")  # noqa: E731
    stage = lambda: place.status("tickets")["stages"][-1]  # noqa: E731
    with a_node(place) as node:
        workers = two_workers(place)
        for pod in workers:
            bind(place, pod, node)
        eventually(lambda: stage()["state"] == "Running", "the training")
        place.api.patch(train, {"spec": {"suspend": True}})
        for pod in workers:
            stopped(place, pod)
        told = "was taken back by queue team-a and waits in it"
        eventually(lambda: told in trained().get("message", ""), "the status to say so")
        eventually(lambda: stage()["state"] == "Pending", "the stage to wait")
        admit(place, "tickets-train-1")
        assert {p["metadata"]["uid"] for p in two_workers(place)}.isdisjoint(
            pod["metadata"]["uid"] for pod in workers
        )
        place.finish("tickets", "train")
        eventually(lambda: trained().get("status") == "True", "the training to end")
    assert (stage()["attempt"], place.status("tickets").get("failures", 0)) == (1, 0)


def stopped(place: Place, pod: Object) -> None:
    """Play the kubelet: a pod that is deleted ends, and only then is it gone."""
    path = place.path("pods", pod["metadata"]["name"])
    leaves = lambda: "deletionTimestamp" in (place.api.get(path) or {})["metadata"]  # noqa: E731
    eventually(leaves, "the Job to stop its pods")
    place.end_pod(pod, 1, "stopped")
    place.api.http.delete(path, params={"gracePeriodSeconds": 0})


def admit(place: Place, name: str) -> None:
    """What Kueue does when its quota allows all pods of a Job."""
    path = place.path("jobs", name, "batch/v1")
    eventually(lambda: place.api.get(path), f"the Job {name}")
    place.api.patch(path, {"spec": {"suspend": False}})


def bind(place: Place, pod: Object, node: Object) -> None:
    bound = {"metadata": {"name": pod["metadata"]["name"]}, "target": node}
    place.api.create(place.path("pods", pod["metadata"]["name"]) + "/binding", bound)
    place.run_pod(pod)


def test_a_queue_without_kueue_is_told_and_no_job_waits_for_ever(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets", scheduling={"queueName": "team-a"})
    told = lambda: (place.status("tickets").get("diagnosis") or {}).get("cause", "")  # noqa: E731
    assert "the cluster has no Kueue" in eventually(told, "the diagnosis")
    assert place.stage_jobs() == []


def apply_gang(place: Place, **spec: Any) -> None:
    place.apply_job(
        "tickets",
        storage={"accessMode": "ReadWriteMany"},
        scheduling={"schedulerName": "volcano", "queueName": "team-a"},
        **{"training": {"nodes": 2}, **spec},
    )


def test_volcano_gets_a_group_for_every_stage_and_its_words_are_told(
    place: Place, volcano: None, running: OperatorProcess
) -> None:
    apply_gang(place, training={"nodes": 2, "startDeadlineSeconds": 30})
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
    place.api.patch(group("tickets-train-1"), {"status": status})
    eventually(lambda: place.phase("tickets") == "Failed", "the deadline of the start")
    cause = place.status("tickets")["diagnosis"]["cause"]
    assert "2 of 2 workers of train did not start within 30 seconds: tickets-train-1-" in cause
    assert "their PodGroup: NotEnoughResources: 2/2 tasks in gang unschedulable" in cause
    gone = lambda: place.api.get(group("tickets-train-1")) is None  # noqa: E731
    eventually(gone, "the group to go with its Job")
    assert place.api.get(group("tickets-prepare-1")) is not None  # as long as the Job that ended


def test_a_gang_that_has_to_wait_for_volcanos_queue_is_told_of(
    place: Place, volcano: None, running: OperatorProcess
) -> None:
    apply_gang(place)
    place.finish("tickets", "prepare")
    words = "2/2 tasks in gang unschedulable: pod group is not ready, 2 Pending, 2 minAvailable"
    # Volcano has three words for a pod that waits: this one where its queue has no room for it.
    waits = {"type": "PodScheduled", "status": "False", "reason": "Undetermined", "message": words}
    for pod in two_workers(place):
        path = place.path("pods", pod["metadata"]["name"])
        place.api.patch(f"{path}/status", {"status": {"conditions": [waits]}})
    told = lambda: place.status("tickets").get("diagnosis") or {}  # noqa: E731
    both = "workers 0, 1 of train cannot start: Undetermined"
    eventually(lambda: told().get("cause") == both, "the diagnosis of both")
    assert words in told()["evidence"]
    assert "queues.scheduling.volcano.sh" in told()["nextStep"]


def test_a_gang_that_volcano_takes_away_has_not_failed(
    place: Place, volcano: None, running: OperatorProcess
) -> None:
    """It tells so by an event, deletes the pod, and the other worker fails for want of it."""
    apply_gang(place, backoffLimit=0)
    place.finish("tickets", "prepare")
    left, taken = two_workers(place)
    with a_node(place) as node:
        for pod in (left, taken):
            bind(place, pod, node)
        place.api.create(place.path("events"), evicted(taken))
        place.api.delete(place.path("pods", taken["metadata"]["name"]))
        place.end_pod(left, 1, "Connection closed by peer")
        place.end_pod(taken, 143, "")
        again = lambda: place.stage_job("tickets-train-2")  # noqa: E731
        ended = lambda: place.phase("tickets") == "Failed"  # noqa: E731
        eventually(lambda: again() or ended(), "what comes after")
    assert (place.phase("tickets"), place.status("tickets").get("failures", 0)) == ("Training", 0)


def two_workers(place: Place) -> list[Object]:
    train = "oikyo.dev/job=tickets,oikyo.dev/stage=train"
    eventually(lambda: len(place.pods(train)) == 2, "two workers")
    return place.pods(train)


@contextmanager
def a_node(place: Place) -> Iterator[Object]:
    """A pod of a node ends before it is gone, and the test is its kubelet."""
    name = f"{place.namespace}-node"
    place.api.create("/api/v1/nodes", {"metadata": {"name": name}})
    try:
        yield {"kind": "Node", "name": name}
    finally:
        place.api.delete(f"/api/v1/nodes/{name}")


def evicted(pod: Object) -> Object:
    about = {"kind": "Pod", **{key: pod["metadata"][key] for key in ("name", "namespace", "uid")}}
    return {
        "metadata": {"name": f"{pod['metadata']['name']}.evict"},
        "involvedObject": about,
        "type": "Warning",
        "reason": "Evict",
        "message": "Pod is evicted, because of preempt",
    }
