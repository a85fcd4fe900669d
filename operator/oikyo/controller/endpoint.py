"""decide_endpoint(endpoint, observed, now) -> EndpointDecision: which version must be served. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from oikyo.api.meta import LABEL_ENDPOINT, Diagnosis
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointStatus
from oikyo.api.modelversion import ModelVersion
from oikyo.api.stages import ServeSpec

from . import reasons
from .conditions import Conditions, holds, timestamp
from .observed import EndpointDecision, EndpointObserved, Event, ServerPlan

ORDER = ("Reconciling", "Stalled", "Ready")
PATIENCE = timedelta(seconds=15)


def decide_endpoint(
    endpoint: ModelEndpoint, seen: EndpointObserved, now: datetime
) -> EndpointDecision:
    """What must serve next, and whether it answers."""
    chosen = _choose(endpoint, seen)
    conditions = Conditions(endpoint.status.conditions, endpoint.metadata.generation, now)
    if isinstance(chosen, tuple):
        return _without(endpoint, seen, conditions, *chosen)
    plan = ServerPlan(_serve_spec(chosen), chosen.spec.storage.claim_name, endpoint.spec)
    current = seen.served_version == chosen.spec.version
    ready = current and seen.rolled_out and seen.ready_replicas > 0
    diagnosis = _trouble(endpoint, seen) if not ready else None
    _judge(conditions, endpoint, seen, chosen, ready, diagnosis)
    status = _status(endpoint, seen, conditions, chosen, now, diagnosis)
    told = _events(endpoint, status, diagnosis)
    return EndpointDecision(plan, status, told, None if ready else PATIENCE)


def _choose(endpoint: ModelEndpoint, seen: EndpointObserved) -> ModelVersion | tuple[str, str]:
    """The version to serve, or (reason, sentence) why there is none."""
    model = endpoint.spec.model
    if endpoint.spec.version_policy == "Pinned":
        wanted = endpoint.spec.version
        found = next((v for v in seen.versions if v.spec.version == wanted), None)
        if found is None:
            return reasons.VERSION_MISSING, f"ModelVersion {wanted} of {model} does not exist"
        if found.spec.verdict != "Accepted":
            return reasons.VERSION_REJECTED, f"ModelVersion {wanted} of {model} failed its gates"
        return found
    accepted = [v for v in seen.versions if v.spec.verdict == "Accepted"]
    if not accepted:
        return reasons.NO_ACCEPTED_VERSION, f"no version of {model} has passed its gates yet"
    return max(accepted, key=lambda version: version.spec.version)


def _serve_spec(version: ModelVersion) -> ServeSpec:
    record = version.spec
    return ServeSpec(
        model_name=record.model, version=record.version, task=record.task, path=record.storage.path
    )


def _without(
    endpoint: ModelEndpoint,
    seen: EndpointObserved,
    conditions: Conditions,
    reason: str,
    message: str,
) -> EndpointDecision:
    """Nothing may be served: what runs goes."""
    wrong = reason != reasons.NO_ACCEPTED_VERSION
    conditions.set("Reconciling", "False", reason)
    conditions.set("Stalled", "True" if wrong else "False", reason, message)
    conditions.set("Ready", "False", reason, message)
    step = f"kubectl get mv -n {endpoint.metadata.namespace}"
    diagnosis = Diagnosis(cause=message, evidence="spec.version", next_step=step) if wrong else None
    status = ModelEndpointStatus(
        observed_generation=endpoint.metadata.generation,
        conditions=conditions.tuple(ORDER),
        replicas=seen.replicas,
        ready_replicas=seen.ready_replicas,
        selector=f"{LABEL_ENDPOINT}={endpoint.metadata.name}",
        diagnosis=diagnosis,
    )
    return EndpointDecision(None, status, _events(endpoint, status, diagnosis))


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
    chosen: ModelVersion,
    ready: bool,
    diagnosis: Diagnosis | None,
) -> None:
    number = chosen.spec.version
    rolling = f"version {number} is rolling out; {seen.ready_replicas} pods answer"
    conditions.set("Reconciling", "False" if ready else "True", reasons.ROLLING_OUT)
    if diagnosis is not None:
        conditions.set("Stalled", "True", reasons.POD_FAILING, diagnosis.cause)
    else:
        conditions.set("Stalled", "False", reasons.PROGRESSING)
    if ready:
        conditions.set(
            "Ready", "True", reasons.SERVING, f"version {number} of {endpoint.spec.model} answers"
        )
    else:
        reason = reasons.POD_FAILING if diagnosis else reasons.ROLLING_OUT
        conditions.set("Ready", "False", reason, diagnosis.cause if diagnosis else rolling)


def _status(
    endpoint: ModelEndpoint,
    seen: EndpointObserved,
    conditions: Conditions,
    chosen: ModelVersion,
    now: datetime,
    diagnosis: Diagnosis | None,
) -> ModelEndpointStatus:
    last = endpoint.status
    changed = last.version != seen.served_version and seen.served_version is not None
    return ModelEndpointStatus(
        observed_generation=endpoint.metadata.generation,
        conditions=conditions.tuple(ORDER),
        version=seen.served_version,
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
    if diagnosis and not holds(old, "Stalled"):
        step = f" Next: {diagnosis.next_step}"
        return (Event("Warning", reasons.POD_FAILING, diagnosis.cause + step),)
    return ()
