"""observe(job) -> Observed: a frozen snapshot out of the cache, of everything a decision may rest on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import ANNOTATION_SPEC, LABEL_ATTEMPT, LABEL_ENDPOINT, LABEL_JOB, LABEL_STAGE
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.api.modelversion import ModelVersion
from oikyo.api.stages import AnyStageSpec, RunSpec, ServeSpec, StageProgress

from . import pods
from .cache import Cache
from .kinds import (
    CLAIMS,
    DEPLOYMENTS,
    JOBS,
    MODEL_ENDPOINTS,
    MODEL_VERSIONS,
    POD_GROUPS,
    PODS,
    VOLCANO_GROUPS,
    Kind,
    Object,
)
from .manifests.group import ANNOTATION as GROUP_NAME
from .observed import Claim, EndpointObserved, GroupApi, Observed, StageRun, StageState, Worker
from .resolve import claim_name, claims_of

ReadProgress = Callable[[Object], Awaitable[StageProgress | None]]
_SPEC: TypeAdapter[RunSpec | ServeSpec] = TypeAdapter(AnyStageSpec)


async def observe(job: FineTuneJob, cache: Cache, read: ReadProgress, image: str) -> Observed:
    """Everything about one job. `image` stands in until a pod tells the image by digest."""
    namespace = job.metadata.namespace
    every = _pods_of_job(job, cache)
    runs = [await _run(item, cache, every, read) for item in stage_jobs(job, cache)]
    versions = _of_model(cache, MODEL_VERSIONS, namespace, job.model_name, ModelVersion)
    endpoints = _of_model(cache, MODEL_ENDPOINTS, namespace, job.model_name, ModelEndpoint)
    told = [pods.image(pod) for pod in every]
    return Observed(
        runs=tuple(sorted(runs, key=lambda run: (run.stage, run.attempt))),
        workspace=_claim(cache, namespace, claim_name(job)),
        missing=tuple(_missing(job, cache)),
        version=next((v for v in versions if v.spec.lineage.job_uid == job.metadata.uid), None),
        versions=tuple(versions),
        endpoint=next(iter(endpoints), None),
        image=next((name for name in told if name), image),
    )


def stage_jobs(job: FineTuneJob, cache: Cache) -> list[Object]:
    """The stage Jobs that this very FineTuneJob owns: an earlier one of the same name had another uid."""
    found = cache.labelled(JOBS, job.metadata.namespace, LABEL_JOB, job.metadata.name)
    return [item for item in found if owned_by(item, job.metadata.uid)]


def owned_by(item: Object, uid: str) -> bool:
    return any(o.get("uid") == uid for o in item["metadata"].get("ownerReferences", ()))


def ended(item: Object) -> Object | None:
    """The condition that says that a Job's verdict stands, if it does."""
    conditions = item.get("status", {}).get("conditions", ())
    true = {c["type"]: c for c in conditions if c.get("status") == "True"}
    # FailureTarget comes as soon as the verdict is known, Failed only when the last pod is gone.
    return next((true[t] for t in ("Complete", "Failed", "FailureTarget") if t in true), None)


def unexplained(item: Object, cache: Cache) -> bool:
    """Whether a Job has ended while the cache holds no ended pod of rank 0 yet: two watches race."""
    if ended(item) is None:
        return False
    found = _workers(item, pods_of(item, cache), cache)
    return not any(w.rank == 0 and w.state in ("Succeeded", "Failed") for w in found)


def _pods_of_job(job: FineTuneJob, cache: Cache) -> list[Object]:
    return cache.labelled(PODS, job.metadata.namespace, LABEL_JOB, job.metadata.name)


def pods_of(item: Object, cache: Cache) -> list[Object]:
    metadata = item["metadata"]
    job = metadata["labels"][LABEL_JOB]
    return cache.labelled(PODS, metadata["namespace"], LABEL_JOB, job)


