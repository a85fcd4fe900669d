"""What the attempts of a stage have cost: which count against spec.backoffLimit, and how far they got.

An attempt is judged by what its pods said last and by what it told while it ran. Pods go (a lost node,
a collected Job, an operator that starts anew), so the verdict on all but the newest is in the status.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import StageStatus
from oikyo.api.stages import Failure

from ..observed import Observed, StageRun, Worker
from . import relief

TAKEN = {
    "Evicted": "was evicted from",
    "Preempted": "was preempted on",
    "NodeLost": "was lost with",
    "NodeShutdown": "was ended by the shutdown of",
    "DisruptionTarget": "was taken away from",
}
"""Reasons that say that the machine took the worker away, and what it did, before the node's name."""
STOPPED = frozenset({"Terminated", "Stopped"})
"""It was stopped: by whoever deleted it, or by its Job when another worker has failed by itself."""
DISRUPTIONS = STOPPED | TAKEN.keys()
"""The worker did nothing wrong."""
LINGER = timedelta(seconds=30)
"""How much longer than its grace a deleted pod may take to end."""
DIGITS = 15
"""More than any step has."""


@dataclass(frozen=True)
class Tally:
    """What attempts of a stage have cost, and how far they got."""

    failures: int
    """Those that count against backoffLimit: failed, neither disrupted nor further than any before."""
    step: int
    """Of their newest checkpoint, or 0."""


def of_stage(seen: Observed, stage: str) -> tuple[StageRun, ...]:
    """The attempts of one stage that exist, oldest first."""
    return tuple(sorted((r for r in seen.runs if r.stage == stage), key=lambda run: run.attempt))


def said(run: StageRun) -> Failure | None:
    """What the workers said about why: what a person must change before anything else."""
    own = [worker for worker in run.workers if by_itself(worker)]
    words = [*(w.words for w in own), run.words, *(w.words for w in run.workers)]
    failures = [word.failure for word in words if word is not None and word.failure is not None]
    if own:  # those that had to stop for it explain nothing
        failures = [failure for failure in failures if failure.reason not in DISRUPTIONS]
    refused = [failure for failure in failures if failure.kind == "Refused"]
    return next(iter(refused or failures), None)


def tally(job: FineTuneJob, seen: Observed, stage: str, before: int | None = None) -> Tally:
    """What the attempts of a stage cost, and how far they got; all but the newest if that is `before`.

    Attempts below the one that the status speaks of cost at most what they were judged to when the next
    one began: words that are gone accuse nobody, and a node that was lost excuses minutes later.
    """
    last = kept(job, stage) or StageStatus(name=stage, attempt=0, state="")
    relieves = stage == "train" and relief.first_plan(seen) is not None
    changed = frozenset(relief.starved(job, seen) if relieves else ())
    every = [run for run in of_stage(seen, stage) if run.attempt != before]
    earlier = [run for run in every if run.attempt < last.attempt]
    runs = [run for run in every if run.attempt >= last.attempt]
    again = _judge(earlier, Tally(0, 0), changed)
    gone = max(last.attempt - 1, 0) - len(earlier)  # with their Jobs: nothing excuses them any more
    count = min(last.earlier_failures or 0, again.failures + gone)
    step = max(last.earlier_step or 0, again.step)
    if before != last.attempt and last.attempt not in {run.attempt for run in runs}:
        step = max(step, last.checkpoint_step or 0)  # it was stopped, and its Job is gone
    return _judge(runs, Tally(count, step), changed)


def _judge(runs: Iterable[StageRun], so_far: Tally, changed: frozenset[int]) -> Tally:
    """`changed`: attempts that ran out of memory; the next is changed instead, as often as there are knobs."""
    failures, furthest = so_far.failures, so_far.step
    for run in runs:
        step = checkpoint(run)
        progressed, furthest = step > furthest, max(step, furthest)
        free = disrupted(run) or progressed or run.attempt in changed
        failures += run.state == "Failed" and not free
    return Tally(failures, furthest)


def checkpoint(run: StageRun) -> int:
    """Step of the newest checkpoint that an attempt is known to have committed, or 0."""
    said = (worker.checkpoint_step or 0 for worker in run.workers)
    return max(run.told_step, _reported(run), *said, 0)


def _reported(run: StageRun) -> int:
    """The same by its progress: text of a pod, which may be anything."""
    metrics = run.progress.metrics if run.progress is not None else ()
    told = next((one.value for one in metrics if one.name == "checkpoint_step"), "0")
    return int(told) if told.isdecimal() and len(told) < DIGITS else 0


def recall(job: FineTuneJob, seen: Observed, now: datetime) -> Observed:
    """`seen` with what the status keeps of newest attempts, whose pods and last words may be gone."""
    told = {(one.name, one.attempt): one for one in job.status.stages}
    runs = (_with(run, told.get((run.stage, run.attempt))) for run in seen.runs)
    return replace(seen, runs=tuple(_without_lost(run, now) for run in runs))


def _without_lost(run: StageRun, now: datetime) -> StageRun:
    """An attempt is over once nobody ends a deleted pod of it: its node is lost, and its Job waits for ever
    (kubernetes/enhancements 6262). Its number fences out what may still run there."""
    lost = [w.leaves for w in run.workers if w.leaves is not None and _stays(w, now)]
    if not lost or run.suspended or run.state in ("Succeeded", "Failed"):
        return run
    every = tuple(_as_lost(w) if _stays(w, now) else w for w in run.workers)
    return replace(run, state="Failed", workers=every, progress=None, finished=max(lost))


def _stays(worker: Worker, now: datetime) -> bool:
    alive = worker.state in ("Pending", "Running")
    return alive and worker.leaves is not None and now >= worker.leaves + LINGER


def _as_lost(worker: Worker) -> Worker:
    why = worker.message or "its kubelet did not end the deleted pod"
    reason = worker.reason if worker.reason in TAKEN else "NodeLost"
    return replace(worker, state="Failed", reason=reason, message=why)


def _with(run: StageRun, told: StageStatus | None) -> StageRun:
    if told is None:
        return run
    return replace(run, told_step=told.checkpoint_step or 0, excused=bool(told.excused))


def kept(job: FineTuneJob, stage: str) -> StageStatus | None:
    """What the status says of a stage."""
    return next((one for one in job.status.stages if one.name == stage), None)


def taken(run: StageRun) -> bool:
    """Whether the machine took a worker away: whatever is learned later, it is not the work that failed."""
    return run.excused or any(worker.reason in TAKEN for worker in run.workers)


def disrupted(run: StageRun) -> bool:
    """Whether the machine, not the work, ended this attempt."""
    if taken(run):
        return True
    failure = said(run)
    stopped = failure is not None and failure.reason in DISRUPTIONS
    away = any(worker.reason in DISRUPTIONS for worker in run.workers)
    return (stopped or away) and not any(by_itself(worker) for worker in run.workers)


def by_itself(worker: Worker) -> bool:
    """Whether nobody took this failed worker away: neither the machine, nor its Job for another's failure."""
    failure = worker.words.failure if worker.words is not None else None
    stopped = failure is not None and failure.reason in DISRUPTIONS
    return worker.state == "Failed" and worker.reason not in DISRUPTIONS and not stopped
