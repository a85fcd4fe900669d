"""Reports of what the hands, not the brain, run into: a stored spec that no longer reads, a refused write. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.meta import Condition, Diagnosis
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointStatus

from . import reasons
from .conditions import timestamp
from .kinds import FINE_TUNE_JOBS, Kind
from .observed import Event

Status = FineTuneJobStatus | ModelEndpointStatus


def sentence(error: ValidationError) -> str:
    """The first error of a spec in words: where, what, and what was expected."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    value = first.get("input")
    told = f" (it is {value!r})" if isinstance(value, str | int | float | bool) else ""
    return f"{where}{told[:200]}: {first['msg']}"


def invalid(
    kind: Kind, item: dict[str, Any], error: ValidationError, now: datetime
) -> dict[str, Any]:
    """The status of an object of `kind` whose stored spec breaks a rule of this version."""
    words = sentence(error)
    name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
    edit = f"kubectl edit {kind.plural} {name} -n {namespace}"
    status: dict[str, Any] = dict(item.get("status", {}))
    last = {c["type"]: c for c in status.get("conditions", ())}
    generation = item["metadata"].get("generation", 1)
    stalled = _stalled(last.get("Stalled"), reasons.INVALID_SPEC, words, generation, now)
    last["Stalled"] = stalled
    phase = {"phase": status.get("phase", "Pending")} if kind is FINE_TUNE_JOBS else {}
    return {
        **status,
        **phase,
        "observedGeneration": generation,
        "conditions": list(last.values()),
        "diagnosis": {
            "cause": words,
            "evidence": "spec",
            "tried": "",
            "nextStep": f"correct it: {edit}, or apply it under a new name",
        },
    }


def _stalled(
    last: dict[str, Any] | None, reason: str, message: str, generation: int, now: datetime
) -> dict[str, Any]:
    since = last["lastTransitionTime"] if last and last["status"] == "True" else timestamp(now)
    return Condition(
        type="Stalled",
        status="True",
        reason=reason,
        message=message[:2048],
        last_transition_time=since,
        observed_generation=generation,
    ).wire()


def refused(
    of: FineTuneJob | ModelEndpoint, status: Status, error: Exception, now: datetime
) -> Status:
    """`status`, decided for `of`, with the API server's refusal as the reason why nothing moves."""
    words = str(error)[:1500]
    last = next((c.wire() for c in of.status.conditions if c.type == "Stalled"), None)
    stalled = Condition.model_validate(
        _stalled(last, reasons.REQUEST_REFUSED, words, of.metadata.generation, now)
    )
    others = [c for c in status.conditions if c.type != "Stalled"]
    diagnosis = Diagnosis(
        cause=words,
        evidence="the API server's answer to the controller",
        tried="the request is repeated, at most once a minute",
        next_step=f"kubectl get events,resourcequota -n {of.metadata.namespace}",
    )
    update = {"conditions": (*others[:1], stalled, *others[1:]), "diagnosis": diagnosis}
    return status.model_copy(update=update)


def event(status: dict[str, Any]) -> Event:
    """The Warning for such a report, with the next command to run."""
    stalled = next(c for c in status["conditions"] if c["type"] == "Stalled")
    step = status["diagnosis"]["nextStep"]
    return Event("Warning", stalled["reason"], f"{stalled['message']} Next: {step}")
