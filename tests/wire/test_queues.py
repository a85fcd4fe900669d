"""Kueue and Volcano: their APIs are served by a real API server, and the test does what their controllers do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from control_plane import Api, Audit, Place, eventually
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
                "queue": {"type": "string"},
                "priorityClassName": {"type": "string"},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
VOLCANO = definition(
    "scheduling.volcano.sh",
    "PodGroup",
    schema={"openAPIV3Schema": POD_GROUP},
    subresources={"status": {}},
)


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


def test_volcano_gets_a_group_for_every_stage_and_its_words_are_told(
    place: Place, volcano: None, running: OperatorProcess
) -> None:
    place.apply_job(
        "tickets",
        training={"nodes": 2, "startDeadlineSeconds": 30},
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
    assert "2 of 2 workers of train did not start within 30 seconds: tickets-train-1-" in cause
    assert "their PodGroup: NotEnoughResources: 2/2 tasks in gang unschedulable" in cause
    gone = lambda: place.api.get(group("tickets-train-1")) is None  # noqa: E731
    eventually(gone, "the group to go with its Job")
    assert place.api.get(group("tickets-prepare-1")) is not None  # as long as the Job that ended
