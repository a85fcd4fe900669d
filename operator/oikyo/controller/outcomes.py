"""What the stages came to, as conditions of the job: one sentence each for people. Pure."""

from __future__ import annotations

from datetime import datetime

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.stages import RUN_STAGES, PrepareResult, TrainResult

from . import reasons, report
from .conditions import STAGE_CONDITION, Conditions, holds
from .observed import Observed

SAME_VERSION = "; the version is the one that an earlier job wrote"


def conditions_of(job: FineTuneJob, seen: Observed, now: datetime) -> Conditions:
    """All conditions, as far as the results of the stages tell."""
    conditions = Conditions(job.status.conditions, job.metadata.generation, now)
    conditions.set("Reconciling", "False", reasons.PROGRESSING)
    conditions.set("Stalled", "False", reasons.PROGRESSING)
    conditions.set("Suspended", "False", reasons.ACTIVE)
    for stage in RUN_STAGES:
        result = report.result_of(seen, stage)
        if result is not None:
            conditions.set(STAGE_CONDITION[stage], "True", reasons.DONE, _told(job, seen, result))
        elif holds(job.status.conditions, STAGE_CONDITION[stage]) or seen.version is not None:
            conditions.set(
                STAGE_CONDITION[stage], "True", reasons.DONE, "done by an earlier attempt"
            )
        else:
            conditions.set(STAGE_CONDITION[stage], "Unknown", reasons.WAITING)
    conditions.set("Released", "Unknown", reasons.WAITING)
    conditions.set("Succeeded", "Unknown", reasons.PROGRESSING)
    return conditions


def _synthetic(result: PrepareResult) -> str:
    return f" ({result.synthetic} synthetic)" if result.synthetic else ""


def _told(job: FineTuneJob, seen: Observed, result: report.Result) -> str:
    if isinstance(result, PrepareResult):
        return (
            f"{result.train} training{_synthetic(result)}, {result.validation} validation and {result.test} test rows; "
            f"{result.duplicates} duplicates, {result.leaked} leaked and {result.bad_rows} bad rows dropped"
            f"{_cleaned(result)}{_warnings(result)}{SAME_VERSION if result.unchanged else ''}"
        )
    if isinstance(result, TrainResult):
        values = ", ".join(f"{metric.name} {metric.value}" for metric in result.metrics[:4])
        steps = f"{result.steps} of {result.total_steps} steps, best at {result.best_step}"
        rolled_back = [note for note in result.notes if note.startswith("diverged ")]
        return "; ".join(filter(None, (steps, values, *rolled_back, result.curve)))
    return report.verdict_sentence(job, seen, result.accepted)


def _cleaned(result: PrepareResult) -> str:
    """What the steps that were asked for did; the others are told by their own counts."""
    steps = [one for one in result.cleaned if one.name not in ("duplicates", "leaked")]
    told = [
        f"{one.name} "
        + " and ".join(
            f"{what} {count}"
            for what, count in (("changed", one.changed), ("dropped", one.dropped))
            if count
        )
        for one in steps
    ]
    return f"; cleaned: {', '.join(told)}" if told else ""


def _warnings(result: PrepareResult) -> str:
    told = [f"{f.count} {f.code}" for f in result.findings if f.severity == "Warning"]
    return f"; look at {', '.join(told)}" if told else ""
