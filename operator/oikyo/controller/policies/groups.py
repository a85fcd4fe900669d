"""PodGroups: whose, and of how many pods. The first that applies decides, never two at once.

1. spec.scheduling.schedulerName: volcano: every stage has a PodGroup of Volcano.
2. spec.scheduling.queueName: Kueue admits all pods of a Job or none; no PodGroup.
3. The cluster serves PodGroups itself: a stage of more than one pod has one.
4. Otherwise pods are placed one by one, and the deadline of the start ends what stands in half.
"""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import Diagnosis

from ..observed import GroupApi, Observed, StageRun
from . import gang

VOLCANO = "volcano"
"""Name of Volcano's scheduler."""


def volcano(job: FineTuneJob) -> bool:
    return job.spec.scheduling.scheduler_name == VOLCANO


def wanted(job: FineTuneJob) -> GroupApi | None:
    """Whose PodGroups this job would use where they are served."""
    if volcano(job):
        return "Volcano"
    several = job.spec.training.nodes > 1 and job.spec.scheduling.queue_name is None
    return "Kubernetes" if several else None


def choice(job: FineTuneJob, seen: Observed, run: StageRun | None, nodes: int) -> GroupApi | None:
    """Whose PodGroup this attempt gets. Pods that exist keep what they were made with."""
    if run is not None:
        return run.group
    api = wanted(job)
    if api is None or api not in seen.groups:
        return None
    return api if api == "Volcano" or nodes > 1 else None


def least(job: FineTuneJob, nodes: int) -> int:
    """Pods below which none of the group may be placed.

    An elastic gang can go on with minNodes: those that have a place then tell how many the next
    attempt has. With all nodes as the least it would hold none, and never learn that.
    """
    return min(nodes, gang.least(job))


def absent(job: FineTuneJob, seen: Observed) -> Diagnosis | None:
    """Volcano is named and not there, before anything was started."""
    alive = any(run.state in ("Pending", "Running") for run in seen.runs)
    if not volcano(job) or "Volcano" in seen.groups or seen.desktop or alive:
        return None
    return Diagnosis(
        cause="spec.scheduling.schedulerName is volcano, and the cluster has no Volcano (API group "
        "scheduling.volcano.sh): nobody would place the pods",
        evidence="spec.scheduling.schedulerName",
        tried="waiting; the job starts by itself once Volcano is there",
        next_step="install Volcano, or drop spec.scheduling.schedulerName: "
        f"kubectl edit ftj {job.metadata.name} -n {job.metadata.namespace}",
    )
