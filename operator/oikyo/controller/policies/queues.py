"""spec.scheduling.queueName: a Job that Kueue holds back waits, and nothing of it is anybody's fault.

The Job is made suspended and with the queue's label. Kueue alone starts and stops it; the controller
never changes a Job, it only looks.
"""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import Diagnosis

from ..observed import Observed, StageRun
from . import groups

GROUP = "kueue.x-k8s.io"
LABEL = f"{GROUP}/queue-name"


def queue_of(job: FineTuneJob) -> str | None:
    """The queue of Kueue that admits this job; with Volcano as scheduler the queue is Volcano's."""
    return None if groups.volcano(job) else job.spec.scheduling.queue_name


def waits(job: FineTuneJob, run: StageRun) -> str:
    """The sentence while a queue holds this attempt back; empty when none does."""
    queue = queue_of(job)
    if not run.suspended or run.state in ("Succeeded", "Failed"):
        return ""
    where = f"queue {queue}" if queue else "a queue"
    again = f"attempt {run.attempt} " if run.attempt > 1 else ""
    begun = run.told_step > 0 or any(worker.state != "Pending" for worker in run.workers)
    waiting = f"was taken back by {where} and waits in it" if begun else f"waits in {where}"
    # Kueue puts a hash behind its name, and describe takes its beginning; no column tells the reason.
    workload = f"job-{job.metadata.name}-{run.stage}-{run.attempt}"
    look = f"kubectl describe workloads.{GROUP} -n {job.metadata.namespace} {workload}"
    return f"{again}{waiting}; {look} says for what"


def absent(job: FineTuneJob, seen: Observed) -> Diagnosis | None:
    """The queue is named and nobody is there to serve it, before anything was started."""
    queue = queue_of(job)
    alive = any(run.state in ("Pending", "Running") for run in seen.runs)
    if queue is None or seen.queues or seen.desktop or alive:
        return None
    return Diagnosis(
        cause=f"spec.scheduling.queueName is {queue}, and the cluster has no Kueue (API group "
        "kueue.x-k8s.io): nobody would start the job",
        evidence="spec.scheduling.queueName",
        tried="waiting; the job starts by itself once Kueue is there",
        next_step="install Kueue, or drop spec.scheduling.queueName: "
        f"kubectl edit ftj {job.metadata.name} -n {job.metadata.namespace}",
    )
