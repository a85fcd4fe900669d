"""spec.training.minNodes and startDeadlineSeconds: how many pods an attempt has, and how long it waits for them.

Every attempt is tried with all nodes. When not all of its pods have started in time, the next one has
as many as can run, at least minNodes; the one after that is tried with all again, so a job grows back
when it has to start anew anyway. A start that was given up still exists when the next one is made, and
is removed only after that was reported: nothing has to be remembered.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import Diagnosis
from oikyo.api.stages import PORT, RENDEZVOUS_PORT

from ..conditions import timestamp
from ..observed import Observed, StageRun, Worker
from ..resolve import groups_per_node
from .attempts import BLOCKING

ELASTIC_PATIENCE = timedelta(minutes=2)
"""How long an elastic job waits for all pods where startDeadlineSeconds does not say."""
MEETING = timedelta(minutes=10)
"""How long the workers of a whole gang may take to meet and to load before their silence is told."""
NAMED = 8
"""Pods that a sentence names."""


def least(job: FineTuneJob) -> int:
    """Fewest nodes that the training may run on."""
    return job.spec.training.min_nodes or job.spec.training.nodes


def missing(run: StageRun) -> tuple[str, ...]:
    """The pods that have not started, each with the reason."""
    waiting = [_why(worker) for worker in run.workers if worker.state == "Pending"]
    known = {worker.rank for worker in run.workers}
    absent = [rank for rank in range(run.nodes) if rank not in known]
    why = run.warning or "not created yet"
    return (*waiting, *(f"worker {rank} has no pod ({why})" for rank in absent))


def _why(worker: Worker) -> str:
    reason = ": ".join(filter(None, (worker.reason, worker.message)))
    return f"{worker.name} ({reason or f'starting on node {worker.node}'})"


def told(run: StageRun) -> str:
    """Who is missing, in one sentence."""
    names = missing(run)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    words = "; ".join(name[:400] for name in names[:NAMED])[:1400] + more
    known = run.unplaced.partition(": ")[2] in words  # the scheduler tells a group's pods too
    return words if known else f"{words}; their PodGroup: {run.unplaced[:400]}"


def late(job: FineTuneJob, run: StageRun, now: datetime) -> bool:
    """Whether the pods of this attempt had long enough to start. Waiting in a queue does not count."""
    seconds = job.spec.training.start_deadline_seconds
    elastic = least(job) < job.spec.training.nodes
    if run.stage != "train" or run.started is None or (seconds is None and not elastic):
        return False
    patience = ELASTIC_PATIENCE if seconds is None else timedelta(seconds=seconds)
    # Who told of progress was whole once: a pod that is gone since is for its Job to judge.
    begun = run.progress is not None or run.told_step > 0
    waiting = run.state in ("Pending", "Running") and not (run.suspended or begun)
    return waiting and bool(missing(run)) and now >= run.started + patience


def fewer(job: FineTuneJob, run: StageRun) -> int | None:
    """Nodes of the next attempt when this one waits in vain; None where too few pods can run."""
    able = sum(bool(worker.node) and worker.reason not in BLOCKING for worker in run.workers)
    sizes = range(min(able, run.nodes - 1), least(job) - 1, -1)
    return next((size for size in sizes if divides(job, size)), None)


def divides(job: FineTuneJob, nodes: int) -> bool:
    """Whether so many nodes share the effective batch evenly: it stays what the job says."""
    training, groups = job.spec.training, nodes * groups_per_node(job.spec)
    share, rest = divmod(training.batch_size, groups)
    return not rest and (training.micro_batch_size is None or not share % training.micro_batch_size)


def refusal(job: FineTuneJob) -> Diagnosis | None:
    """Why the job could never shrink to minNodes, with the numbers."""
    training, nodes = job.spec.training, least(job)
    if nodes == training.nodes or divides(job, nodes):
        return None
    local = groups_per_node(job.spec)
    size, micro = training.tensor_parallel_size, training.micro_batch_size
    who = "processes" if size == 1 else f"groups of {size} processes"
    rows = "" if micro is None else f" of microBatchSize {micro}"
    sizes = [str(size) for size in range(1, training.nodes) if divides(job, size)]
    change = f"write training.minNodes: {' or '.join(sizes)}" if sizes else "drop training.minNodes"
    return Diagnosis(
        cause=f"training.minNodes is {nodes}, and {nodes * local} {who}{rows} do not divide "
        f"batchSize {training.batch_size}",
        evidence="spec.training.minNodes",
        next_step=f"{change}, or another batchSize, in a job with a new name",
    )


def silent(run: StageRun, now: datetime) -> str:
    """That a whole gang runs and says nothing: it may not meet. Empty where there is no sign of that."""
    begun = [worker.started for worker in run.workers if worker.started is not None]
    whole = run.nodes > 1 and run.state == "Running" and len(begun) == run.nodes
    if not whole or run.progress is not None or now < max(begun) + MEETING:
        return ""
    return (
        f"attempt {run.attempt}: all {run.nodes} workers run, and none has told progress since "
        f"{timestamp(max(begun))}: they may not reach each other (TCP port {RENDEZVOUS_PORT}), or the "
        f"operator not them (TCP port {PORT}); look at the NetworkPolicies and at {run.workers[0].log}"
    )


def given_up(job: FineTuneJob, run: StageRun) -> Diagnosis:
    """The job ends because its pods did not start in time."""
    seconds = job.spec.training.start_deadline_seconds
    count = len(missing(run))
    worker = next((w for w in run.workers if w.state == "Pending"), None)
    step = BLOCKING.get(worker.reason, "") if worker else BLOCKING["FailedCreate"]
    name = f"{job.metadata.name}-{run.stage}-{run.attempt}"
    advice = step.format(pod=worker.name if worker else "", job=name)
    return Diagnosis(
        cause=f"{count} of {run.nodes} workers of {run.stage} did not start within {seconds} seconds: "
        f"{told(run)}"[:2048],
        evidence="spec.training.startDeadlineSeconds",
        tried="its pods were stopped; checkpoints are kept",
        next_step=f"{advice or 'read the events: kubectl describe job ' + name}, then apply the job "
        "under a new name, with a higher startDeadlineSeconds or with minNodes"[:2048],
    )


def reduced(job: FineTuneJob, seen: Observed, run: StageRun) -> str:
    """That and why this attempt has fewer nodes than the job asks for; empty when it has all."""
    wanted = job.spec.training.nodes
    if run.stage != "train" or not 0 < run.nodes < wanted:
        return ""
    since = f" since {timestamp(run.started)}" if run.started else ""
    words = f"attempt {run.attempt} trains on {run.nodes} of {wanted} nodes{since}"
    known = next((stage.reduced for stage in job.status.stages if stage.name == run.stage), "")
    same = known.startswith(f"attempt {run.attempt} trains on")
    if same and (why := known.partition(" nodes")[2].partition(": ")[2]):
        return (
            f"{words}: {why}"  # told while those pods were there: what is left of them tells less
        )
    before = next(
        (r for r in seen.runs if (r.stage, r.attempt) == (run.stage, run.attempt - 1)), None
    )
    waits = before is not None and before.state not in ("Succeeded", "Failed")
    return f"{words}: {told(before)}" if before is not None and waits else words
