"""Observing: what the platform's objects become when they are seen."""

from __future__ import annotations

from typing import Any

import pytest

import scenes
from oikyo.api.meta import ANNOTATION_SPEC
from oikyo.api.stages import Failure, LastWords, StageProgress
from oikyo.controller import pods
from oikyo.controller.cache import Cache
from oikyo.controller.kinds import CLAIMS, DEPLOYMENTS, JOBS, PODS, WARNINGS, Object
from oikyo.controller.observe import observe, observe_endpoint, unexplained
from oikyo.controller.observed import EndpointObserved, Observed
from oikyo.controller.policies import attempts, costs

UID = "0123456789ab"
LABELS = {"oikyo.dev/job": "tickets", "oikyo.dev/stage": "train", "oikyo.dev/attempt": "1"}


def stage_job(*conditions: str, uid: str = "job-uid", owner: str = UID, **status: Any) -> Object:
    told = [
        {"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T12:05:00Z"}
        for kind in conditions
    ]
    return {
        "metadata": {
            "name": "tickets-train-1",
            "namespace": "default",
            "uid": uid,
            "resourceVersion": "1",
            "labels": LABELS,
            "ownerReferences": [{"uid": owner}],
        },
        "status": {"conditions": told, "startTime": "2026-11-23T12:00:00Z", **status},
    }


def pod(
    rank: int = 0,
    phase: str = "Running",
    state: Object | None = None,
    *,
    deleted: bool = False,
    **status: Any,
) -> Object:
    metadata = {
        "name": f"tickets-train-1-{rank}-abcde",
        "namespace": "default",
        "uid": f"pod-{rank}",
        "resourceVersion": "1",
        "labels": {**LABELS, pods.INDEX: str(rank)},
        "ownerReferences": [{"uid": "job-uid", "name": "tickets-train-1"}],
    }
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-23T12:04:00Z"
    container = [{"name": "stage", "imageID": "r/t@sha256:1", "state": state}] if state else []
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node1"},
        "status": {"phase": phase, "containerStatuses": container, **status},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def cache(*items: tuple[Any, Object]) -> Cache:
    made = Cache(lambda _: None)
    for kind, item in items:
        made.put(kind, item)
    return made


async def silent(_: Object) -> StageProgress | None:
    return None


async def see(*items: tuple[Any, Object], **spec: Any) -> Observed:
    return await observe(scenes.job(**spec), cache(*items), silent, "trainer:1")


async def test_a_running_stage_shows_its_workers_and_its_progress() -> None:
    told = StageProgress(stage="train", progress_percentage=40)

    async def say(asked: Object) -> StageProgress | None:
        assert asked["metadata"]["uid"] == "pod-0"
        return told

    running: Object = {"running": {}}
    items = ((JOBS, stage_job()), (PODS, pod(1, state=running)), (PODS, pod(0, state=running)))
    seen = await observe(scenes.job(), cache(*items), say, "trainer:1")
    (run,) = seen.runs
    assert (run.stage, run.attempt, run.state, run.progress) == ("train", 1, "Running", told)
    assert [(w.rank, w.state, w.node) for w in run.workers] == [
        (0, "Running", "node1"),
        (1, "Running", "node1"),
    ]
    assert seen.image == "r/t@sha256:1"


async def test_the_last_words_of_rank_zero_are_the_words_of_the_stage() -> None:
    words = LastWords(stage="train", result=scenes.result("train"))
    done = ended(0, "Completed", words.json_line())
    seen = await see((JOBS, stage_job("Complete")), (PODS, pod(0, "Succeeded", done)))
    (run,) = seen.runs
    assert (run.state, run.words) == ("Succeeded", words)
    assert run.finished is not None


async def test_a_failing_gang_counts_as_failed_before_its_last_pod_is_gone() -> None:
    items = (PODS, pod(1, "Failed", ended(1))), (PODS, pod(0, "Running", {"running": {}}))
    seen = await see((JOBS, stage_job("FailureTarget")), *items)
    assert seen.runs[0].state == "Failed"
    assert [w.state for w in seen.runs[0].workers] == ["Running", "Failed"]


