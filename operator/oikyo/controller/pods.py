"""Pods in words: why one waits, why it ended, what it said last. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from oikyo.api.stages import LastWords

from .kinds import Object
from .observed import Worker, WorkerState

INDEX = "batch.kubernetes.io/job-completion-index"
QUIET = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons that say nothing yet."""
DISRUPTED = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "EvictionByEvictionAPI": "Evicted",
    "DeletionByPodGC": "NodeLost",
    "TerminationByKubelet": "NodeShutdown",
}
"""Reasons of the pod condition DisruptionTarget, as oikyo calls them."""
TERMINATED = "Terminated"
VOLCANO_EVICTS = "Evict"
"""Reason of the event by which alone Volcano tells that it takes a pod away; then it deletes the pod."""


def worker(pod: Object, warning: Object | None) -> Worker:
    """One pod as a worker. `warning` is the newest Warning event about it."""
    status = pod.get("status", {})
    ended = _ended(status)
    reason, message = _reason(pod, status, ended, warning)
    said = _words(ended.get("message", ""))
    return Worker(
        name=pod["metadata"]["name"],
        rank=rank(pod),
        state=_state(status),
        exit_code=ended.get("exitCode"),
        reason=reason,
        message=message[:2048],
        node=pod.get("spec", {}).get("nodeName", ""),
        words=said if said and said.spoken else None,
        checkpoint_step=said.checkpoint_step if said else None,
        leaves=_leaves(pod),
        started=_started(status),
        log=f"kubectl logs -n {pod['metadata'].get('namespace', 'default')} {pod['metadata']['name']}",
    )


def _leaves(pod: Object) -> datetime | None:
    """The API server's deletionTimestamp is of the end of the grace, not of the request."""
    told = pod["metadata"].get("deletionTimestamp")
    return datetime.fromisoformat(told) if told else None


def departed(pod: Object) -> Object:
    """A pod that is gone; where it did not end before, whoever deleted it ended it."""
    status = pod.get("status", {})
    if status.get("phase") in ("Succeeded", "Failed"):
        return pod
    told = {"reason": TERMINATED, "message": "the pod was deleted"}
    return {**pod, "status": {**status, "phase": "Failed", **told}}


def rank(pod: Object) -> int:
    metadata = pod["metadata"]
    told = metadata.get("labels", {}).get(INDEX) or metadata.get("annotations", {}).get(INDEX)
    return int(told or 0)


def image(pod: Object) -> str:
    """The image by digest, when the container runtime tells it."""
    for container in pod.get("status", {}).get("containerStatuses", ()):
        name: str = container.get("imageID", "").removeprefix("docker-pullable://")
        if "@sha256:" in name:
            return name
    return ""


def trouble(pod: Object, warning: Object | None) -> str:
    """Why a server pod does not get ready, as a sentence; empty when it is well or just starting."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    reason, message = _reason(pod, status, _ended(status), warning)
    last = _last(status)
    if reason == "CrashLoopBackOff" and last:
        said = _words(last.get("message", ""))
        told = said.failure.message if said and said.failure else last.get("message", "")
        code = f"exit code {last.get('exitCode')}, {last.get('reason', 'Error')}"
        return f"pod {name} crashes again and again ({code}): {told.strip()[-600:]}"
    if reason and _state(status) != "Running":
        return f"pod {name} cannot start: {reason}: {message}"[:1024]
    return f"pod {name}: {reason}: {message}"[:1024] if reason else ""


def _state(status: Object) -> WorkerState:
    phase = status.get("phase", "Pending")
    if phase in ("Succeeded", "Failed"):
        return "Succeeded" if phase == "Succeeded" else "Failed"
    # A pod that the node lost reports Unknown: its container may well be running.
    return "Running" if phase in ("Running", "Unknown") else "Pending"


def _containers(status: Object) -> list[Object]:
    return list(status.get("containerStatuses", ()))


def _ended(status: Object) -> dict[str, Any]:
    for container in _containers(status):
        if "terminated" in container.get("state", {}):
            return dict(container["state"]["terminated"])
    return {}


def _started(status: Object) -> datetime | None:
    for container in _containers(status):
        if "startedAt" in container.get("state", {}).get("running", {}):
            return datetime.fromisoformat(container["state"]["running"]["startedAt"])
    return None


def _last(status: Object) -> dict[str, Any]:
    for container in _containers(status):
        if "terminated" in container.get("lastState", {}):
            return dict(container["lastState"]["terminated"])
    return {}


def _reason(
    pod: Object, status: Object, ended: dict[str, Any], warning: Object | None
) -> tuple[str, str]:
    """The platform's word and sentence: the first source that explains the pod's state."""
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    target = conditions.get("DisruptionTarget", {})
    if target.get("status") == "True":
        word = DISRUPTED.get(target.get("reason", ""), "DisruptionTarget")
        return word, target.get("message", "")
    leaves = "deletionTimestamp" in pod["metadata"]
    if leaves and warning is not None and warning["reason"] == VOLCANO_EVICTS:
        return "Evicted", warning["message"]
    if status.get("reason"):
        return status["reason"], status.get("message", "")
    if ended:
        return _why_ended(pod, ended)
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") and waiting["reason"] not in QUIET:
            return waiting["reason"], waiting.get("message", "")
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return scheduled.get("reason", "Unschedulable"), scheduled.get("message", "")
    if warning is not None and _state(status) == "Pending":
        return warning["reason"], warning["message"]
    return "", ""


def _why_ended(pod: Object, ended: dict[str, Any]) -> tuple[str, str]:
    said = _words(ended.get("message", ""))
    message = ended.get("message", "")
    if said is not None:
        message = said.failure.message if said.failure else ""
    if ended.get("exitCode") == 0:
        return "", ""
    # Whoever deletes a running pod stops it; the work did nothing wrong.
    if "deletionTimestamp" in pod["metadata"] and ended.get("reason") != "OOMKilled":
        return TERMINATED, message
    return ended.get("reason", "Error"), message


def _words(message: str) -> LastWords | None:
    """Last words by the stage contract; a log tail or another program's text is none."""
    if not message.startswith("{"):
        return None
    try:
        return LastWords.model_validate_json(message)
    except ValueError:
        return None
