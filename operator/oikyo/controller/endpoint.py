"""decide_endpoint(endpoint, observed, now) -> EndpointDecision: which versions must be served. Pure.

An adapter that cannot be served changes nothing that runs: what served before goes on until the spec or
the versions fit again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from oikyo.api.endpointadapters import ServedAdapter
from oikyo.api.meta import LABEL_ENDPOINT, Diagnosis
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointStatus
from oikyo.api.modelversion import ModelVersion
from oikyo.api.stages import ServeSpec

from . import reasons
from .conditions import Conditions, find, holds, timestamp
from .observed import EndpointDecision, EndpointObserved, Event, ServerPlan
from .policies.adapters import Unfit, serve_spec

ORDER = ("Reconciling", "Stalled", "Ready")
PATIENCE = timedelta(seconds=15)


def decide_endpoint(
    endpoint: ModelEndpoint, seen: EndpointObserved, now: datetime
) -> EndpointDecision:
    """What must serve next, and whether it answers."""
    chosen = _choose(endpoint, seen)
    conditions = Conditions(endpoint.status.conditions, endpoint.metadata.generation, now)
    if isinstance(chosen, Unfit):
        return _without(endpoint, seen, conditions, chosen, now)
    wanted = serve_spec(endpoint.spec, chosen, seen.versions)
    if isinstance(wanted, Unfit):
        return _without(endpoint, seen, conditions, wanted, now, keep=seen.served is not None)
    plan = ServerPlan(wanted, chosen.spec.storage.claim_name, endpoint.spec)
    ready = seen.served == wanted and seen.rolled_out and seen.ready_replicas > 0
    diagnosis = _trouble(endpoint, seen) if not ready else None
    _judge(conditions, endpoint, seen, wanted, ready, diagnosis)
    status = _status(endpoint, seen, conditions, now, diagnosis)
    told = _events(endpoint, status, diagnosis)
    return EndpointDecision(plan, status, told, None if ready else PATIENCE)


def _choose(endpoint: ModelEndpoint, seen: EndpointObserved) -> ModelVersion | Unfit:
    """The version to serve, or why there is none."""
    model, field = endpoint.spec.model, "spec.version"
    versions = [version for version in seen.versions if version.spec.model == model]
    if endpoint.spec.version_policy == "Pinned":
        wanted = endpoint.spec.version
        found = next((v for v in versions if v.spec.version == wanted), None)
        if found is None:
            message = f"ModelVersion {wanted} of {model} does not exist"
            return Unfit(reasons.VERSION_MISSING, message, field)
        if found.spec.verdict != "Accepted":
            message = f"ModelVersion {wanted} of {model} failed its gates"
            return Unfit(reasons.VERSION_REJECTED, message, field)
        return found
    accepted = [v for v in versions if v.spec.verdict == "Accepted"]
    if not accepted:
        message = f"no version of {model} has passed its gates yet"
        return Unfit(reasons.NO_ACCEPTED_VERSION, message, field)
    return max(accepted, key=lambda version: version.spec.version)


def _without(
    endpoint: ModelEndpoint,
    seen: EndpointObserved,
    conditions: Conditions,
    unfit: Unfit,
    now: datetime,
    keep: bool = False,
) -> EndpointDecision:
    """What the spec asks for may not be served: what runs goes, or stays as it was."""
    wrong = unfit.reason != reasons.NO_ACCEPTED_VERSION
    conditions.set("Reconciling", "False", unfit.reason)
    conditions.set("Stalled", "True" if wrong else "False", unfit.reason, unfit.message)
    conditions.set("Ready", "False", unfit.reason, unfit.message)
    step = unfit.next_step or f"kubectl get mv -n {endpoint.metadata.namespace}"
    kept = "what served before goes on serving" if keep else ""
    diagnosis = (
        Diagnosis(cause=unfit.message, evidence=unfit.field, tried=kept, next_step=step)
        if wrong
        else None
    )
    status = _status(endpoint, seen, conditions, now, diagnosis)
    if not keep:
        gone = {"version": None, "adapters": (), "url": None, "last_rollout_time": None}
        status = status.model_copy(update=gone)
    return EndpointDecision(None, status, _events(endpoint, status, diagnosis), keep=keep)


def _adapters(number: int) -> str:
    return "1 adapter" if number == 1 else f"{number} adapters"


def _trouble(endpoint: ModelEndpoint, seen: EndpointObserved) -> Diagnosis | None:
    if not seen.trouble:
        return None
    selector = f"-l {LABEL_ENDPOINT}={endpoint.metadata.name} -n {endpoint.metadata.namespace}"
    return Diagnosis(
        cause=seen.trouble,
        evidence=f"pods {selector}",
        tried="the version that served before goes on serving",
        next_step=f"kubectl describe pods {selector}",
    )


def _judge(
    conditions: Conditions,
    endpoint: ModelEndpoint,
    seen: EndpointObserved,
    wanted: ServeSpec,
    ready: bool,
    diagnosis: Diagnosis | None,
) -> None:
    number = wanted.version
    beside = f" with {_adapters(len(wanted.adapters))}" if wanted.adapters else ""
    rolling = f"version {number}{beside} is rolling out; {seen.ready_replicas} pods answer"
    conditions.set("Reconciling", "False" if ready else "True", reasons.ROLLING_OUT)
    if diagnosis is not None:
        conditions.set("Stalled", "True", reasons.POD_FAILING, diagnosis.cause)
    else:
        conditions.set("Stalled", "False", reasons.PROGRESSING)
    if ready:
        conditions.set(
            "Ready",
            "True",
            reasons.SERVING,
            f"version {number} of {endpoint.spec.model}{beside} answers",
        )
    else:
        reason = reasons.POD_FAILING if diagnosis else reasons.ROLLING_OUT
        conditions.set("Ready", "False", reason, diagnosis.cause if diagnosis else rolling)


def _status(
    endpoint: ModelEndpoint,
    seen: EndpointObserved,
    conditions: Conditions,
    now: datetime,
    diagnosis: Diagnosis | None,
) -> ModelEndpointStatus:
    last, told = endpoint.status, seen.served
    version = told.version if told else None
    beside = told.adapters if told else ()
    adapters = tuple(ServedAdapter(name=one.name, version=one.version) for one in beside)
    changed = told is not None and (last.version, last.adapters) != (version, adapters)
    return ModelEndpointStatus(
        observed_generation=endpoint.metadata.generation,
        conditions=conditions.tuple(ORDER),
        version=version,
        adapters=adapters,
        replicas=seen.replicas,
        ready_replicas=seen.ready_replicas,
        selector=f"{LABEL_ENDPOINT}={endpoint.metadata.name}",
        url=f"http://{endpoint.metadata.name}.{endpoint.metadata.namespace}.svc",
        last_rollout_time=timestamp(now) if changed else last.last_rollout_time,
        diagnosis=diagnosis,
    )


def _events(
    endpoint: ModelEndpoint, new: ModelEndpointStatus, diagnosis: Diagnosis | None
) -> tuple[Event, ...]:
    old = endpoint.status.conditions
    if holds(new.conditions, "Ready") and not holds(old, "Ready"):
        return (Event("Normal", reasons.SERVING, f"version {new.version} answers at {new.url}"),)
    stalled = find(new.conditions, "Stalled")
    if diagnosis and stalled and not holds(old, "Stalled"):
        step = f" Next: {diagnosis.next_step}"
        return (Event("Warning", stalled.reason, diagnosis.cause + step),)
    return ()