async def test_pods_that_were_deleted_still_tell_how_the_attempt_ended() -> None:
    """The Job takes its other pods away when one goes, and after that none of them is there to be read."""
    words = LastWords(
        stage="train",
        failure=Failure(kind="Retry", reason="Stopped", message="stopped at step 9 of 40"),
        checkpoint_step=9,
    )
    known = cache((JOBS, stage_job("Failed")), (PODS, pod(0, state={"running": {}})))
    stopped = pod(1, "Failed", ended(1, message=words.json_line()), deleted=True)
    known.put(PODS, stopped)
    for gone in (stopped, pod(0, state={"running": {}}, deleted=True)):
        known.drop(PODS, gone)
    (run,) = (await observe(scenes.job(), known, silent, "trainer:1")).runs
    assert [(w.rank, w.state, w.reason) for w in run.workers] == [
        (0, "Failed", "Terminated"),
        (1, "Failed", "Terminated"),
    ]
    assert attempts.root_cause(run) == "stopped at step 9 of 40"
    assert costs.checkpoint(run) == 9
    assert costs.tally(scenes.job(), Observed((run,)), "train").failures == 0
    known.drop(JOBS, stage_job())
    assert known.departed("job-uid") == []


@pytest.mark.parametrize("made", ["2026-11-23T12:00:00Z", "2026-11-23T12:05:00Z"])
async def test_a_pod_that_comes_after_a_deleted_one_speaks_for_its_rank(made: str) -> None:
    """Also within the second in which the first was made."""
    before = pod(0)
    before["metadata"]["creationTimestamp"] = "2026-11-23T12:00:00Z"
    known = cache((JOBS, stage_job()), (PODS, before))
    known.drop(PODS, before)
    after = pod(0, state={"running": {}})
    after["metadata"] |= {"uid": "pod-0-again", "creationTimestamp": made}
    known.put(PODS, after)
    (run,) = (await observe(scenes.job(), known, silent, "trainer:1")).runs
    assert [(w.rank, w.state) for w in run.workers] == [(0, "Running")]


def test_a_pod_whose_job_went_first_is_not_remembered() -> None:
    known = cache((JOBS, stage_job()), (PODS, pod(0)))
    known.drop(JOBS, stage_job())
    known.drop(PODS, pod(0))
    assert known.departed("job-uid") == []


async def test_children_of_an_earlier_job_of_the_same_name_are_not_seen() -> None:
    seen = await see((JOBS, stage_job(owner="somebody-else")), (PODS, pod()))
    assert seen.runs == ()


async def test_claims_that_sources_name_must_exist() -> None:
    made = {"name": "models", "namespace": "default", "uid": "c", "resourceVersion": "1"}
    claim = {"metadata": made, "status": {"phase": "Bound", "accessModes": ["ReadWriteMany"]}}
    seen = await see((CLAIMS, claim), storage={"claimName": "models"})
    assert seen.missing == ("PersistentVolumeClaim datasets does not exist in namespace default",)
    assert seen.workspace is not None
    assert seen.workspace.access_modes == ("ReadWriteMany",)


def test_an_ended_job_without_the_last_state_of_rank_zero_is_unexplained() -> None:
    race = cache((JOBS, stage_job("Complete")), (PODS, pod(0, "Running", {"running": {}})))
    told = cache((JOBS, stage_job("Complete")), (PODS, pod(0, "Succeeded", ended(0))))
    assert unexplained(stage_job("Complete"), race)
    assert not unexplained(stage_job("Complete"), told)
    assert not unexplained(stage_job(), race)


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
}
TAINTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByTaintManager",
    "message": "Taint manager: deleting due to NoExecute taint",
}
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
CONFIG = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}}


