"""Gangs on the scheduler itself: the PodGroups of Kubernetes, with the gate on, and nodes that are only objects.

The kubelet is played by the test; who places which pod, and who waits, is the scheduler's own doing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from control_plane import Api, Object, Place, a_place, api_server, eventually
from kit.cluster import Cluster
from oikyo.api.stages import Failure, LastWords
from operator_process import OperatorProcess, operator

GROUPS = "scheduling.k8s.io/v1beta1"
PLACES = ("place-1", "place-2", "place-3")
START = 30
"""Seconds for a gang to start: on a busy machine the test looks at it for longer than it would seem."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with api_server(tmp_path_factory.mktemp("gangs"), gangs=True) as made:
        yield made


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    """With three nodes, each with room for one worker."""
    made = Api(cluster)
    for name in PLACES:
        made.create("/api/v1/nodes", {"metadata": {"name": name}})
        room = {"cpu": "1500m", "memory": "64Gi", "pods": "9"}
        made.patch(f"/api/v1/nodes/{name}/status", {"status": {"allocatable": room}})
        made.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})  # "not ready", by admission
    return made


@pytest.fixture(scope="module")
def running(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    with operator(
        cluster.kubeconfig, folder, "--cluster-wide", "--lease-namespace", "default"
    ) as process:
        eventually(lambda: process.leading, "the lease")
        yield process


@pytest.fixture
def place(api: Api) -> Iterator[Place]:
    """A namespace of its own; what it holds on the nodes is freed at the end."""
    with a_place(api) as made:
        yield made
    for pod in made.pods(""):
        remove(made, pod)
    eventually(lambda: not made.pods(""), "its pods to go")


def remove(place: Place, pod: Object) -> None:
    """Play the kubelet: a deleted pod ends, and only then is it gone."""
    if pod["status"]["phase"] not in ("Failed", "Succeeded"):
        place.end_pod(pod, 137, "")
    path = place.path("pods", pod["metadata"]["name"])
    place.api.http.delete(path, params={"gracePeriodSeconds": 0})


def volume(place: Place, job: str) -> None:
    """What a provisioner would make for the workspace: the scheduler waits for it."""
    claim = {"namespace": place.namespace, "name": f"{job}-workspace"}
    spec = {
        "capacity": {"storage": "1Ti"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": "/nowhere"},
        "claimRef": claim,
    }
    body = {"metadata": {"name": f"{place.namespace}-{job}"}, "spec": spec}
    place.api.create("/api/v1/persistentvolumes", body)


def apply_gang(place: Place, name: str, **spec: object) -> None:
    """A training of two workers where nothing else is said, its data prepared already."""
    volume(place, name)
    shared = {"accessMode": "ReadWriteMany"}
    place.apply_job(name, **{"training": {"nodes": 2}, "storage": shared, **spec})
    place.await_pods(name, "prepare")
    eventually(lambda: bound(place, name, "prepare"), "a place for prepare")
    place.finish(name, "prepare")
    eventually(lambda: workers(place, name), f"the workers of {name}")


def workers(place: Place, job: str, stage: str = "train") -> list[Object]:
    return place.pods(f"oikyo.dev/job={job},oikyo.dev/stage={stage}")


def bound(place: Place, job: str, stage: str = "train") -> int:
    return sum("nodeName" in pod["spec"] for pod in workers(place, job, stage))


def group(place: Place, name: str) -> Object:
    return place.api.get(place.path("podgroups", name, GROUPS)) or {}


def unplaced(place: Place, name: str) -> str:
    """Why the scheduler could not place a group; empty while it has not said so."""
    told = group(place, name).get("status", {}).get("conditions", ())
    return next((c["message"] for c in told if c["status"] == "False"), "")


def test_without_groups_a_gang_that_does_not_fit_holds_a_place_in_vain(place: Place) -> None:
    container = {"name": "a", "image": "a", "resources": {"requests": {"cpu": "1"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    for name in ("one", "two"):
        labels = {"oikyo.dev/job": name, "oikyo.dev/stage": "train"}
        body = {
            "metadata": {"name": name},
            "spec": {"parallelism": 2, "template": {"metadata": {"labels": labels}, **template}},
        }
        place.api.create(place.path("jobs", group="batch/v1"), body)
    eventually(lambda: bound(place, "one") + bound(place, "two") == 3, "all places to be taken")
    assert {bound(place, "one"), bound(place, "two")} == {1, 2}


def test_a_gang_is_placed_whole_or_not_at_all(place: Place, running: OperatorProcess) -> None:
    urgent = {"metadata": {"name": "urgent"}, "value": 7, "preemptionPolicy": "Never"}
    place.api.create("/apis/scheduling.k8s.io/v1/priorityclasses", urgent)
    apply_gang(place, "first", scheduling={"priorityClassName": "urgent"})
    eventually(lambda: bound(place, "first") == 2, "the first gang to be placed")
    made = group(place, "first-train-1")
    assert made["spec"]["schedulingPolicy"] == {"gang": {"minCount": 2}}
    assert (made["spec"]["disruptionMode"], made["spec"]["priority"]) == ({"all": {}}, 7)
    assert made["metadata"]["ownerReferences"][0]["name"] == "first"
    apply_gang(place, "second")
    assert "minCount (2)" in eventually(lambda: unplaced(place, "second-train-1"), "a refusal")
    time.sleep(2)  # one place is free, and stays free
    assert (bound(place, "first"), bound(place, "second")) == (2, 0)
    told = lambda: (place.status("second").get("diagnosis") or {}).get("evidence", "")  # noqa: E731
    eventually(lambda: "minCount (2)" in told(), "the status to say why")
    place.finish("first", "train")
    eventually(lambda: bound(place, "second") == 2, "the second gang, whole, in its place")
    eventually(lambda: unplaced(place, "second-train-1") == "", "the scheduler to say so")
    place.api.delete(place.ours("finetunejobs", "first"))
    eventually(lambda: not group(place, "first-train-1"), "the group to go with its job")


def test_an_elastic_gang_takes_the_places_there_are_and_another_holds_none(
    place: Place, running: OperatorProcess
) -> None:
    four = {"nodes": 4, "startDeadlineSeconds": START}
    apply_gang(place, "rigid", training=four)
    apply_gang(place, "elastic", training={**four, "minNodes": 2})
    eventually(lambda: bound(place, "elastic") == 3, "the places that there are")
    assert bound(place, "rigid") == 0
    assert group(place, "elastic-train-1")["spec"]["schedulingPolicy"]["gang"]["minCount"] == 2
    eventually(lambda: place.phase("rigid") == "Failed", "the deadline of the start")
    assert place.condition("rigid", "Succeeded")["reason"] == "StartDeadlineExceeded"
    cause = place.status("rigid")["diagnosis"]["cause"]
    assert f"4 of 4 workers of train did not start within {START} seconds: rigid-train-1-" in cause
    assert "minCount (4) cannot be satisfied" in cause
    smaller = lambda: place.stage_job("elastic-train-2")  # noqa: E731
    assert eventually(smaller, "a smaller gang")["spec"]["completions"] == 2
    leaving = "oikyo.dev/job=elastic,oikyo.dev/stage=train,oikyo.dev/attempt=1"
    eventually(lambda: all(map(going, place.pods(leaving))), "the first attempt to be given up")
    for pod in place.pods(leaving):
        remove(place, pod)
    eventually(lambda: bound(place, "elastic") == 2, "the smaller gang to be placed")
    assert group(place, "elastic-train-2")["spec"]["schedulingPolicy"]["gang"]["minCount"] == 2
    eventually(lambda: not group(place, "elastic-train-1"), "the first group to go with its Job")


STOPPED = Failure(
    kind="Retry", reason="Stopped", message="stopped at step 12 of 24, with a checkpoint"
)


def test_the_status_says_who_was_preempted_and_who_was_evicted(
    place: Place, running: OperatorProcess
) -> None:
    """Both by the platform itself: its scheduler, for a pod of higher priority, and its eviction API."""
    loud = {"metadata": {"name": "loud"}, "value": 1000}
    place.api.create("/apis/scheduling.k8s.io/v1/priorityclasses", loud)
    apply_gang(place, "quiet", backoffLimit=0)
    eventually(lambda: bound(place, "quiet") == 2, "the gang to be placed")
    for pod in workers(place, "quiet"):
        place.run_pod(pod)
    container = {"name": "a", "image": "a", "resources": {"requests": {"cpu": "1"}}}
    for name in ("loud-1", "loud-2"):
        spec = {"priorityClassName": "loud", "containers": [container]}
        place.api.create(place.path("pods"), {"metadata": {"name": name}, "spec": spec})
    eventually(lambda: all(map(going, workers(place, "quiet"))), "the gang to be preempted")
    stop(place, "quiet", 1)
    told = eventually(lambda: ended(place, "quiet", 1), "the status to tell of it")
    assert " of train was preempted on node place-" in told, told
    assert "; stopped at step 12 of 24, with a checkpoint" in told
    for name in ("loud-1", "loud-2"):
        remove(place, place.api.get(place.path("pods", name)) or {})
    eventually(lambda: bound(place, "quiet") == 2, "the second attempt to be placed")
    first, _ = workers_of(place, "quiet", 2)
    for pod in workers_of(place, "quiet", 2):
        place.run_pod(pod)
    path = place.path("pods", first["metadata"]["name"])
    eviction = {"metadata": {"name": first["metadata"]["name"]}}
    place.api.create(
        f"{path}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", **eviction}
    )
    stop(place, "quiet", 2)
    told = eventually(lambda: ended(place, "quiet", 2), "the status to tell of it")
    assert f"worker 0 of train was evicted from node {first['spec']['nodeName']} (" in told, told
    assert (place.phase("quiet"), place.status("quiet").get("failures", 0)) == ("Training", 0)


def workers_of(place: Place, job: str, attempt: int) -> list[Object]:
    return place.pods(f"oikyo.dev/job={job},oikyo.dev/stage=train,oikyo.dev/attempt={attempt}")


def stop(place: Place, job: str, attempt: int) -> None:
    """Play the kubelet and the workers: those that are asked to end say that they stopped."""
    words = LastWords(stage="train", attempt=attempt, failure=STOPPED).json_line()
    asked = set()

    def gone() -> bool:
        for pod in filter(going, workers_of(place, job, attempt)):
            if pod["metadata"]["name"] not in asked:
                asked.add(pod["metadata"]["name"])
                place.end_pod(pod, 75, words)
                remove(place, place.api.get(place.path("pods", pod["metadata"]["name"])) or {})
        return len(asked) == 2

    eventually(gone, "both workers to be asked to end")


def ended(place: Place, job: str, attempt: int) -> str:
    """What the status says of how this attempt of the training ended."""
    stages = {stage["name"]: stage for stage in place.status(job).get("stages", ())}
    told = str(stages.get("train", {}).get("message", ""))
    return told if told.startswith(f"attempt {attempt}: ") else ""


def going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"] or pod["status"]["phase"] in (
        "Failed",
        "Succeeded",
    )