def _workers(item: Object, every: list[Object], cache: Cache) -> tuple[Worker, ...]:
    """The newest pod of each rank; one that was deleted speaks where none came after it."""
    uid = item["metadata"]["uid"]
    # Those that are gone first: of two that were made within one second the later is there.
    own = [pods.departed(pod) for pod in cache.departed(uid)]
    own += [pod for pod in every if owned_by(pod, uid)]
    own.sort(key=lambda p: (pods.rank(p), p["metadata"].get("creationTimestamp", "")))
    newest = [list(group)[-1] for _, group in groupby(own, key=pods.rank)]
    return tuple(pods.worker(pod, cache.warning(pod["metadata"]["uid"])) for pod in newest)


async def _run(item: Object, cache: Cache, every: list[Object], read: ReadProgress) -> StageRun:
    labels = item["metadata"]["labels"]
    workers = _workers(item, every, cache)
    state = _state(item, workers)
    first = next((w for w in workers if w.rank == 0), None)
    warning = cache.warning(item["metadata"]["uid"])
    return StageRun(
        stage=labels[LABEL_STAGE],
        attempt=int(labels[LABEL_ATTEMPT]),
        state=state,
        workers=workers,
        progress=await _progress(first, every, read) if state == "Running" else None,
        words=first.words if first else None,
        started=_time(item.get("status", {}).get("startTime")),
        finished=_finished(item),
        warning=f"{warning['reason']}: {warning['message']}" if warning else "",
        spec_digest=_digest(_annotation(item)),
        nodes=item.get("spec", {}).get("completions", 1),
        suspended=bool(item.get("spec", {}).get("suspend")),
        group=_group_api(item),
        unplaced=_unplaced(item, workers, cache),
    )


def group_kind(item: Object) -> Kind | None:
    """The kind of the PodGroup that a Job's pods name."""
    template = item.get("spec", {}).get("template", {})
    if "schedulingGroup" in template.get("spec", {}):
        return POD_GROUPS
    named = GROUP_NAME in template.get("metadata", {}).get("annotations", {})
    return VOLCANO_GROUPS if named else None


def _group_api(item: Object) -> GroupApi | None:
    kind = group_kind(item)
    if kind is None:
        return None
    return "Kubernetes" if kind is POD_GROUPS else "Volcano"


def _unplaced(item: Object, workers: tuple[Worker, ...], cache: Cache) -> str:
    """What the scheduler says of a group that it cannot place; each API in its own words."""
    kind, metadata = group_kind(item), item["metadata"]
    found = None if kind is None else cache.get(kind, metadata["namespace"], metadata["name"])
    placed = sum(bool(worker.node) for worker in workers)
    if found is None or placed >= item["spec"].get("completions", 1):
        return ""
    no = _refusal({c["type"]: c for c in found.get("status", {}).get("conditions", ())})
    return f"{no.get('reason', '')}: {no.get('message', '')}" if no else ""


def _refusal(told: dict[str, Object]) -> Object | None:
    """The condition of a PodGroup that says no, if it still stands."""
    first = told.get("PodGroupInitiallyScheduled", {})
    if first.get("status") == "False":
        return first
    no, yes = told.get("Unschedulable", {}), told.get("Scheduled", {})
    # Volcano never takes the one back, but writes the other beside it: the later stands.
    later = yes.get("lastTransitionTime", "") >= no.get("lastTransitionTime", "")
    over = yes.get("status") == "True" and later
    return no if no.get("status") == "True" and not over else None


async def _progress(
    worker: Worker | None, every: list[Object], read: ReadProgress
) -> StageProgress | None:
    if worker is None or worker.state != "Running":
        return None
    pod = next(pod for pod in every if pod["metadata"]["name"] == worker.name)
    return await read(pod)


def _state(item: Object, workers: tuple[Worker, ...]) -> StageState:
    verdict = ended(item)
    if verdict is not None:
        return "Succeeded" if verdict["type"] == "Complete" else "Failed"
    # Of a Job that its queue took back, the last states of pods are all that is left.
    held = item.get("spec", {}).get("suspend")
    waits = ("Pending", "Succeeded", "Failed") if held else ("Pending",)
    return "Pending" if all(worker.state in waits for worker in workers) else "Running"