@pytest.mark.parametrize(
    ("made", "reason", "message"),
    [
        (pod(0, "Pending", None, conditions=[UNSCHEDULABLE]), "Unschedulable", "Insufficient"),
        (pod(0, "Pending", PULL), "ImagePullBackOff", "Back-off"),
        (pod(0, "Pending", CONFIG), "CreateContainerConfigError", "hub"),
        (pod(0, "Pending", CREATING), "FailedMount", "tiny"),
        (pod(0, "Failed", ended(137, "OOMKilled")), "OOMKilled", ""),
        (pod(0, "Failed", ended(1, "Error", "Traceback")), "Error", "Traceback"),
        (pod(0, "Failed", ended(143), deleted=True), "Terminated", ""),
        (pod(0, "Failed", ended(137, "OOMKilled"), deleted=True), "OOMKilled", ""),
        (pod(0, "Failed", ended(137), conditions=[TAINTED]), "NodeLost", "Taint"),
        (pod(0, "Failed", None, reason="Evicted", message="low on memory"), "Evicted", "memory"),
        (pod(0, "Succeeded", ended(0, "Completed", "{}")), "", ""),
        (pod(0, "Running", {"running": {}}), "", ""),
    ],
)
def test_a_worker_tells_why_it_waits_or_ended(made: Object, reason: str, message: str) -> None:
    event = {"reason": "FailedMount", "message": 'configmap "tiny" not found'}
    seen = pods.worker(made, event)
    assert seen.reason == reason
    assert message in seen.message


@pytest.mark.parametrize("state", [{"running": {}}, ended(143)])
def test_a_pod_that_volcano_takes_away_says_so_only_by_an_event(state: Object) -> None:
    event = {"reason": "Evict", "message": "Pod is evicted, because of preempt"}
    going = pod(0, "Failed" if "terminated" in state else "Running", state, deleted=True)
    assert pods.worker(going, event).reason == "Evicted"
    assert pods.worker(pod(0, "Running", {"running": {}}), event).reason == ""


async def test_the_newest_warning_of_a_job_is_seen() -> None:
    about = {"kind": "Job", "namespace": "default", "name": "tickets-train-1", "uid": "job-uid"}
    event = {
        "metadata": {"name": "e", "namespace": "default", "uid": "e", "resourceVersion": "1"},
        "involvedObject": about,
        "reason": "FailedCreate",
        "message": "exceeded quota",
    }
    seen = await see((JOBS, stage_job()), (WARNINGS, event))
    assert seen.runs[0].warning == "FailedCreate: exceeded quota"


@pytest.mark.parametrize("text", ["", "Traceback ...", "{", '{"stage": "bake"}', "[1]"])
def test_what_is_no_last_word_by_the_contract_is_none(text: str) -> None:
    assert pods.worker(pod(0, "Failed", ended(1, "Error", text)), None).words is None


def deployment(**status: Any) -> Object:
    spec = '{"modelName":"tickets","version":3,"task":"TextClassification","path":"p"}'
    return {
        "metadata": {
            "name": "tickets",
            "namespace": "default",
            "uid": "d",
            "resourceVersion": "1",
            "generation": 2,
            "ownerReferences": [{"uid": "endpoint-uid"}],
        },
        "spec": {"replicas": 2, "template": {"metadata": {"annotations": {ANNOTATION_SPEC: spec}}}},
        "status": {"observedGeneration": 2, **status},
    }


def see_endpoint(item: Object) -> EndpointObserved:
    endpoint = scenes.endpoint()
    metadata = endpoint.metadata.model_copy(update={"uid": "endpoint-uid"})
    return observe_endpoint(
        endpoint.model_copy(update={"metadata": metadata}), cache((DEPLOYMENTS, item))
    )


@pytest.mark.parametrize(
    ("status", "rolled_out"),
    [
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, False),
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
        ({"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        (
            {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
            False,
        ),
    ],
)
def test_a_rollout_is_over_when_only_new_pods_answer(status: Object, rolled_out: bool) -> None:
    seen = see_endpoint(deployment(**status))
    assert seen.rolled_out is rolled_out
    assert seen.served is not None
    assert seen.served.version == 3


def test_a_crashing_server_pod_is_told_with_its_last_words() -> None:
    crash = pod(0, "Running")
    crash["status"]["containerStatuses"] = [
        {
            "name": "server",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": ended(1, "Error", "no such folder: versions/tickets/3"),
        }
    ]
    assert "no such folder" in pods.trouble(crash, None)
    assert "exit code 1" in pods.trouble(crash, None)