def _finished(item: Object) -> datetime | None:
    verdict = ended(item)
    if verdict is None:
        return None
    return _time(item["status"].get("completionTime") or verdict.get("lastTransitionTime"))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _annotation(item: Object) -> str:
    metadata = item.get("spec", {}).get("template", {}).get("metadata", {})
    return str(metadata.get("annotations", {}).get(ANNOTATION_SPEC, ""))


@lru_cache(maxsize=4096)
def _digest(text: str) -> str:
    try:
        spec = _SPEC.validate_json(text)
    except ValidationError:
        return ""
    return spec.input_digest() if isinstance(spec, RunSpec) else ""


def _claim(cache: Cache, namespace: str, name: str) -> Claim | None:
    item = cache.get(CLAIMS, namespace, name)
    if item is None or "deletionTimestamp" in item["metadata"]:
        return None
    status = item.get("status", {})
    modes = status.get("accessModes") or item.get("spec", {}).get("accessModes", ())
    return Claim(name, status.get("phase", "Pending"), tuple(modes))


def _missing(job: FineTuneJob, cache: Cache) -> list[str]:
    """Claims that sources name and that do not exist. The workspace's own claim is the decision's."""
    namespace = job.metadata.namespace
    named = [name for name in claims_of(job.spec) if name != claim_name(job)]
    return [
        f"PersistentVolumeClaim {name} does not exist in namespace {namespace}"
        for name in named
        if _claim(cache, namespace, name) is None
    ]


Parsed = TypeVar("Parsed", ModelVersion, ModelEndpoint)


def _of_model(
    cache: Cache, kind: Kind, namespace: str, model: str, to: type[Parsed]
) -> list[Parsed]:
    """Objects about one model, oldest first; what does not parse is not there."""
    found: list[Parsed] = []
    for item in cache.snapshot(kind, namespace):
        if item.get("spec", {}).get("model") != model or "deletionTimestamp" in item["metadata"]:
            continue
        try:
            found.append(to.model_validate(item))
        except ValidationError:
            continue
    return sorted(found, key=lambda item: item.metadata.creation_timestamp or "")


def observe_endpoint(endpoint: ModelEndpoint, cache: Cache) -> EndpointObserved:
    """Everything about one endpoint."""
    namespace, name = endpoint.metadata.namespace, endpoint.metadata.name
    models = dict.fromkeys((endpoint.spec.model, *(a.of_model for a in endpoint.spec.adapters)))
    versions = [
        version
        for model in models
        for version in _of_model(cache, MODEL_VERSIONS, namespace, model, ModelVersion)
    ]
    deployment = cache.get(DEPLOYMENTS, namespace, name)
    if deployment is None or not owned_by(deployment, endpoint.metadata.uid):
        return EndpointObserved(versions=tuple(versions))
    status = deployment.get("status", {})
    return EndpointObserved(
        versions=tuple(versions),
        replicas=status.get("replicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        updated_replicas=status.get("updatedReplicas", 0),
        served=_served(_annotation(deployment)),
        rolled_out=_rolled_out(deployment),
        trouble=_trouble(endpoint, cache),
    )


@lru_cache(maxsize=1024)
def _served(text: str) -> ServeSpec | None:
    try:
        return ServeSpec.model_validate_json(text)
    except ValidationError:
        return None


def _rolled_out(deployment: Object) -> bool:
    """As `kubectl rollout status` judges it."""
    status, spec = deployment.get("status", {}), deployment.get("spec", {})
    wanted = spec.get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
        and updated >= wanted
        and status.get("replicas", 0) == updated
        and status.get("availableReplicas", 0) >= wanted
    )


def _trouble(endpoint: ModelEndpoint, cache: Cache) -> str:
    found = cache.labelled(
        PODS, endpoint.metadata.namespace, LABEL_ENDPOINT, endpoint.metadata.name
    )
    alive = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    # The newest pod speaks for the newest template.
    alive.sort(key=lambda p: p["metadata"].get("creationTimestamp", ""), reverse=True)
    told = (pods.trouble(pod, cache.warning(pod["metadata"]["uid"])) for pod in alive)
    return next((sentence for sentence in told if sentence), "")
